"""Metrics of exactly correct predictions."""

import re
from collections import Counter
from collections.abc import Sequence

from raytrain.evaluation.answers.choices import choice_named, letter_named
from raytrain.evaluation.answers.normal import normalize_answer
from raytrain.evaluation.answers.words import words
from raytrain.evaluation.metrics.base import MeanMetric, Meta

# A text between quotes, which keeps its blanks, or a run of blanks after something else.
_BLANKS = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?<=\S)[^\S\n]+""")
_OPTION = re.compile(r"\([A-Z]\)")


def normalize_code(text: str) -> str:
    """Collapses runs of blanks inside lines, and removes trailing blanks and empty lines.

    Indentation and line breaks stay, because they have a meaning in Python; so do blanks between
    quotes in one line.
    """
    lines = (_BLANKS.sub(lambda m: m[1] or " ", line.expandtabs(4)).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line).strip()


class ExactMatch(MeanMetric):
    """Share of predictions equal to a reference in the plain form of `normalize_answer`.

    Where a row has choices, or its reference is an option such as "(B)", the option that the
    prediction names is compared instead.
    """

    name = "exact_match"

    @property
    def protocol(self) -> str:
        """What is ignored, and how a choice can be named."""
        return (
            "answers v2: equal to a reference after Unicode NFKC (but superscripts, subscripts and fractions stay), "
            "ignoring case, white space, kinds of dashes and quotes, and at the ends sentence marks, quotes, ** and "
            "brackets around one word; signs inside or before an answer count; a choice can be named by its letter, "
            "by its text or by both"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0."""
        if choices := meta.get("choices"):
            named = choice_named(prediction, choices)
            if named is not None and named in {choice_named(target, choices) for target in targets}:
                return 1.0
        elif all(_OPTION.fullmatch(target.strip()) for target in targets):
            named_letter = letter_named(prediction)
            return float(named_letter is not None and named_letter in {letter_named(target) for target in targets})
        return float(normalize_answer(prediction) in {normalize_answer(target) for target in targets})

    def unreadable(self, prediction: str, meta: Meta) -> bool | None:
        """Whether `prediction` names none of the row's choices; None for a row without choices."""
        choices = meta.get("choices")
        return choice_named(prediction, choices) is None if choices else None


class WordF1(MeanMetric):
    """Mean F1 of words as a bag with the best reference, signs with a meaning kept."""

    name = "word_f1"

    @property
    def protocol(self) -> str:
        """What a word is."""
        return (
            "answers v2: F1 of words as a bag, best of several references, mean over rows; words between white space "
            "in the plain form of exact_match, characters in Chinese, Japanese, Thai and the like"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns F1 against the best reference."""
        given = words(prediction)
        return max(bag_f1(given, words(target)) for target in targets)


def bag_f1(predicted: Sequence[str], expected: Sequence[str]) -> float:
    """Returns the F1 of two bags of words; two empty ones are equal."""
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))


class ExactCode(MeanMetric):
    """Share of predictions that are the reference's code, with normalized white space."""

    name = "exact_code"

    @property
    def protocol(self) -> str:
        """What is ignored."""
        return (
            "equal to a reference; runs of blanks inside a line, but not between quotes, count as one; trailing "
            "blanks and empty lines are ignored, indentation and line breaks are not"
        )

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0."""
        return float(normalize_code(prediction) in {normalize_code(target) for target in targets})
