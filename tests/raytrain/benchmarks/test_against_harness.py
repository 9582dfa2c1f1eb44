"""Scores equal those of lm-evaluation-harness's own runner with transformers, row by row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytrain.benchmarks.loaded import LoadedBenchmark
from raytrain.generation.generator import Generator
from tests.raytrain.benchmarks import conftest as formats

MULTIPLE_CHOICE: dict[str, tuple[Callable[..., Any], int | None]] = {
    "arc_easy": (formats.arc_rows, 2),
    "hellaswag": (formats.hellaswag_rows, None),
    "boolq": (formats.boolq_rows, None),
    "mmlu_abstract_algebra": (formats.mmlu_rows, 2),
}
GENERATED: dict[str, Callable[..., Any]] = {
    "bbh_fewshot_boolean_expressions": formats.bbh_rows,
    "samsum": formats.summary_rows,
}


@pytest.mark.parametrize("name", MULTIPLE_CHOICE)
def test_choices_have_the_harness_log_likelihoods_and_scores(
    name: str, tmp_path: Path, generator: Generator, loaded: Callable[..., LoadedBenchmark], harness: Callable[..., Any]
) -> None:
    make, few_shot = MULTIPLE_CHOICE[name]
    rows = formats.write_rows(
        tmp_path / "rows", {split: make(14, seed) for seed, split in enumerate(("train", "validation", "test"))}
    )
    found = loaded(name, rows, few_shot=few_shot, examples=9)

    generations = generator.generate([row.request for row in found.rows])
    scores = found.scores(generations)

    samples = harness(found, rows, few_shot)
    assert [row.number for row in found.rows] == [sample["doc_id"] for sample in samples]
    for sample, generation, score in zip(samples, generations, scores, strict=True):
        theirs = [answer for answers in sample["resps"] for answer in answers]
        assert [value for value, _ in generation.log_likelihoods] == pytest.approx([v for v, _ in theirs], abs=2e-4)
        assert [greedy for _, greedy in generation.log_likelihoods] == [greedy for _, greedy in theirs]
        assert score == {metric: sample[metric] for metric in sample["metrics"]}
    assert any(generation.prompt_cut for generation in generations), "some prompts are too long"


@pytest.mark.parametrize("name", GENERATED)
def test_generated_text_is_the_harness_text(
    name: str, tmp_path: Path, generator: Generator, loaded: Callable[..., LoadedBenchmark], harness: Callable[..., Any]
) -> None:
    rows = formats.write_rows(tmp_path / "rows", {s: GENERATED[name](4, 7) for s in ("train", "validation", "test")})
    found = loaded(name, rows, examples=2)

    generations = generator.generate([row.request for row in found.rows])
    scores = found.scores(generations)

    for sample, generation, score in zip(harness(found, rows, None), generations, scores, strict=True):
        assert generation.text == sample["resps"][0][0]
        assert score == {metric: sample[metric] for metric in sample["metrics"]}
