"""Metrics that ask whether an answer is exactly right."""

import re
import unicodedata
from collections.abc import Sequence

from data_prep.tasks.task_types import letter
from raytrain.evaluation.metrics.base import MeanMetric, Meta

_BLANKS = re.compile(r"(?<=\S)[^\S\n]+")


def normalise_answer(text: str) -> str:
    """Case, punctuation and white space do not matter: "(B) The End." is "b the end".

    An answer of punctuation alone keeps it, so that "+" and "-" stay different answers.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(" " if unicodedata.category(c).startswith("P") else c for c in folded).split()
    return " ".join(words or folded.split())


def normalise_code(text: str) -> str:
    """Runs of blanks inside a line count as one; blanks at the end of a line and empty lines do not count.

    Indentation and line breaks stay: they are meaning in Python.
    """
    lines = (_BLANKS.sub(" ", line.expandtabs(4)).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line).strip()


class ExactMatch(MeanMetric):
    """Share of answers equal to a reference, as people compare short answers."""

    name = "exact_match"

    @property
    def protocol(self) -> str:
        """What is ignored, and how a choice may be named."""
        return (
            "equal to a reference after Unicode NFKC, without regard to case, punctuation and white space; "
            "a choice may be named by its letter, by its text or by both"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """1 or 0."""
        given = normalise_answer(prediction)
        right = {normalise_answer(target) for target in targets}
        return float(given in right or given in _other_names(right, meta.get("choices") or ()))


def _other_names(right: set[str], choices: Sequence[str]) -> set[str]:
    """What else means a choice whose letter is right: its text (if no other choice has it), letter and text."""
    letters = [normalise_answer(letter(index)) for index in range(len(choices))]
    texts = [normalise_answer(choice) for choice in choices]
    names = set()
    for name, text in zip(letters, texts, strict=True):
        if name in right:
            names.add(f"{name} {text}")
            if texts.count(text) == 1 and text not in letters:
                names.add(text)
    return names


class ExactCode(MeanMetric):
    """Share of answers that are the reference's code, white space normalised."""

    name = "exact_code"

    @property
    def protocol(self) -> str:
        """What is ignored."""
        return (
            "equal to a reference; runs of blanks inside a line count as one, blanks at line ends and empty lines "
            "do not count, indentation and line breaks do"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """1 or 0."""
        return float(normalise_code(prediction) in {normalise_code(target) for target in targets})
