"""Which label an answer names; docs/explanation/metrics.md states the rules.

An answer names a label by being it, or by mentioning it as the only one, outside of a negation.
Everything else is unparsable: two labels, "not positive", 4/10, 4.5. Nothing is guessed.
"""

from collections.abc import Sequence
from functools import lru_cache

import regex

from raytrain.evaluation.answers.negation import affirmed
from raytrain.evaluation.answers.normal import fold, normalize_answer
from raytrain.evaluation.answers.numbers import Scale, numbers_named, whole_number

_BRACKETS = regex.compile(r"""[\[(<{"'`*_]*(?P<inside>.*?)[\])>}"'`*_]*""", regex.DOTALL)
_EMPHASIS = regex.compile(r"(\*\*|__|`|\*|_)(?=\S)(?P<inside>[^*_`]*\w[^*_`]*?)(?<=\S)\1")


class LabelReader:
    """Reads answers as one of `labels`."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._exact = [label.strip() for label in labels]
        self._folded = [fold(label) for label in labels]
        self._plain = [normalize_answer(label) for label in labels]
        self._scale = Scale.of(self._folded)
        # Longest first: "very positive" is not a mention of "positive".
        self._mentions = [
            (regex.compile(_pattern(label)), place)
            for place, label in sorted(enumerate(self._folded), key=lambda one: -len(one[1]))
            if _is_word(label) and self._folded.count(label) == 1
        ]

    def read(self, answer: str) -> int | None:
        """Returns the index of the label that `answer` names, or None."""
        equal = self._equal(answer)
        return self._mentioned(answer) if equal is None else equal

    def _equal(self, answer: str) -> int | None:
        """The label that is the answer, as it stands or without decoration."""
        bare = _BRACKETS.fullmatch(normalize_answer(answer))
        for labels, text in (
            (self._exact, answer.strip()),
            (self._folded, fold(answer)),
            (self._plain, normalize_answer(answer)),
            (self._plain, normalize_answer(bare["inside"]) if bare else ""),
        ):
            if text and labels.count(text) == 1:
                return labels.index(text)
        return None

    def _mentioned(self, answer: str) -> int | None:
        """The only label that the answer mentions outside of negations."""
        if self._scale is not None and (number := whole_number(fold(answer), self._scale)) is not None:
            return self._scale.place(number)
        text = _EMPHASIS.sub(r"\g<inside>", fold(answer))
        named: set[int | None] = set()
        for clause in affirmed(text, self._cut_mentions):
            rest, places = self._cut_mentions(clause)
            named |= places
            if self._scale is not None:
                named |= {self._scale.place(number) for number in numbers_named(rest, self._scale)}
        return named.pop() if len(named) == 1 else None

    def _cut_mentions(self, text: str) -> tuple[str, set[int]]:
        """Returns the text without the labels in it, and these."""
        places = set()
        for pattern, place in self._mentions:
            if pattern.search(text):
                places.add(place)
                text = pattern.sub(" \N{BULLET} ", text)
        return text, places


@lru_cache(maxsize=64)
def label_reader(labels: tuple[str, ...]) -> LabelReader:
    """Returns the reader of `labels`, made once."""
    return LabelReader(labels)


def _is_word(label: str) -> bool:
    """Whether a mention can be told from other text: not for single letters, numbers and signs."""
    letters = regex.findall(r"\p{L}", label)
    return len(letters) > 1 or (len(letters) == 1 and not letters[0].isascii() and len(label) == 1)


def _pattern(label: str) -> str:
    """A whole mention; blanks, hyphens and underscores inside are the same."""
    words = r"[\s_-]+".join(map(regex.escape, regex.split(r"[\s_-]+", label)))
    if regex.search(r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Line_Break=Complex_Context}]", label):
        return words
    return rf"(?<![\w!~¬])(?<!\w[-'])({words})(?![\w#+]|['-]\w)"
