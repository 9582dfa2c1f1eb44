"""Numbers in answers that give a place on a scale: 4, 4 stars, 4/5, four, ★★★★."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import regex

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORD = "|".join(_WORDS)
_UNIT = r"(?:stars?|points?|★|⭐)"
_OUT_OF = r"(?:/|out of|of|von|sur|de|из)"

_ONE = regex.compile(r"[-+]?\d+(?:[.,]\d+)?")
_FRACTION = regex.compile(
    rf"(?P<number>{_ONE.pattern}|{_WORD})\s*(?:{_UNIT}\s*)?\(?{_OUT_OF}\s*(?P<end>\d+|{_WORD})(?!\w)"
)
_COUNTED = regex.compile(rf"\b(?P<number>{_WORD})\b[\s-]*{_UNIT}")
_ANY = regex.compile(
    r"(?P<other>[$€£¥]\s*)?(?P<number>(?:(?<![\w.,])[-+])?(?<![\w.,])\d+(?:[.,]\d+)*)"
    r"(?P<other>\s*[%‰°]|[-+](?!\w)|(?!\s*stars?|\s*points?)\p{L}\w*)?"
)
_FILLED, _STARS = "★⭐🌟", regex.compile(r"[★⭐🌟]+[☆✩]*")
_RANGE = r"\(?(?:from |between )?{low}\s*(?:-|to|and|\.\.+)\s*{high}(?:\s*stars?|\s*points?)?\)?"


@dataclass(frozen=True, slots=True)
class Scale:
    """Labels that are numbers, or a number with a unit: 1 to 5, `1 star` to `5 stars`."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, labels: Sequence[str]) -> Self | None:
        """Returns the scale of folded labels; None where one has no number or two have the same."""
        found = [regex.fullmatch(rf"({_ONE.pattern})(?:\s*[\p{{L}}]+)?", label) for label in labels]
        values = tuple(_value(match[1]) for match in found if match)
        return cls(values) if len(values) == len(labels) and len(set(values)) == len(values) else None

    def place(self, number: float) -> int | None:
        """Returns the index of the label with this number; None if there is none."""
        return self.values.index(number) if number in self.values else None


def whole_number(text: str, scale: Scale) -> float | None:
    """Returns the number of an answer that is nothing else: `****`, `four`; None for other text."""
    bare = text.strip(" .:;!'\"()[]")
    if bare in _WORDS:
        return float(_WORDS.index(bare))
    stars = "".join(bare.split())
    if stars and set(stars) == {"*"}:
        return float(len(stars))
    lead, colon, last = bare.rpartition(":")
    return whole_number(last, scale) if colon and lead and not numbers_named(lead, scale) else None


def numbers_named(text: str, scale: Scale) -> set[float]:
    """Returns all numbers that a text names, those that are no label too; NaN for no number.

    The range of the scale (1-5, from 1 to 5) names none. A fraction names its first number if it
    is of the scale's largest value, else something that is no label.
    """
    text = regex.sub(_range_of(scale), " ", regex.sub(r"\bminus\s+(?=\d)", "-", text))
    found: set[float] = set()
    for match in _FRACTION.finditer(text):
        of_scale = _number(match["end"]) == max(scale.values)
        found.add(_number(match["number"]) if of_scale else float("nan"))
    text = _FRACTION.sub(" ", text)
    found |= {_number(match["number"]) for match in _COUNTED.finditer(text)}
    text = regex.sub(rf"(?<=\d)\s*{_UNIT}(?!{_UNIT})|(?<![★⭐🌟])[★⭐🌟](?=\s*\d)", " ", _COUNTED.sub(" ", text))
    found |= {float(sum(c in _FILLED for c in match[0])) for match in _STARS.finditer(text)}
    return found | {float("nan") if m["other"] else _value(m["number"]) for m in _ANY.finditer(text)}


def _range_of(scale: Scale) -> str:
    low, high = (rf"{value:g}(?:\.0)?" for value in (min(scale.values), max(scale.values)))
    return r"(?<![\w.,-])" + _RANGE.format(low=low, high=high) + r"(?![\w/])"


def _number(text: str) -> float:
    return float(_WORDS.index(text)) if text in _WORDS else _value(text)


def _value(text: str) -> float:
    """The number of digits; 4,5 is four and a half, 1,000 a thousand, 1.2.3 none (NaN)."""
    if regex.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+", text):
        return float(text.replace(",", ""))
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return float("nan")
