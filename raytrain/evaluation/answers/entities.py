"""Entities in an answer such as `PER: Ann | LOC: Rome`, which may be broken or cut off."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import regex

from data_prep.tasks.task_types import NO_ENTITIES
from raytrain.evaluation.answers.normal import normalize_answer

Entity = tuple[str, str]  # type, text

# "none found", "no named entities"
_NOTHING = regex.compile(
    rf"(?:{NO_ENTITIES}|no(?: named)? entit(?:y|ies))(?: (?:were |was |are |is )?(?:found|named|present))?"
)
# A bar separates where it stands next to white space or an end; "A|B" is part of a text.
_BAR = regex.compile(r"(?:^|\s)\s*\|\s*|\s*\|\s*(?:\s|$)")
# Before a known type and a colon, these separate too.
_BARE, _LOOSE = r"\|", r"\s*[;,\n]\s*"


@dataclass(frozen=True, slots=True)
class EntityAnswer:
    """What an answer says: its whole entities, and how many of its parts are none.

    `readable` is false for an answer without any whole entity that does not say `none` either.
    """

    entities: tuple[Entity, ...]
    broken: int
    readable: bool


def read_entities(
    answer: str, types: Collection[str], *, complete: bool, references: Iterable[Entity] = ()
) -> EntityAnswer:
    """Reads an answer; `types` are known types, and `complete` says that there are no others.

    A semicolon, comma or line break separates as a bar does where a known type and a colon follow,
    since no text of an entity goes on like that; if one of `references` does, bars alone separate.

    A part that is not `TYPE: text` is broken: the tail of an answer that was cut off, prose, or a
    type that the task does not have. A separator at the end is not a part. A lead-in (`Answer:
    none`, `Entities: PER: Ann`) is dropped, which is a first type outside `types` before `none` or
    before an entity of a known type.
    """
    if _says_nothing(answer):
        return EntityAnswer((), 0, True)
    loose = _before_a_type(_LOOSE, types)
    if loose is not None and any(loose.search(text) for _, text in references):
        loose = None
    parts = [" ".join(part.split()) for part in _split(answer, _before_a_type(_BARE, types), loose)]
    parts = [part for part in parts if part]
    if parts:
        parts[0] = _without_lead_in(parts[0], types)
        if len(parts) == 1 and _says_nothing(parts[0]):
            return EntityAnswer((), 0, True)
    found = [_entity(part, types if complete else None) for part in parts]
    entities = tuple(entity for entity in found if entity is not None)
    return EntityAnswer(entities, len(found) - len(entities), bool(entities))


def _says_nothing(text: str) -> bool:
    return _NOTHING.fullmatch(normalize_answer(text)) is not None


def _before_a_type(separator: str, types: Collection[str]) -> regex.Pattern[str] | None:
    """Matches a separator before a known type and a colon; None without known types."""
    known = "|".join(map(regex.escape, sorted(types)))
    return regex.compile(rf"(?:{separator})(?=(?:{known})\s*:)") if known else None


def _split(answer: str, *separators: regex.Pattern[str] | None) -> list[str]:
    """Splits at separating bars, and at what else separates."""
    pieces: list[str] = _BAR.split(answer)
    for separator in separators:
        pieces = [part for piece in pieces for part in (separator.split(piece) if separator else [piece])]
    return pieces


def _entity(part: str, types: Collection[str] | None) -> Entity | None:
    kind, _, text = part.partition(":")
    kind, text = kind.strip(), text.strip().replace("|", "/")  # as `format_entities` writes a bar
    return (kind, text) if kind and text and (types is None or kind in types) else None


def _without_lead_in(part: str, types: Collection[str]) -> str:
    lead, colon, rest = part.partition(":")
    if not colon or lead.strip() in types:
        return part
    if _says_nothing(rest) or rest.partition(":")[0].strip() in types:
        return rest.strip()
    return part
