"""ROUGE by rouge-score-rs, or by rouge_score where that is not installed: the same numbers to the last bit."""

import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from raytrain.evaluation.metrics.base import Floats, MeanMetric, Meta

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def split_sentences(text: str) -> str:
    """`text` with every sentence on a line of its own, as ROUGE-Lsum wants it.

    A sentence ends after `.`, `!` or `?` before white space, and at a line break. No model is needed (nltk's
    `punkt` is a download); abbreviations ("Mr. Smith") are split too, in prediction and reference alike.
    """
    return _SENTENCE_END.sub("\n", text)


@cache
def _package() -> str:
    return "rouge_score_rs" if find_spec("rouge_score_rs") else "rouge_score"


@cache
def _scorer(kind: str) -> Any:
    module = import_module(f"{_package()}.rouge_scorer")
    return module.RougeScorer([kind], use_stemmer=True)


class Rouge(MeanMetric):
    """Mean F1 of one ROUGE type over rows; of several references the best one counts, row by row."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    @property
    def protocol(self) -> str:
        """Package and version, stemmer, sentence split, references, mean."""
        split = ", sentences end after . ! ? and at line breaks" if self.name == "rougeLsum" else ""
        package = _package().replace("_", "-")
        return f"{package} {version(package)}, F1, Porter stemmer{split}, best of several references, mean over rows"

    def _prepared(self, text: str) -> str:
        return split_sentences(text) if self.name == "rougeLsum" else text

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """F1 against the best reference."""
        scorer, prepared = _scorer(self.name), self._prepared(prediction)
        return max(float(scorer.score(self._prepared(t), prepared)[self.name].fmeasure) for t in targets)

    def stats_many(self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> Floats:
        """As `stats` row by row, in one call of the batch scorer (about 80 times as fast)."""
        if _package() != "rouge_score_rs" or not all(targets):
            return super().stats_many(predictions, targets, metas)
        flat_targets = [self._prepared(t) for several in targets for t in several]
        flat_predictions = [self._prepared(p) for p, several in zip(predictions, targets, strict=True) for _ in several]
        scores = _scorer(self.name).score_batch(flat_targets, flat_predictions)
        values = np.array([score[self.name].fmeasure for score in scores], dtype=np.float64)
        starts = np.cumsum([0, *(len(several) for several in targets)])[:-1]
        best = np.maximum.reduceat(values, starts) if len(values) else values
        return np.stack([best, np.ones_like(best)], axis=1)
