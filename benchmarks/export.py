"""Compares speed and answers of CTranslate2 exports with our own generation, on a run's prompts.

    python -m benchmarks.export RUN --storage URI --out benchmarks/results/export.json

RUN has finished. All models answer the same prompts (at most 100) on one thread of this CPU, in
turns, decoded as the run was scored. The time to load them is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.output import emit
from benchmarks.workload import machine, spread

ROUNDS = 5
QUANTIZATIONS = ("int8", "bfloat16")


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
    prompts, tokenizer, limits = _prompts(store, layout)
    with tempfile.TemporaryDirectory() as temporary:
        export_run(store, layout, to=f"{temporary}/ours")
        model = load(Path(temporary, "ours"), tokenizer_size=tokenizer.size)
        ours = Generator(model, tokenizer, limits, device="cpu")
        ways: dict[str, Callable[[], list[str]]] = {"ours": lambda: [one.text for one in ours.generate(prompts)]}
        computed = {}
        for kind in QUANTIZATIONS:
            export_run(store, layout, to=f"{temporary}/{kind}", form="ctranslate2", quantization=kind)
            translator = ctranslate2.Translator(f"{temporary}/{kind}", device="cpu", inter_threads=1, intra_threads=1)
            computed[kind] = str(translator.compute_type)
            ways[kind] = partial(translate, translator, tokenizer, prompts, limits)
        answers = {way: answer() for way, answer in ways.items()}  # also warms all up
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, answer in ways.items():
                seconds[way].append(_seconds(answer))
        size = {way: _bytes(Path(temporary, way)) for way in ways}
    agreement = {kind: compare_answers(answers["ours"], answers[kind], "the run's rows") for kind in QUANTIZATIONS}
    ratios = {
        f"{kind}_speedup": spread([a / b for a, b in zip(seconds["ours"], seconds[kind], strict=True)])
        for kind in QUANTIZATIONS
    }
    return {
        "machine": machine(),
        "ratios": ratios,
        "figures": {
            "prompts": len(prompts),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": {way: spread(found) for way, found in seconds.items()},
            "bytes": size,
            "computed_in": computed,
            "exact": {kind: found.exact for kind, found in agreement.items()},
            "chrf": {kind: found.chrf for kind, found in agreement.items()},
        },
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
