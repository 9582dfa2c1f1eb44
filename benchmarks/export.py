"""Compares the speed of an int8 export with our own generation, on the prompts of a run.

    python -m benchmarks.export RUN --storage URI --out benchmarks/results/export.json

RUN has finished. Both models answer the same prompts (at most 100) on one thread of this CPU, in
turns, decoded as the run was scored. The time to load them is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.output import emit
from benchmarks.workload import machine, spread

ROUNDS = 5


def measure(name: str, storage: str | None, rounds: int) -> dict[str, Any]:
    import ctranslate2
    import torch

    from raytrain.config.locations import locate_run
    from raytrain.export.agreement import compare_answers
    from raytrain.export.ctranslate2 import translate
    from raytrain.export.run_export import export_run
    from raytrain.generation.generator import Generator
    from raytrain.model.loading import load
    from raytrain.runs.status import open_run

    torch.set_num_threads(1)
    store, layout = open_run(locate_run(name, storage))
    with tempfile.TemporaryDirectory() as temporary:
        for form in ("transformers", "ctranslate2"):
            export_run(store, layout, to=f"{temporary}/{form}", form=form)
        prompts, tokenizer, limits = _prompts(store, layout)
        model = load(Path(temporary, "transformers"), tokenizer_size=tokenizer.size)
        ours = Generator(model, tokenizer, limits, device="cpu")
        theirs = ctranslate2.Translator(f"{temporary}/ctranslate2", device="cpu", inter_threads=1, intra_threads=1)
        ways: dict[str, Callable[[], list[str]]] = {
            "ours": lambda: [one.text for one in ours.generate(prompts)],
            "int8": lambda: translate(theirs, tokenizer, prompts, limits),
        }
        answers = {way: answer() for way, answer in ways.items()}  # also warms both up
        seconds = {way: [_seconds(ways[way]) for _ in range(rounds)] for way in ways}
        size = {form: _bytes(Path(temporary, form)) for form in ("transformers", "ctranslate2")}
    found = compare_answers(answers["ours"], answers["int8"], "the run's rows")
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["int8"], strict=True)]
    return {
        "machine": machine(),
        "ratios": {"int8_speedup": spread(ratios)},
        "figures": {"prompts": len(prompts), "exact": found.exact, "chrf": found.chrf, "bytes": size},
    }


def _prompts(store: Any, layout: Any) -> tuple[list[str], Any, Any]:
    from raytrain.export.agreement import prompts_of
    from raytrain.generation.requests import GenerationLimits
    from raytrain.runs.record import read_record

    record = read_record(store, layout)
    assert record is not None
    prompts, tokenizer, _ = prompts_of(store, record)
    return prompts, tokenizer, GenerationLimits.from_job(record.job)


def _seconds(way: Callable[[], list[str]]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run")
    parser.add_argument("--storage")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    emit(measure(given.run, given.storage, given.rounds), given.out)


if __name__ == "__main__":
    main()
