"""Plain text, code and tables in GitHub-flavoured Markdown."""

import re
from collections.abc import Iterable, Sequence

_ACTIVE = re.compile(r"([\\`*_{}\[\]<>#|~!&@])")


def escape(text: str) -> str:
    """Escapes `text` as one line of plain text: no markup, link, mention or table border."""
    flat = " ".join(text.split())
    return _ACTIVE.sub(r"\\\1", flat).replace("://", ":&#8203;//")


def fence(text: str, language: str = "") -> str:
    """Puts `text` into a code fence that is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    bar = "`" * max(3, longest + 1)
    return f"{bar}{language}\n{text.rstrip()}\n{bar}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    """Renders a table of escaped cells; columns from `numbers_from` on are right-aligned."""
    rule = ["---" if i < numbers_from else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])
