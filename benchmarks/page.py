"""Writes the page of measurements from benchmark results: `python -m benchmarks.page`.

A test compares docs/reference/benchmarks.md with benchmarks/results/, so that the page has only
measured numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results", ROOT / "docs/reference/benchmarks.md"

HEAD = """\
# Measurements

Each benchmark runs side by side with what one would otherwise use, and reports ratios with their spread.
`make bench-NAME` repeats it. Each section names the machine. The machines were virtual and shared, so ratios are
more reliable than seconds.
"""

SECTIONS: dict[str, tuple[str, str]] = {
    "training": (
        "Training",
        "The shape of FLAN-T5-small with random weights, a mixture of summaries, ratings, entities and code, fp32, "
        "AdamW, about 4,000 real tokens per step. Real tokens per second of raytrain divided by those of "
        "`Seq2SeqTrainer`; `gemm_fraction` is the share of the speed of `F.linear` alone on the same layers.",
    ),
    "demo": (
        "The quickstart",
        "`make demo` from nothing, part by part, in seconds: `world` generates the data and pre-trains the base model; "
        "the others lie between the events of the run. Checkpoints are scored during `train`.",
    ),
    "accumulation": (
        "The same step, divided in several ways",
        "Loss and gradient divided by the correct values (1 is correct), for 16 examples at once, as four "
        "micro-batches, and on two processes.",
    ),
    "evaluation": (
        "Generating and scoring",
        "The shape of FLAN-T5-small, several hundred prompts (`texts`), greedy, fp32: the speed of raytrain divided by "
        "that of `generate` in transformers. `training_slowdown` is how much longer a training step takes while "
        "another core generates.",
    ),
    "data": (
        "Data",
        "Generated dialogues of 150 to 250 words. `prepare_vs_encode_batch`: the CPU time of `encode_batch` alone "
        "divided by that of the complete preparation (above 1: preparation takes less). `read_vs_step`: the time to "
        "read and pack a step's rows divided by the time of the step. `epoch_vs_dataloader`: the time of an epoch "
        "divided by that of a DataLoader that pads rows in memory, without sampling order and packing. Short rows have "
        "6 to 12 words: `short_wall_vs_before` is the time of preparing them with two processes, divided by that of "
        "the commit before rows were read by the workers.",
    ),
    "verdicts": (
        "Verdicts",
        "A simulation of known populations: `worst_level` is the largest share of pairs of equally good models that "
        "are called better or worse (nominally 5 %), `worst_coverage` the smallest share of 95 % intervals that hold "
        "the true score, over 2 to 1,000 rows, scores from .05 to .99 and every kind of metric. Both are Monte Carlo "
        "estimates of many cells, with the standard error of the worst one beside it.",
    ),
    "scale": (
        "Scale",
        "A run of 1,024 workers, simulated: the real code of plan, row sharing, commit and messages, with a stand-in "
        "for the network only. Seconds of plan and restart are CPU seconds of the first worker, without Ray's start of "
        "processes and the transfer of weights. `driver_messages_per_step` counts calls of all workers.",
    ),
    "storage": (
        "Storage",
        "Objects of 64 MiB and of 4 KiB (one after another), to and from servers on the same machine: SeaweedFS, "
        "fake-gcs-server, Azurite; medians of five rounds. raytrain verifies what it wrote, and reads it back where "
        "the server tells no checksum; the others do not. `grown_mib` is what the process grew by at its peak.",
    ),
    "sweep": (
        "Sweeps",
        "A tiny job and a setting of it, one after the other: two runs by `raytrain run`, and the same two as a sweep, "
        "in seconds of one run. Each run starts a Ray of its own in both. `overhead_seconds` is how long the sweep was "
        "there and no run was, divided by the runs; the limit holds the greatest one.",
    ),
    "export": (
        "Taking the model out",
        "A tuned model (the figures here: that of `raytrain init --sample`, with `parameters` weights) and its run's "
        "prompts, one thread, decoded as the run was scored: seconds of our generation in fp32 divided by those of "
        "CTranslate2 with int8 and with bfloat16 weights (`computed_in` says in which type it computed). `exact` is "
        "the share of answers equal to ours, `chrf` their mean chrF against ours (1 is equal).",
    ),
    "installation": (
        "Installing",
        "`pip install` of the wheel and of extras into an empty environment, without pip's cache: MiB that it "
        "adds, and seconds with the download. `packages` counts distributions. `help_seconds` is the time of "
        "`raytrain --help`.",
    ),
    "chaos": ("Random kills", "A run whose processes are killed at random, compared with the same run undisturbed."),
    "operator": ("Operator", "Jobs on a real API server, without KubeRay's controller."),
    "gpu": (
        "GPU",
        "The training step on one CUDA device: tokens per second and model FLOPs utilization of raytrain in several "
        "settings, compared with the loop of transformers; and greedy generation compared with `generate`. Run "
        "`python -m benchmarks.gpu --out benchmarks/results/gpu.json`, which needs torch, transformers and this "
        "repository, but neither Ray nor a network. It resumes where it was interrupted.",
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
        *("side_by_side", "reading", "short", "short_before", "ray_data", "many_objects", "large"),
    ),
}


def page() -> str:
    """Renders the page as Markdown."""
    parts = [HEAD]
    for name, (title, what) in SECTIONS.items():
        parts.append(f"## {title}\n\n{what}\n")
        latest = RESULTS / f"{name}.json"
        if not latest.exists():
            parts.append("Not measured yet.\n")
            continue
        paths = [latest, *sorted(RESULTS.glob(f"{name}.*.json"))]  # the others are of other processors
        parts += _section(name, {path.name: json.loads(path.read_text()) for path in paths})
    return "\n".join(parts)


def _section(name: str, results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields the tables of a benchmark, with a column for each processor, the latest first."""
    names = list(results)
    for file, found in results.items():
        yield f"{_machine(found['machine'])}. All of it: `benchmarks/results/{file}`.\n"
    heads = [str(found["machine"].get("processor", "a processor not named")) for found in results.values()]
    first = results[names[0]]
    if first["ratios"]:
        middle = ["median (least to greatest)"] if len(names) == 1 else heads
        yield _table(
            "ratio",
            middle,
            {key: [_ratio(found["ratios"].get(key)) for found in results.values()] for key in first["ratios"]},
        )
    if bars := first.get("bars"):
        yield _table(
            "held to a limit",
            ["value", "limit"],
            {key: [str(value["value"]), value["bar"]] for key, value in bars.items()},
        )
    selected = FIGURES.get(name, tuple(first["figures"]))
    figures = [
        dict(_flat({key: found["figures"][key] for key in selected if key in found["figures"]}))
        for found in results.values()
    ]
    yield _table(
        "figure",
        ["value"] if len(names) == 1 else heads,
        {key: [values.get(key, "not measured") for values in figures] for key in figures[0]},
    )


def _table(head: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [f"| {' | '.join([head, *columns])} |", f"| {' | '.join(['---'] * (len(columns) + 1))} |"]
    lines += [f"| `{key}` | {' | '.join(cells)} |" for key, cells in rows.items()]
    return "\n".join(lines) + "\n"


def _machine(machine: Mapping[str, Any]) -> str:
    return "On " + ", ".join(f"{key} {value}" for key, value in machine.items())


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
