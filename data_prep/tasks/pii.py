"""Masks personal data in rows: e-mail addresses, phone and card numbers, and custom patterns.

The same value in the same row becomes the same placeholder in its input, targets and all other
columns used: `Write to ann@example.org` and its target `ann@example.org` both get `[EMAIL_1]`,
another address `[EMAIL_2]`. Values are found by their form and checked (`pii_checks`), so unusual
spellings are not masked: look at the counts.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from data_prep.config import Mask
from data_prep.tasks.pii_checks import is_card, is_phone

Row = Mapping[str, Any]

# No alternative can match at two places of the same word, so the time is linear in the length of a
# text.
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_CARD = re.compile(
    r"(?<![\w+])(?:[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}|3[47]\d{2}([ -])\d{6}\2\d{5}|[2-6]\d{12,18})(?!\w)"
)
_SEPARATORS = re.compile(r"[\s()./-]")
_PHONE = re.compile(
    r"""(?<![\w.,/+-])(?:
        (?:\+|00)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,5}\)?){2,6}       # +49 30 1234567, 0044 20 7946 0958
      | (?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}          # (415) 555-0132, 1-800-555-0199
      | \(0\d{1,5}\)[ ]?\d{2,4}(?:[ -]?\d{2,4}){1,3}             # (030) 123 4567
      | 0\d{2,5}[ /-]\d{3,8}(?:[ -]\d{2,5}){0,3}                 # 030 1234567, 0171/1234567
      | 0\d(?:[ .-]\d{2}){4}                                     # 01 42 68 53 00
      | 0\d{9,10}                                                # 01711234567
    )(?![\w/]|[.,-]\d)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Form:
    """The form of values of one kind."""

    kind: str
    pattern: re.Pattern[str]
    precheck: re.Pattern[str] | None = None
    """Matches in every text that holds such a value, and takes a tenth of the time."""
    is_valid: Callable[[re.Match[str]], bool] = bool
    """Whether a match of the pattern is such a value."""


class Masker:
    """Masks the columns of rows, each row independently."""

    def __init__(self, mask: Mask) -> None:
        own = [_Form(name, re.compile(pattern)) for name, pattern in mask.patterns.items()]
        self._forms = [*own, *_builtin(mask)]

    def mask(self, row: Row, columns: Iterable[str]) -> tuple[dict[str, Any], dict[str, int]]:
        """Returns the row with text in `columns` masked, and counts by kind.

        Text inside lists and mappings is masked too.
        """
        seen: dict[str, dict[str, int]] = {}
        counts: Counter[str] = Counter()

        def replaced(value: Any) -> Any:
            if isinstance(value, str):
                return self._text(value, seen, counts)
            if isinstance(value, list):
                return [replaced(one) for one in value]
            if isinstance(value, dict):
                return {key: replaced(one) for key, one in value.items()}
            return value

        masked = {column: replaced(row[column]) for column in columns if column in row}
        return {**row, **masked}, dict(counts)

    def _text(self, text: str, seen: dict[str, dict[str, int]], counts: Counter[str]) -> str:
        for form in self._forms:
            if form.precheck is not None and not form.precheck.search(text):
                continue
            spans, end = [], 0
            for match in form.pattern.finditer(text):
                if not form.is_valid(match):
                    continue
                same = match[0].lower() if form.kind == "email" else _SEPARATORS.sub("", match[0])
                number = seen.setdefault(form.kind, {}).setdefault(same, len(seen[form.kind]) + 1)
                counts[form.kind] += 1
                spans += [text[end : match.start()], f"[{form.kind.upper()}_{number}]"]
                end = match.end()
            text = "".join([*spans, text[end:]])
        return text


def _builtin(mask: Mask) -> list[_Form]:
    """The forms of the kinds built in.

    Card before phone: part of a card number can look like a phone number.
    """
    forms = (
        _Form("email", _EMAIL, re.compile("@")),
        _Form("card", _CARD, re.compile(r"\d(?:[ -]?\d){12}"), is_card),
        _Form(
            "phone",
            _PHONE,
            re.compile(r"\d(?:[ ()./-]{0,3}\d){7}"),
            partial(is_phone, regions=tuple(mask.phone_regions)),
        ),
    )
    return [form for form in forms if form.kind in mask.kinds]
