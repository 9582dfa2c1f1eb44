"""Conditions over the columns of a row, as in `stars >= 4 and len(text) < 2000`.

A small subset of Python's expressions, parsed by Python and interpreted here: column names
(`row["odd name"]`, `user["country"]` inside a column), numbers, texts, True, False, None (also
true, false, null), lists of those, comparisons, `in`, `and`, `or`, `not`, `len()` and `lower()`.
Nothing is executed as code.

Columns of a CSV file are text: compared with a number (or True, False), a text counts as the number
it spells. Values that cannot be compared, such as null and a number, make the row a bad row; it is
never dropped silently.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raytrain_core.errors import RowError

Row = Mapping[str, Any]
_Value = Callable[[Row], Any]

_LONGEST = 2000
_KNOWN = "columns, numbers, texts, lists, comparisons, in, and, or, not, len() and lower()"
_EXAMPLE = "stars >= 4 and language == 'en'"
_CONSTANTS = {"null": None, "true": True, "false": False}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition."""

    text: str
    columns: tuple[str, ...]
    """Columns used, in order; a column missing in a row counts as None."""
    _holds: Callable[[Row], bool]

    def holds(self, row: Row) -> bool:
        """Whether it holds for `row`; raises RowError if its values cannot be compared."""
        try:
            return self._holds(row)
        except RowError as error:
            raise RowError(f"where: {error}") from None


def compile_condition(text: str) -> Condition:
    """Compiles a condition; raises ValueError that names the offending characters."""
    if len(text) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST:,} characters; use a row function (transform) instead")
    source = " ".join(text.split("\n")).strip()
    try:
        tree = ast.parse(source, mode="eval")
    except SyntaxError as error:
        place = f"character {error.offset or len(source) + 1} of {source!r}"
        raise ValueError(f"is not a condition: {place}: {error.msg}; an example is {_EXAMPLE}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ValueError("is not a condition: it cannot be parsed, or is nested too deeply") from None
    compiler = _Compiler(source)
    try:
        holds = compiler.condition(tree.body)
    except RecursionError:
        raise ValueError("is not a condition: it is nested too deeply") from None
    return Condition(source, tuple(dict.fromkeys(compiler.columns)), holds)


class _Compiler:
    """Compiles syntax nodes into functions of a row."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.columns: list[str] = []

    def condition(self, node: ast.expr) -> Callable[[Row], bool]:
        """Compiles an expression that is true or false."""
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.condition(value) for value in values]
                if isinstance(op, ast.And):
                    return lambda row: all(part(row) for part in parts)
                return lambda row: any(part(row) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.condition(operand)
                return lambda row: not part(row)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [self.value(side) for side in (left, *comparators)]
                steps = list(zip(sides[:-1], [self._comparison(op) for op in ops], sides[1:], strict=True))
                return lambda row: all(compare(a(row), b(row)) for a, compare, b in steps)
            case ast.Name() | ast.Subscript() | ast.Constant(value=bool()):
                value = self.value(node)
                shown = ast.unparse(node)
                return lambda row: _truth(value(row), shown)
        raise self._error(node, "is neither true nor false; compare it with something")

    def value(self, node: ast.expr) -> _Value:  # noqa: PLR0911 - one for each kind of node
        """Compiles an expression whose value can be compared."""
        match node:
            case ast.Constant(value=constant) if constant is None or isinstance(constant, bool | int | float | str):
                return lambda row: constant
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                negative = -number
                return lambda row: negative
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                members = [self.value(item) for item in items]
                return lambda row: [member(row) for member in members]
            case ast.Subscript(value=ast.Name(id="row"), slice=ast.Constant(value=str() as column)):
                return self._column(column)
            case ast.Name(id=name) if name in _CONSTANTS:
                known = _CONSTANTS[name]
                return lambda row: known
            case ast.Name(id=column):
                return self._column(column)
            case ast.Subscript(value=inner, slice=ast.Constant(value=str() | int() as key)):
                outer = self.value(inner)
                return lambda row: _inside(outer(row), key)
            case ast.Call(func=ast.Name(id="len"), args=[argument], keywords=[]):
                measured = self.value(argument)
                return lambda row: _length(measured(row))
            case ast.Call(func=ast.Name(id="lower"), args=[argument], keywords=[]):
                lowered = self.value(argument)
                return lambda row: _lower(lowered(row))
        raise self._error(node, f"is not allowed here; allowed are {_KNOWN}")

    def _column(self, column: str) -> _Value:
        self.columns.append(column)
        return lambda row: row.get(column)

    def _comparison(self, op: ast.cmpop) -> Callable[[Any, Any], bool]:  # noqa: PLR0911 - one for each operator
        match op:
            case ast.Eq():
                return _equal
            case ast.NotEq():
                return lambda a, b: not _equal(a, b)
            case ast.In():
                return _contains
            case ast.NotIn():
                return lambda a, b: not _contains(a, b)
            case ast.Is():
                return lambda a, b: a is b if a is None or b is None else _equal(a, b)
            case ast.IsNot():
                return lambda a, b: a is not b if a is None or b is None else not _equal(a, b)
        order, sign = _ORDER[type(op)], _SIGNS[type(op)]
        return lambda a, b: order(*_comparable(a, b, sign))

    def _error(self, node: ast.expr, what: str) -> ValueError:
        offset = len(self._source.encode()[: node.col_offset].decode())
        part = ast.get_source_segment(self._source, node) or ""
        return ValueError(f"is not a condition: character {offset + 1} of {self._source!r}: {part!r} {what}")


def _truth(value: Any, shown: str) -> bool:
    if isinstance(value, bool):
        return value
    raise RowError(f"{shown} is {_show(value)}, which is neither true nor false; compare it with something")


def _inside(value: Any, key: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    return None


def _length(value: Any) -> int:
    if isinstance(value, str | list | Mapping):
        return len(value)
    raise RowError(f"{_show(value)} has no len()")


def _lower(value: Any) -> str:
    if isinstance(value, str):
        return value.lower()
    raise RowError(f"{_show(value)} has no lower case")


def _equal(a: Any, b: Any) -> bool:
    a, b = _alike(a, b)
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    return bool(a == b)


def _contains(item: Any, container: Any) -> bool:
    if isinstance(container, str) and isinstance(item, str):
        return item in container
    if isinstance(container, list):
        return any(_equal(item, one) for one in container)
    raise RowError(f"cannot look for {_show(item)} in {_show(container)}")


def _comparable(a: Any, b: Any, sign: str) -> tuple[Any, Any]:
    a, b = _alike(a, b)
    for kind in (str, int | float):
        if isinstance(a, kind) and isinstance(b, kind) and not isinstance(a, bool) and not isinstance(b, bool):
            return a, b
    raise RowError(f"{_show(a)} {sign} {_show(b)} cannot be compared")


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Both values; a text compared with a number or truth value is converted if it spells one."""
    if isinstance(a, str) and isinstance(b, bool | int | float):
        return _written(a, b), b
    if isinstance(b, str) and isinstance(a, bool | int | float):
        return a, _written(b, a)
    return a, b


def _written(text: str, like: bool | float) -> Any:
    if isinstance(like, bool):
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    try:
        return float(text) if text.strip() else text
    except ValueError:
        return text


def _show(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
