"""Single values of a row after reading: NaN, numbers as text, lists written as text."""

import ast
import io
import itertools
import json
import math
import re
import tokenize
from collections.abc import Collection, Mapping
from typing import Any

from raytrain_core.errors import RowError
from raytrain_core.text import show_value

Row = Mapping[str, Any]

_LONGEST_LIST = 1 << 20
"""Characters of a text that is tried as a list."""
_LIST_BEGINS = re.compile(r"\s*(?:[\[({]|array\s*\()")
_TEXTS_BEGIN = re.compile(r"\s*(?:array\s*\()?\s*[\[({]\s*['\"]")
_WHOLE_TEXT = re.compile(r"[+-]?\d+(\.0)?")
_LAYOUT = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)


def is_nan(value: Any) -> bool:
    """Whether a value is the float that is not a number."""
    return isinstance(value, float) and math.isnan(value)


def without_nan(row: Row, columns: Collection[str] | None = None) -> tuple[Row, list[str]]:
    """Returns the row with None for every NaN, in lists too, and the columns that had one.

    pandas writes missing values as NaN. Only those of `columns` are named, by default all.
    """
    found = [name for name, value in row.items() if not isinstance(value, str) and _has_nan(value)]
    if not found:
        return row, found
    clean = {**row, **{name: _clean(row[name]) for name in found}}
    return clean, found if columns is None else [name for name in found if name in columns]


def _has_nan(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_nan, value))
    if isinstance(value, Mapping):
        return any(map(_has_nan, value.values()))
    return is_nan(value)


def _clean(value: Any) -> Any:
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _clean(one) for key, one in value.items()}
    return None if is_nan(value) else value


def is_number(value: Any) -> bool:
    """Whether a value is a number, which True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a number, or a text that spells one, has no fraction: 3, 3.0, "3", "3.0"."""
    if isinstance(value, str):
        return _WHOLE_TEXT.fullmatch(value.strip()) is not None
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def has_point_zero(value: Any) -> bool:
    """Whether a whole number is written with `.0`, as pandas writes one next to missing values."""
    if isinstance(value, str):
        return value.strip().endswith(".0") and is_whole(value)
    return isinstance(value, float) and value.is_integer()


def number_text(value: float, *, whole: bool) -> str:
    """Returns a number as text; `whole` writes 3.0 as 3. Raises RowError for an infinite one."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RowError(f"{value} is not a finite number")
    return str(int(value)) if whole and is_whole(value) else str(value)


def parse_list(text: str) -> list[Any] | dict[str, Any] | None:
    """Returns the list or mapping that a cell spells as JSON or as Python does; else None.

    pandas writes a list of texts as `['a', 'b']`, with `nan` for what is missing, and an array as
    `array(['a', 'b'], dtype=object)`. `['a' 'b']`, as numpy writes it, is no list: Python would
    join the two.
    """
    text = text.strip()
    pair = (text[-1:] if text.startswith("array") else text[:1], text[-1:])
    if pair not in (("[", "]"), ("{", "}"), ("(", ")"), (")", ")")) or len(text) > _LONGEST_LIST:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _python_list(text)
    if isinstance(value, tuple):
        value = list(value)
    return _clean(value) if isinstance(value, list | dict) else None


def looks_like_list(text: str) -> bool:
    """Whether a text begins as a list, a mapping or an array is written."""
    return _LIST_BEGINS.match(text) is not None


def spells_texts(text: str) -> bool:
    """Whether a text begins with a bracket and a quotation mark, as lists of texts are written."""
    return _TEXTS_BEGIN.match(text) is not None


class _Literals(ast.NodeTransformer):
    """Replaces `nan` by None, and `array([...], dtype=object)` by its list."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(None) if node.id == "nan" else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id == "array" and len(node.args) == 1:
            return self.visit(node.args[0])  # type: ignore[no-any-return]
        return node


def _python_list(text: str) -> Any:
    try:
        value = ast.literal_eval(_Literals().visit(ast.parse(text, mode="eval")))
        kinds = [t.type for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in _LAYOUT]
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError, TypeError):
        return None
    joined = any(a == b == tokenize.STRING for a, b in itertools.pairwise(kinds))
    return None if joined else value


def unpacked(value: Any) -> Any:
    """Returns a list or mapping that a CSV file holds as text; any other value as it is."""
    if isinstance(value, str) and (found := parse_list(value)) is not None:
        return found
    return value


def require_finite(value: Any, column: str) -> None:
    """Raises RowError for an infinite number."""
    if isinstance(value, float) and math.isinf(value):
        raise RowError(f"{column!r} is {show_value(value)}, which is not a finite number")
