"""Prints results on standard output, as text or JSON, and notes on standard error."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from enum import StrEnum
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Format(StrEnum):
    """Values of `-o`."""

    TEXT = "text"
    JSON = "json"


def print_output(value: Any, text: str, form: Format) -> None:
    """Prints `value` as JSON, or `text`, depending on the format."""
    print_text(as_json(value) if form is Format.JSON else text)


def print_text(text: str) -> None:
    """Prints to standard output; replaces control characters if that is a terminal."""
    if sys.stdout.isatty():
        text = _CONTROL.sub("�", text)
    print(text)


def print_note(text: str) -> None:
    """Prints to standard error: for people, not for programs."""
    print(text, file=sys.stderr)


def as_json(value: Any) -> str:
    """Serializes plain data and dataclasses as indented JSON."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Aligns rows as columns; `right` lists the columns to align to the right."""
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
