"""Metrics of exactly correct predictions."""

import re
import unicodedata
from collections.abc import Sequence

from data_prep.tasks.task_types import letter
from raytrain.evaluation.metrics.base import MeanMetric, Meta

_BLANKS = re.compile(r"(?<=\S)[^\S\n]+")


def normalize_answer(text: str) -> str:
    """Removes case, punctuation and extra white space: "(B) The End." becomes "b the end".

    A text of punctuation alone keeps it, so that "+" and "-" stay different.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(" " if unicodedata.category(c).startswith("P") else c for c in folded).split()
    return " ".join(words or folded.split())


def normalize_code(text: str) -> str:
    """Collapses runs of blanks inside lines, and removes trailing blanks and empty lines.

    Indentation and line breaks stay, because they have a meaning in Python.
    """
    lines = (_BLANKS.sub(" ", line.expandtabs(4)).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line).strip()


class ExactMatch(MeanMetric):
    """Share of predictions equal to a reference, ignoring case, punctuation and white space."""

    name = "exact_match"

    @property
    def protocol(self) -> str:
        """What is ignored, and how a choice can be named."""
        return (
            "equal to a reference after Unicode NFKC, ignoring case, punctuation and white space; "
            "a choice can be named by its letter, by its text or by both"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0."""
        given = normalize_answer(prediction)
        correct = {normalize_answer(target) for target in targets}
        return float(given in correct or given in _other_names(correct, meta.get("choices") or ()))


def _other_names(correct: set[str], choices: Sequence[str]) -> set[str]:
    """Other names of the choices whose letter is correct: letter and text, or a unique text."""
    letters = [normalize_answer(letter(index)) for index in range(len(choices))]
    texts = [normalize_answer(choice) for choice in choices]
    names = set()
    for name, text in zip(letters, texts, strict=True):
        if name in correct:
            names.add(f"{name} {text}")
            if texts.count(text) == 1 and text not in letters:
                names.add(text)
    return names


class ExactCode(MeanMetric):
    """Share of predictions that are the reference's code, with normalized white space."""

    name = "exact_code"

    @property
    def protocol(self) -> str:
        """What is ignored."""
        return (
            "equal to a reference; runs of blanks inside a line count as one; trailing blanks and empty lines "
            "are ignored, indentation and line breaks are not"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0."""
        return float(normalize_code(prediction) in {normalize_code(target) for target in targets})
