"""SQuAD's exact match and F1 of short answers, as its official script and T5's evaluation have them."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from raytrain.evaluation.metrics.base import MeanMetric, Meta

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation, articles and surplus white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


class SquadExact(MeanMetric):
    """Share of answers equal to a reference after SQuAD's normalisation."""

    name = "exact@squad"

    @property
    def protocol(self) -> str:
        """What is ignored."""
        return "SQuAD v1.1: lower case, no ASCII punctuation, no a/an/the, best of several references"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """1 or 0."""
        return float(normalise(prediction) in {normalise(target) for target in targets})


class SquadF1(MeanMetric):
    """Mean overlap in words with the nearest reference, after SQuAD's normalisation."""

    name = "f1@squad"

    @property
    def protocol(self) -> str:
        """What is ignored, what is counted."""
        return f"{SquadExact().protocol}; F1 of words as a bag, mean over rows"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """F1 against the best reference; two answers without a word are equal."""
        return max(_f1(normalise(prediction).split(), normalise(target).split()) for target in targets)


def _f1(given: list[str], wanted: list[str]) -> float:
    if not given or not wanted:
        return float(given == wanted)
    shared = (Counter(given) & Counter(wanted)).total()
    return 2 * shared / (len(given) + len(wanted))
