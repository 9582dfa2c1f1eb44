"""Compares texts word by word: what agrees with a reference, and what changed."""

import difflib
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

_WORDS = re.compile(r"\w+|[^\w\s]|\s+")
_DELETED: Literal["del"] = "del"
_INSERTED: Literal["ins"] = "ins"
_EXACT = {"code-translation"}  # task types in which case matters


class Span(NamedTuple):
    """A span of text that agrees with the reference, or does not."""

    text: str
    agrees: bool


def agreement(text: str, reference: str, *, exact: bool = False) -> list[Span]:
    """Splits `text` into spans whose words occur in `reference` in the same order, and the others.

    Case is ignored unless `exact`. White space between two agreeing words agrees as well. Joining
    the spans gives `text` back.
    """
    words = _WORDS.findall(text)
    keys = [w if exact else w.casefold() for w in words]
    expected = [w if exact else w.casefold() for w in _WORDS.findall(reference) if not w.isspace()]
    places = [i for i, w in enumerate(words) if not w.isspace()]
    matcher = difflib.SequenceMatcher(None, [keys[i] for i in places], expected, autojunk=False)
    agrees = [False] * len(words)
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            agrees[places[block.a + offset]] = True
    for i, word in enumerate(words):
        if word.isspace() and 0 < i < len(words) - 1:
            agrees[i] = agrees[i - 1] and agrees[i + 1]
    spans: list[Span] = []
    for word, good in zip(words, agrees, strict=True):
        if spans and spans[-1].agrees == good:
            spans[-1] = Span(spans[-1].text + word, good)
        else:
            spans.append(Span(word, good))
    return spans


def closest_agreement(answer: str, references: Sequence[str], *, task_type: str) -> list[Span]:
    """Returns the agreement with the reference that shares the most characters with the answer."""
    exact = task_type in _EXACT
    candidates = [agreement(answer, reference, exact=exact) for reference in references or [""]]
    return max(candidates, key=lambda spans: sum(len(span.text) for span in spans if span.agrees))


class Change(NamedTuple):
    """A piece of text that stayed, was deleted or was inserted; the kinds are those of HTML."""

    text: str
    kind: Literal["same", "del", "ins"]


def changes(old: str, new: str) -> list[Change]:
    """Returns how `old` becomes `new`, word by word.

    White space between two changed words belongs to the change. Joining the pieces that were not
    inserted gives `old` back, those that were not deleted `new`.
    """
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    pieces: list[Change] = []
    deleted = inserted = ""
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for tag, i, j, k, end in blocks:
        gone, come = "".join(before[i:j]), "".join(after[k:end])
        if tag == "equal" and not (gone.isspace() and (deleted or inserted) and j < len(before) and end < len(after)):
            pieces += _replaced(deleted, inserted)
            pieces.append(Change(gone, "same"))
            deleted = inserted = ""
        else:
            deleted, inserted = deleted + gone, inserted + come
    return pieces + _replaced(deleted, inserted)


def _replaced(deleted: str, inserted: str) -> list[Change]:
    return [Change(text, kind) for text, kind in ((deleted, _DELETED), (inserted, _INSERTED)) if text]
