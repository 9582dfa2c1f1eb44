"""Scores that others published, with their source and how their protocol differs from a probe's."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """A published score of a model; `value` is a fraction, `metric` the harness's name for it."""

    benchmark: str
    model: str
    metric: str
    value: float
    source: str
    protocol: str
    difference: str


def published_scores(benchmark: str) -> list[PublishedScore]:
    """Returns what is known of a benchmark."""
    return [score for score in _all() if score.benchmark == benchmark]


@cache
def _all() -> tuple[PublishedScore, ...]:
    text = (files("raytrain.benchmarks") / "published.json").read_text(encoding="utf-8")
    return tuple(PublishedScore(**entry) for entry in json.loads(text))
