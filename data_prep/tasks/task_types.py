"""What a task type brings: its answer format and how an answer is read back."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from data_prep.config import Task
from raytrain_core.errors import RowError

RATING_LABELS = ("1", "2", "3", "4", "5")
SENTIMENT_LABELS = ("negative", "positive")
NO_ENTITIES = "none"

_BETWEEN = " | "
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_LETTER = re.compile(r"^\(?([A-Za-z])\)?[.:]?$")


def labels_of(task: Task) -> tuple[str, ...] | None:
    """The answers that a task allows: its labels, else what its source's labels mean, else its type's; None for any."""
    if task.labels is not None:
        return tuple(task.labels)
    if task.label_names is not None and task.type != "ner":
        return tuple(dict.fromkeys(task.label_names.values()))
    return {"rating": RATING_LABELS, "sentiment": SENTIMENT_LABELS}.get(task.type)


@dataclass(frozen=True, slots=True)
class TargetFormat:
    """What stands around a target when it is written as an answer."""

    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, task: Task) -> Self:
        """As the task's `answer` says."""
        before, _, after = (task.target_format or "{target}").partition("{target}")
        return cls(before, after)

    def wrap(self, target: str) -> str:
        """The answer."""
        return f"{self.before}{target}{self.after}"

    def unwrap(self, answer: str) -> str:
        """The target in an answer, of which what stands around it may be missing; white space does not matter."""
        if not self.before and not self.after:
            return answer
        text = answer.strip().removeprefix(self.before.strip())
        return text.removesuffix(self.after.strip()).strip()


def format_entities(entities: Iterable[tuple[str, str]]) -> str:
    """`PER: Philip Kowalski | ORG: Aurora Bank`, in order of appearance; `none` where there are none.

    A `|` inside an entity becomes `/`, runs of spaces one space: the answer must stay readable
    back.
    """
    parts = (f"{kind}: {' '.join(text.replace('|', '/').split())}" for kind, text in entities)
    return _BETWEEN.join(parts) or NO_ENTITIES


def parse_entities(answer: str) -> list[tuple[str, str]] | None:
    """The (type, text) pairs of an answer, [] for `none`; None if it is not of this form."""
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


def entities_of(tokens: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str]]:
    """The (type, text) pairs of a tagged sentence: BIO, BIOES, IOB1, or bare types (I only).

    An `I-` that continues nothing begins an entity; `B-` (and S, U) always does.
    """
    if len(tokens) != len(tags):
        raise RowError(f"{len(tokens)} tokens but {len(tags)} tags")
    entities: list[tuple[str, list[str]]] = []
    open_kind: str | None = None
    for token, tag in zip(tokens, tags, strict=True):
        if tag in ("O", ""):
            open_kind = None
            continue
        mark, dash, kind = tag.partition("-")
        if not dash or mark not in "BIESLU" or len(mark) != 1:
            mark, kind = "I", tag
        if not kind:
            raise RowError(f"tag {tag!r} names no type")
        if mark in "BSU" or kind != open_kind:
            entities.append((kind, []))
        entities[-1][1].append(token)
        open_kind = None if mark in "ESLU" else kind
    joined = ((kind, " ".join(" ".join(words).split())) for kind, words in entities)
    return [(kind, text) for kind, text in joined if text]


def normal_label(value: str) -> str:
    """A label without surrounding spaces; a whole number without its zeros: `5.0` and `05` are `5`."""
    text = value.strip()
    if re.fullmatch(r"[+-]?\d+(\.0*)?", text):
        return str(int(text.partition(".")[0]))
    return text


def find_label(value: str, labels: Sequence[str]) -> str | None:
    """The label that `value` means: the same one, after `normal_label`, or but for case where that is clear.

    A whole number is the label at that place, counted from 0, where no label is a number.
    """
    wanted = normal_label(value)
    for label in labels:
        if normal_label(label) == wanted:
            return normal_label(label)
    folded = [normal_label(label) for label in labels if normal_label(label).casefold() == wanted.casefold()]
    if len(folded) == 1:
        return folded[0]
    if wanted.isdecimal() and int(wanted) < len(labels) and not any(_NUMBER.fullmatch(one.strip()) for one in labels):
        return normal_label(labels[int(wanted)])
    return None


def letter(index: int) -> str:
    """How option `index` is named: (A), (B), ..."""
    return f"({chr(ord('A') + index)})"


def format_options(choices: Sequence[str]) -> str:
    """The options below a question, as BIG-Bench Hard writes them."""
    return "\n".join(["Options:", *(f"{letter(i)} {choice}" for i, choice in enumerate(choices))])


def find_choice(value: str | int, choices: Sequence[str], names: Sequence[str] | None = None) -> int:
    """Which of `choices` is meant: by its text, by one of `names`, by letter, or (a number) counted from 0."""
    if isinstance(value, int):
        if not 0 <= value < len(choices):
            raise RowError(f"answer {value} is none of the {len(choices)} choices (counted from 0)")
        return value
    text = value.strip()
    if names and text in names:
        return names.index(text)
    if choices.count(text) == 1:
        return choices.index(text)
    match = _LETTER.match(text)
    if match and (index := ord(match[1].upper()) - ord("A")) < len(choices):
        return index
    raise RowError(f"answer {text[:60]!r} is none of the choices")
