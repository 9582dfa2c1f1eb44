"""How targets are written and parsed: the format around them, entities and choices."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from data_prep.config import Task
from raytrain_core.errors import RowError

NO_ENTITIES = "none"

_BETWEEN = " | "


@dataclass(frozen=True, slots=True)
class TargetFormat:
    """The text before and after a target in what the model generates."""

    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, task: Task) -> Self:
        """The format in the task's `targetFormat`."""
        before, _, after = (task.target_format or "{target}").partition("{target}")
        return cls(before, after)

    def wrap(self, target: str) -> str:
        """Returns the text that the model should generate for `target`."""
        return f"{self.before}{target}{self.after}"

    def unwrap(self, text: str) -> str:
        """Returns the target in a generated text, which may omit the text before and after it.

        White space is ignored.
        """
        if not self.before and not self.after:
            return text
        text = text.strip().removeprefix(self.before.strip())
        return text.removesuffix(self.after.strip()).strip()


def format_entities(entities: Iterable[tuple[str, str]]) -> str:
    """Returns `PER: Philip Kowalski | ORG: Aurora Bank`, in order of appearance.

    `none` without entities.

    A `|` inside an entity becomes `/` and runs of spaces become one, so that `parse_entities` can
    read it back.
    """
    parts = (f"{kind}: {' '.join(text.replace('|', '/').split())}" for kind, text in entities)
    return _BETWEEN.join(parts) or NO_ENTITIES


def parse_entities(answer: str) -> list[tuple[str, str]] | None:
    """Parses what `format_entities` writes into (type, text) pairs.

    Returns None for another form.
    """
    answer = answer.strip()
    if answer.lower().rstrip(".") == NO_ENTITIES:
        return []
    entities = []
    for part in answer.split("|"):
        kind, colon, text = part.partition(":")
        kind, text = kind.strip(), " ".join(text.split())
        if not colon or not kind or not text:
            return None
        entities.append((kind, text))
    return entities


def entities_of(
    tokens: Sequence[str], tags: Sequence[str], read: Callable[[str], tuple[str, str] | None] | None = None
) -> list[tuple[str, str]]:
    """Returns the (type, text) pairs of a tagged sentence: BIO, BIOES, IOB1 or bare types.

    `read` splits a tag into mark and type (None outside entities). `B` (and S, U) always begins an
    entity; `I` does if it continues none. Raises RowError for an invalid tag.
    """
    if len(tokens) != len(tags):
        raise RowError(f"{len(tokens)} tokens but {len(tags)} tags")
    entities: list[tuple[str, list[str]]] = []
    open_kind: str | None = None
    for token, tag in zip(tokens, tags, strict=True):
        found = (read or _plain_tag)(tag)
        if found is None:
            open_kind = None
            continue
        mark, kind = found
        if mark in "BSU" or kind != open_kind:
            entities.append((kind, []))
        entities[-1][1].append(token)
        open_kind = None if mark in "ESU" else kind
    joined = ((kind, " ".join(" ".join(words).split())) for kind, words in entities)
    return [(kind, text) for kind, text in joined if text]


def _plain_tag(tag: str) -> tuple[str, str] | None:
    """Mark and type of a tag as CoNLL spells it."""
    if tag in ("O", ""):
        return None
    mark, dash, kind = tag.partition("-")
    if not dash or mark not in "BIESLU" or len(mark) != 1:
        return "I", tag
    if not kind:
        raise RowError(f"tag {tag!r} names no type")
    return "E" if mark == "L" else mark, kind


def letter(index: int) -> str:
    """Returns the name of option `index`: (A), (B), ..."""
    return f"({chr(ord('A') + index)})"


def format_options(choices: Sequence[str]) -> str:
    """Returns the options below a question in the form of BIG-Bench Hard."""
    return "\n".join(["Options:", *(f"{letter(i)} {choice}" for i, choice in enumerate(choices))])
