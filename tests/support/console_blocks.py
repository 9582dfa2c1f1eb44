"""The commands of the documentation: `console` blocks, the mark before each, their commands."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs/tutorials").glob("*.md")),
    *sorted((REPOSITORY / "docs/how-to").glob("*.md")),
    *sorted((REPOSITORY / "examples").glob("*/README.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (.+?) -->\n*\Z")
_HEREDOC = re.compile(r"<<'?(\w+)'?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    mark: str | None

    @property
    def place(self) -> str:
        """Page and line, as an editor understands it."""
        return f"{self.page}:{self.line}"

    @property
    def not_run(self) -> str | None:
        """The reason why it is not run, where there is one."""
        return self.mark.removeprefix("not run: ") if self.mark and self.mark.startswith("not run: ") else None

    def commands(self) -> list[str]:
        """What follows each `$ `, with its continuation lines; other lines are output."""
        lines, commands = iter(self.text.splitlines()), []
        for line in lines:
            if not line.startswith("$ "):
                continue
            command = line.removeprefix("$ ")
            while _is_open(command):
                command += "\n" + next(lines)
            commands.append(command)
        return commands


def blocks(languages: frozenset[str] = frozenset({"console"})) -> list[Block]:
    """Every block of these languages in README, tutorials, how-tos and examples."""
    return [block for page in PAGES for block in _of(page) if block.language in languages]


def _of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()]
        mark = _MARK.search(before)
        name = page.relative_to(REPOSITORY).as_posix()
        found.append(Block(name, before.count("\n") + 1, fence[1], fence[2], mark[1] if mark else None))
    return found


def _is_open(command: str) -> bool:
    """Whether a command continues: a backslash, a here-document or a quote is open."""
    if command.endswith("\\"):
        return True
    if heredoc := _HEREDOC.search(command):
        return command.splitlines()[-1] != heredoc[1]
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False
