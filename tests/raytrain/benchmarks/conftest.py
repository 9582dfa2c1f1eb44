"""Rows in the formats of known benchmarks, a tiny model, and the harness's own runner."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.benchmarks import catalog
from raytrain.benchmarks.loaded import LoadedBenchmark, load
from raytrain.benchmarks.local_rows import overrides
from raytrain.config.benchmark import Benchmark
from raytrain.generation.generator import Generator
from raytrain.generation.plain_tokenizer import PlainTokenizer
from raytrain.generation.requests import GenerationLimits
from raytrain.model.loading import load as load_model
from tests.support.tiny_t5 import save_tiny

PROMPT = 48
"""Longest prompt: some rows are longer."""
_WORDS = ("able", "bus", "cat", "dig", "egg", "for", "go", "hat", "ice", "joy")


def write_rows(folder: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Writes a JSON Lines file for each split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _text(rng: random.Random, longest: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, longest)))


def arc_rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "id": f"q{i}",
            "question": _text(rng, 12),
            "choices": {"text": [_text(rng, 4) for _ in range(4)], "label": list("ABCD")},
            "answerKey": rng.choice("ABCD"),
        }
        for i in range(count)
    ]


def hellaswag_rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "ind": i,
            "activity_label": "Dancing",
            "ctx_a": _text(rng, 24),
            "ctx_b": "",
            "ctx": _text(rng, 8),
            "endings": [_text(rng, 5) for _ in range(4)],
            "label": str(rng.randrange(4)),
        }
        for i in range(count)
    ]


def boolq_rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {"question": _text(rng, 6), "passage": _text(rng, 20), "idx": i, "label": rng.randrange(2)}
        for i in range(count)
    ]


def mmlu_rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {"question": _text(rng, 20), "choices": [_text(rng, 3) for _ in range(4)], "answer": i % 4}
        for i in range(count)
    ]


def bbh_rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{"input": _text(rng, 9), "target": rng.choice(("True", "False"))} for _ in range(count)]


def summary_rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{"id": str(i), "dialogue": _text(rng, 15), "summary": _text(rng, 6)} for i in range(count)]


@pytest.fixture(scope="package")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="package")
def generator(model_folder: Path) -> Generator:
    return Generator(
        load_model(model_folder, tokenizer_size=96),
        read_tokenizer(model_folder),
        GenerationLimits(PROMPT, 16),
        device="cpu",
        plain=lambda: PlainTokenizer(model_folder),
        positions=PROMPT + 300,
    )


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., LoadedBenchmark]:
    def load_benchmark(benchmark: str, rows: Path | str, **fields: Any) -> LoadedBenchmark:
        return load(
            Benchmark(benchmark=benchmark, rows=str(rows), **fields),
            "spec.probes[0]",
            examples=200,
            max_input_tokens=PROMPT,
            base_folder=tmp_path,
            store=None,
            scratch=tmp_path / "scratch" / benchmark,
        )

    return load_benchmark


@pytest.fixture
def harness(tmp_path: Path, model_folder: Path) -> Callable[..., list[dict[str, Any]]]:
    """The samples of the harness's own runner, on the rows that were drawn."""

    def run(found: LoadedBenchmark, rows: Path, few_shot: int | None) -> list[dict[str, Any]]:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        # Of a folder, the runner would tie the output layer to the embeddings (`tie_weights`).
        model = load_model(model_folder, tokenizer_size=96)
        runner = HFLM(model, tokenizer=str(model_folder), backend="seq2seq", batch_size=1, max_length=PROMPT)
        changed = overrides(str(rows), "rows", base_folder=tmp_path, store=None, scratch=tmp_path / "harness")
        members = [{"task": name, **changed} for name in found.tasks]
        with catalog.quiet():
            results: Any = simple_evaluate(
                runner,
                tasks=[{"group": "rows", "task": members}],
                num_fewshot=few_shot,
                samples={name: list(numbers) for name, numbers in found.drawn.items()},
                task_manager=catalog.manager(found.spec.benchmark),
                bootstrap_iters=0,
            )
        return [sample for name in found.tasks for sample in results["samples"][name]]

    return run
