"""ROUGE (Lin 2004) by rouge-score-rs, or by rouge_score where that is missing: bit-equal results.

How ROUGE is computed can change the score more than most training does, so the ways of others are
presets: `rouge1@t5` is what the papers of T5 and FLAN report, `rouge1@hf` what transformers'
example scripts and most model cards report.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from raytrain.evaluation.metrics.base import Floats, MeanMetric, Meta

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def split_sentences(text: str) -> str:
    """Returns `text` with every sentence on a line of its own, as ROUGE-Lsum expects it.

    A sentence ends after `.`, `!` or `?` before white space, and at a line break. No model is
    needed (nltk's `punkt` is a download); abbreviations ("Mr. Smith") are split too, in predictions
    and references alike.
    """
    return _SENTENCE_END.sub("\n", text)


def split_spaced_stops(text: str) -> str:
    """Splits sentences as T5 does: at full stops between blanks, as CNN/DailyMail writes them."""
    return text.replace(" . ", " .\n")


def strip_and_split(text: str) -> str:
    """Prepares a text as transformers' run_summarization.py does, without nltk's splitter."""
    return split_sentences(text.strip())


@dataclass(frozen=True, slots=True)
class RougeWay:
    """A way to compute ROUGE; `prepare` is applied before rougeLsum."""

    label: str
    stemmer: bool
    split: str
    prepare: Callable[[str], str]
    first_reference_only: bool = False


OURS = RougeWay("", stemmer=True, split="sentences end after . ! ? and at line breaks", prepare=split_sentences)
T5 = RougeWay("t5", stemmer=False, split='sentences end at " . "', prepare=split_spaced_stops)
HUGGING_FACE = RougeWay(
    "hf",
    stemmer=True,
    split="sentences end after . ! ? and at line breaks (nltk's punkt there)",
    prepare=strip_and_split,
    first_reference_only=True,
)


@cache
def _package() -> str:
    return "rouge_score_rs" if find_spec("rouge_score_rs") else "rouge_score"


@cache
def _scorer(kind: str, stemmer: bool) -> Any:
    module = import_module(f"{_package()}.rouge_scorer")
    return module.RougeScorer([kind], use_stemmer=stemmer)


@lru_cache(maxsize=1)
def _batch(way: RougeWay, targets: tuple[str, ...], predictions: tuple[str, ...]) -> Mapping[str, Floats]:
    """Returns the F1 of each pair for every kind.

    A task needs one kind after the other for the same texts, so tokenizing and stemming is done
    once for all of them. Line breaks do not matter to the kinds other than rougeLsum.
    """
    module = import_module("rouge_score_rs.rouge_scorer")
    scorer = module.RougeScorer(list(KINDS), use_stemmer=way.stemmer)
    scores = scorer.score_batch([way.prepare(t) for t in targets], [way.prepare(p) for p in predictions])
    return {kind: np.array([score[kind].fmeasure for score in scores], dtype=np.float64) for kind in KINDS}


def clear_cache() -> None:
    """Drops the scores kept for the next kind, so that a benchmark measures their computation."""
    _batch.cache_clear()


class Rouge(MeanMetric):
    """Mean F1 of one kind of ROUGE over rows, each against its best reference."""

    def __init__(self, kind: str, way: RougeWay = OURS) -> None:
        self.name = f"{kind}@{way.label}" if way.label else kind
        self._kind, self._way = kind, way

    @property
    def protocol(self) -> str:
        """Package and version, stemmer, sentence split, references, mean."""
        package = _package().replace("_", "-")
        stemmer = "Porter stemmer" if self._way.stemmer else "no stemmer"
        split = f", {self._way.split}" if self._kind == "rougeLsum" else ""
        references = "first reference only" if self._way.first_reference_only else "best of several references"
        mean = "mean over rows" + (" (the median of unseeded bootstraps there)" if self._way.label else "")
        return f"{package} {version(package)}, F1, {stemmer}{split}, {references}, {mean}"

    def _prepared(self, text: str) -> str:
        return self._way.prepare(text) if self._kind == "rougeLsum" else text

    def _references(self, targets: Sequence[str]) -> Sequence[str]:
        return targets[:1] if self._way.first_reference_only else targets

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns F1 against the best reference."""
        scorer, prepared = _scorer(self._kind, self._way.stemmer), self._prepared(prediction)
        return max(
            float(scorer.score(self._prepared(t), prepared)[self._kind].fmeasure) for t in self._references(targets)
        )

    def stats_many(self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> Floats:
        """Returns the same as `stats` row by row, in one call that is 80 times as fast."""
        if _package() != "rouge_score_rs" or not all(targets):
            return super().stats_many(predictions, targets, metas)
        references = [self._references(row) for row in targets]
        flat_targets = tuple(t for row in references for t in row)
        flat_predictions = tuple(p for p, row in zip(predictions, references, strict=True) for _ in row)
        values = _batch(self._way, flat_targets, flat_predictions)[self._kind]
        starts = np.cumsum([0, *(len(row) for row in references)])[:-1]
        best = np.maximum.reduceat(values, starts) if len(values) else values
        return np.stack([best, np.ones_like(best)], axis=1)
