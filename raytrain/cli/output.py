"""Printing: data on standard output as text or JSON, chatter on standard error."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from enum import StrEnum
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Format(StrEnum):
    """What `-o` takes."""

    TEXT = "text"
    JSON = "json"


def emit(value: Any, text: str, form: Format) -> None:
    """Print `value` as JSON or `text` as it is."""
    say(as_json(value) if form is Format.JSON else text)


def say(text: str) -> None:
    """Print to standard output; on a terminal without control characters, which model output may hold."""
    if sys.stdout.isatty():
        text = _CONTROL.sub("�", text)
    print(text)


def tell(text: str) -> None:
    """Print to standard error: for people, not for programs."""
    print(text, file=sys.stderr)


def as_json(value: Any) -> str:
    """JSON of plain data and dataclasses, indented."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows as aligned columns, the first row the headings; `right` are the columns of numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.rjust(widths[i]) if i in right else c.ljust(widths[i]) for i, c in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
