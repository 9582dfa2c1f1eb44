"""Exact match and F1 of short answers, as in SQuAD's official script (Rajpurkar et al. 2016).

T5's evaluation uses the same. One difference: of a reference such as "(A)" the script keeps
nothing, so that an empty prediction equals it. Such a reference is compared in its plain form.
"""

import re
import string
from collections.abc import Sequence

from raytrain.evaluation.answers.normal import normalize_answer
from raytrain.evaluation.metrics.base import MeanMetric, Meta
from raytrain.evaluation.metrics.match import bag_f1

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lowers the case and removes ASCII punctuation, articles and extra white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _pairs(prediction: str, targets: Sequence[str]) -> list[tuple[str, str]]:
    """Prediction and each target, both normalized; both plain where that keeps no word."""
    return [
        (normalize(prediction), wanted)
        if (wanted := normalize(t))
        else (normalize_answer(prediction), normalize_answer(t))
        for t in targets
    ]


class SquadExact(MeanMetric):
    """Share of predictions equal to a reference after SQuAD's normalization."""

    name = "exact@squad"

    @property
    def protocol(self) -> str:
        """What is ignored."""
        return (
            "SQuAD v1.1: lower case, no ASCII punctuation, no a/an/the, best of several references; a reference of "
            "which that keeps nothing is compared as exact_match does (the script: equal to silence)"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0."""
        return float(any(given == wanted for given, wanted in _pairs(prediction, targets)))


class SquadF1(MeanMetric):
    """Mean F1 of words with the best reference, after SQuAD's normalization."""

    name = "f1@squad"

    @property
    def protocol(self) -> str:
        """What is ignored, and what is counted."""
        return f"{SquadExact().protocol}; F1 of words as a bag, mean over rows"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns F1 against the best reference."""
        return max(bag_f1(given.split(), wanted.split()) for given, wanted in _pairs(prediction, targets))
