"""The page of measurements, written from what the benchmarks left: `python -m benchmarks.page`.

A test holds docs/reference/benchmarks.md against benchmarks/results/, so that no number stands
there that was not measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results", ROOT / "docs/reference/benchmarks.md"

HEAD = """\
# Measurements

Side by side with what one would otherwise use, in one run, as ratios with their spread; `make bench-NAME` measures them
again. Each section says what it was measured on. The machines were shared virtual ones, so seconds mean little and
ratios much.
"""

SECTIONS: dict[str, tuple[str, str]] = {
    "training": (
        "Training",
        "FLAN-T5-small's shape with random weights, a mixture of summaries, ratings, entities and code, fp32, AdamW, "
        "about 4,000 real tokens a step. Real tokens a second of ours over those of `Seq2SeqTrainer`; `gemm_fraction` "
        "is the share of what `F.linear` reaches on the same layers alone.",
    ),
    "accumulation": (
        "The same step, divided in several ways",
        "Loss and gradient over the right ones (1: right), for 16 examples at once, in four parts, by two processes.",
    ),
    "evaluation": (
        "Answering and scoring",
        "FLAN-T5-small's shape, 500 prompts, greedy, fp32: our loop over transformers' `generate`. `training_slowdown` "
        "is how much longer a step takes while another core answers.",
    ),
    "data": (
        "Data",
        "Generated dialogues of 150 to 250 words. `prepare_vs_encode_batch`: the processor time of bare `encode_batch` "
        "over that of the whole preparation (above 1: preparing takes less). `read_vs_step`: reading and packing a "
        "step's rows over that step. `epoch_vs_dataloader`: seconds of an epoch over those of a DataLoader on rows in "
        "memory that pads and neither plans nor packs.",
    ),
    "chaos": ("Kills at random", "A run that was disturbed over and over, against the same run left alone."),
    "operator": ("Operator", "Jobs on a real API server, KubeRay's controller switched off."),
    "gpu": (
        "GPU",
        "The training step on one CUDA device: real tokens a second and model FLOPs utilization, ours in several "
        "settings over transformers' own loop; and greedy answers over `generate`. One command, `python -m "
        "benchmarks.gpu --out benchmarks/results/gpu.json`, which needs torch, transformers and this repository, no "
        "Ray and no network; it goes on where it was cut off.",
    ),
}
FIGURES: dict[str, tuple[str, ...]] = {
    "training": (
        *("ours_fp32_tokens_per_second", "trainer_dynamic_tokens_per_second", "ours_bf16_tokens_per_second"),
        *("ours_fp32_peak_mib", "trainer_dynamic_peak_mib", "checkpoint_blocks_seconds", "step_seconds"),
        *("restore_seconds", "ray_train_overhead_ms_per_step"),
    ),
    "accumulation": ("right_loss", "right_gradient_norm"),
    "evaluation": ("texts", "texts_equal_to_generate", "texts_that_differ_at_a_tie"),
    "data": (
        *("plan_seconds_15m", "start_seconds", "prepare_ms_per_example", "encode_batch_ms_per_example"),
        *("side_by_side", "large"),
    ),
}


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for name, (title, what) in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        parts.append(f"## {title}\n\n{what}\n")
        if not path.exists():
            parts.append("Not measured yet.\n")
            continue
        found = json.loads(path.read_text())
        parts.append(f"On {_machine(found['machine'])}. All of it: `benchmarks/results/{name}.json`.\n")
        if found["ratios"]:
            rows = [f"| `{key}` | {_ratio(value)} |" for key, value in found["ratios"].items()]
            parts.append("\n".join(["| ratio | median (least to greatest) |", "| --- | --- |", *rows]) + "\n")
        wanted = FIGURES.get(name, tuple(found["figures"]))
        figures = {key: found["figures"][key] for key in wanted if key in found["figures"]}
        rows = [f"| `{key}` | {value} |" for key, value in _flat(figures)]
        parts.append("\n".join(["| figure | value |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _machine(machine: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items())


def _ratio(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "not measured"
    middle, least, most = (_number(value[key]) for key in ("median", "min", "max"))
    return middle if middle == least == most else f"**{middle}** ({least} to {most})"


def _flat(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in figures.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and value.keys() == {"median", "min", "max"}:
            yield name, _ratio(value)
        elif isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
