"""ROUGE by rouge-score-rs, or by rouge_score where that is not installed: the same numbers to the last bit.

How it is computed moves the score more than most training does, so other people's ways are presets:
`rouge1@t5` is what T5's and FLAN's papers report, `rouge1@hf` what transformers' example scripts
and most model cards do.
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
    """`text` with every sentence on a line of its own, as ROUGE-Lsum wants it.

    A sentence ends after `.`, `!` or `?` before white space, and at a line break. No model is
    needed (nltk's `punkt` is a download); abbreviations ("Mr. Smith") are split too, in prediction
    and reference alike.
    """
    return _SENTENCE_END.sub("\n", text)


def split_spaced_stops(text: str) -> str:
    """As T5 splits sentences: at stops between blanks (those of CNN/DailyMail), which other texts hardly have."""
    return text.replace(" . ", " .\n")


def strip_and_split(text: str) -> str:
    """As transformers' run_summarization.py prepares a text, but for nltk's splitter, which is a download."""
    return split_sentences(text.strip())


@dataclass(frozen=True, slots=True)
class RougeWay:
    """A way to compute ROUGE: `prepare` comes before rougeLsum."""

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
    """F1 of each pair by every kind. A task asks for one kind after the other over the same texts: they are cut into
    words, and those stemmed, once for all; where a line ends is nothing to the kinds that look at words alone."""
    module = import_module("rouge_score_rs.rouge_scorer")
    scorer = module.RougeScorer(list(KINDS), use_stemmer=way.stemmer)
    scores = scorer.score_batch([way.prepare(t) for t in targets], [way.prepare(p) for p in predictions])
    return {kind: np.array([score[kind].fmeasure for score in scores], dtype=np.float64) for kind in KINDS}


def forget() -> None:
    """Drop the scores that are kept for the next kind: they are computed anew then, for whoever takes the time."""
    _batch.cache_clear()


class Rouge(MeanMetric):
    """Mean F1 of one ROUGE type over rows; of several references the best one counts, row by row."""

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

    def _wanted(self, targets: Sequence[str]) -> Sequence[str]:
        return targets[:1] if self._way.first_reference_only else targets

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """F1 against the best reference."""
        scorer, prepared = _scorer(self._kind, self._way.stemmer), self._prepared(prediction)
        return max(float(scorer.score(self._prepared(t), prepared)[self._kind].fmeasure) for t in self._wanted(targets))

    def stats_many(self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> Floats:
        """As `stats` row by row, in one call of the batch scorer (about 80 times as fast)."""
        if _package() != "rouge_score_rs" or not all(targets):
            return super().stats_many(predictions, targets, metas)
        wanted = [self._wanted(several) for several in targets]
        flat_targets = tuple(t for several in wanted for t in several)
        flat_predictions = tuple(p for p, several in zip(predictions, wanted, strict=True) for _ in several)
        values = _batch(self._way, flat_targets, flat_predictions)[self._kind]
        starts = np.cumsum([0, *(len(several) for several in wanted)])[:-1]
        best = np.maximum.reduceat(values, starts) if len(values) else values
        return np.stack([best, np.ones_like(best)], axis=1)
