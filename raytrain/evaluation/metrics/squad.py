"""Exact match and F1 of short answers, as in SQuAD's official script (Rajpurkar et al. 2016).

T5's evaluation uses the same.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

from raytrain.evaluation.metrics.base import MeanMetric, Meta

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lowers the case and removes ASCII punctuation, articles and extra white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


class SquadExact(MeanMetric):
    """Share of predictions equal to a reference after SQuAD's normalization."""

    name = "exact@squad"

    @property
    def protocol(self) -> str:
        """What is ignored."""
        return "SQuAD v1.1: lower case, no ASCII punctuation, no a/an/the, best of several references"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0."""
        return float(normalize(prediction) in {normalize(target) for target in targets})


class SquadF1(MeanMetric):
    """Mean F1 of words with the best reference, after SQuAD's normalization."""

    name = "f1@squad"

    @property
    def protocol(self) -> str:
        """What is ignored, and what is counted."""
        return f"{SquadExact().protocol}; F1 of words as a bag, mean over rows"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns F1 against the best reference; two texts without words are equal."""
        return max(_f1(normalize(prediction).split(), normalize(target).split()) for target in targets)


def _f1(predicted: list[str], expected: list[str]) -> float:
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))
