"""Which spelling the tags of a ner column have, found over the whole column.

The mark of a tag (B, I, E, S, L, U, ...) stands before or behind the type, with some separator, in
either case: `B-PER`, `PER-B`, `B_PER`, `b-per`. Sources: CoNLL's IOB1 and IOB2, IOBES, BILOU, BMES;
the suffix option of seqeval. A column in which tags of two spellings meet is refused, not guessed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from data_prep.config import Marks, TagScheme
from raytrain_core.errors import DataError, RowError

INVENTORIES: dict[Marks, str] = {"BIO": "BI", "IOBES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
"""Marks of each scheme, without O. `L` and `E` end an entity, `U`, `S` and `W` are a whole one, `M`
is inside."""
_MARKS = "BIESLUMW"
_SEPARATORS = ("-", "_", ":", "/", ".", "|", "#", "–", " ", "__", "--", "::", "")
_OUTSIDE = ("O", "", "0", "_", "-")
_MOST_TAGS = 20_000
_SAME = str.maketrans("MLW", "IEU")  # marks with the same meaning in the schemes above
_BRACKETS = frozenset("*()<>[]{}")
_FIRST_WORDS = ("begin", "beginning", "beg", "start", "first")
_NEXT_WORDS = ("inside", "in", "inner", "int", "internal", "intermediate", "mid", "middle", "cont", "continue", "last")


@dataclass(frozen=True, slots=True)
class Tags:
    """A spelling, applied to the tags of a row."""

    scheme: TagScheme
    known: Mapping[str, str]
    """Types of the column by their lower-case form: spellings that differ by case are one type."""

    @property
    def is_plain(self) -> bool:
        """Whether tags are spelled as in CoNLL already: nothing is rewritten."""
        return self.scheme.position == "before" and self.scheme.separator == "-" and not self.scheme.any_case

    def read(self, tag: str) -> tuple[str, str] | None:
        """Returns mark and type; None outside entities.

        Raises RowError for a tag of another spelling.
        """
        tag = tag.strip()
        if _is_outside(tag, self.scheme):
            return None
        if self.scheme.marks == "types":
            return "I", tag
        found = split_tag(tag, self.scheme)
        if found is None:
            raise RowError(f"tag {tag!r} is not spelled as the other tags of the column ({describe(self.scheme)})")
        mark, kind = found
        if not kind and self.scheme.type is None:
            raise RowError(f"tag {tag!r} names no type")
        kind = kind or str(self.scheme.type)
        return mark.upper().translate(_SAME), self.known.get(kind.casefold(), kind)


def split_tag(tag: str, scheme: TagScheme) -> tuple[str, str] | None:
    """Returns mark and type of a tag; None if it has another spelling."""
    marks = INVENTORIES[scheme.marks] if scheme.marks != "types" else ""
    folded = marks + marks.lower() if scheme.any_case else marks
    if tag and tag in folded:
        return tag, ""
    if scheme.position == "before":
        mark, rest = tag[:1], tag[1:]
        if mark and mark in folded and rest.startswith(scheme.separator) and len(rest) > len(scheme.separator):
            return mark, rest[len(scheme.separator) :]
        return None
    mark, rest = tag[-1:], tag[:-1]
    if mark and mark in folded and rest.endswith(scheme.separator) and len(rest) > len(scheme.separator):
        return mark, rest[: len(rest) - len(scheme.separator)]
    return None


def _is_outside(tag: str, scheme: TagScheme) -> bool:
    return tag in scheme.outside or (scheme.any_case and tag.upper() in scheme.outside)


def describe(scheme: TagScheme) -> str:
    """Returns a spelling in words, for messages and records."""
    if scheme.marks == "types":
        return "tags are types, without marks"
    place = "before" if scheme.position == "before" else "behind"
    joined = f"separated by {scheme.separator!r}" if scheme.separator else "without separator"
    return f"{scheme.marks} marks {place} the type, {joined}" + (", in any case" if scheme.any_case else "")


def detect(tags: Counter[str], labels: Sequence[str] | None, where: str) -> Tags:
    """Finds the spelling of a column from all its tags.

    Raises DataError if none explains them all, or if the type is not named.
    """
    names = [tag for tag in tags if tag.strip()]
    if len(names) > _MOST_TAGS:
        raise DataError(f"{where}: more than {_MOST_TAGS:,} different tags", hint="Is `columns.tags` the right column?")
    if bracketed := [tag for tag in names if _BRACKETS & set(tag)]:
        raise DataError(
            f"{where}: {bracketed[0]!r} has a bracket, as tags of CoNLL-2012 or XML have; such tags are not read",
            hint="Write the tags as BIO: B-PER, I-PER, O.",
        )
    inside = [tag.strip() for tag in names if tag.strip() not in _OUTSIDE and tag.strip().upper() != "O"]
    candidates = [scheme for scheme in _candidates(inside) if _explains(scheme, inside)]
    if candidates:
        scheme = _best(candidates, inside)
    elif mixed := _mixed(inside):
        raise DataError(
            f"{where}: some tags carry a mark ({mixed[0]!r}) and some do not ({mixed[1]!r})",
            hint="Correct the tags, or say how they are spelled with `tagScheme`, e.g. {marks: types}.",
        )
    elif spelled := _spelled_out(inside):
        raise DataError(
            f"{where}: {spelled[0]!r} and {spelled[1]!r} seem to be marks written out, which are not read",
            hint="Write the tags as BIO (B-PER, I-PER, O), or say tagScheme: {marks: types} if these are two types.",
        )
    else:
        scheme = TagScheme(marks="types")
    scheme = _with_outside(scheme, names)
    if scheme.marks != "types" and any(len(tag) == 1 for tag in inside):
        scheme = _with_type(scheme, labels, where)
    return Tags(scheme, spellings(tags, scheme, labels))


def spellings(tags: Counter[str], scheme: TagScheme, labels: Sequence[str] | None) -> dict[str, str]:
    """Returns the one spelling of every type: that of `labels`, else the most frequent one."""
    counted: Counter[str] = Counter()
    for tag, count in tags.items():
        if scheme.marks != "types" and (found := split_tag(tag.strip(), scheme)) is not None and found[1]:
            counted[found[1]] += count
    known = {kind.casefold(): kind for kind, _ in sorted(counted.items(), key=lambda item: (item[1], item[0]))}
    return known | {label.casefold(): label for label in labels or ()}


def _candidates(inside: Sequence[str]) -> Iterator[TagScheme]:
    """All spellings, the usual ones first."""
    for any_case in (False, True):
        for position in ("before", "behind"):
            for separator in _SEPARATORS:
                for marks in INVENTORIES:
                    yield TagScheme(marks=marks, position=position, separator=separator, any_case=any_case)


def _explains(scheme: TagScheme, inside: Sequence[str]) -> bool:
    """Whether every tag has this spelling, and one of them a mark that begins or continues."""
    split = [split_tag(tag, scheme) for tag in inside]
    found = [pair for pair in split if pair is not None]
    if not found or len(found) < len(split):
        return False
    if any(kind and not kind[0 if scheme.position == "before" else -1].isalnum() for _, kind in found):
        return False  # what is left of another separator
    marks = {mark.upper() for mark, _ in found}
    usual = scheme.position == "before" and scheme.separator == "-" and not scheme.any_case
    if not usual and not marks & set("BIM"):
        return False
    return scheme.separator != "" or _paired(found)


def _paired(found: Iterable[tuple[str, str]]) -> bool:
    """Whether every type begins somewhere and one of them continues: `BPER IPER`, not `BIRD`."""
    marks: dict[str, set[str]] = {}
    for mark, kind in found:
        marks.setdefault(kind, set()).add(mark.upper())
    return all("B" in one for one in marks.values()) and any(len(one) > 1 for one in marks.values())


def _best(candidates: Sequence[TagScheme], inside: Sequence[str]) -> TagScheme:
    """The spelling with the fewest types: `PER-B PER-I` are marks of one type."""

    def types(scheme: TagScheme) -> int:
        return len({(split_tag(tag, scheme) or ("", tag))[1].casefold() for tag in inside})

    return min(candidates, key=types)  # the first of equals: the usual one


def _mixed(inside: Sequence[str]) -> tuple[str, str] | None:
    """A tag with a mark and one without, if both occur: `B-PER` and `PER`."""
    marked = re.compile(r"[BI]-.+")
    both = [tag for tag in inside if marked.fullmatch(tag)]
    if not both:
        both = [
            tag
            for scheme in _candidates(inside)
            for pairs in [[(tag, split_tag(tag, scheme)) for tag in inside]]
            if scheme.separator and _paired_some([pair for _, pair in pairs if pair is not None])
            for tag, pair in pairs
            if pair is not None and pair[1]
        ]
    if not both:
        return None
    others = [tag for tag in inside if tag not in both]
    return both[0], (others or both[1:] or both)[0]


def _spelled_out(inside: Sequence[str]) -> tuple[str, str] | None:
    """Two tags of one type whose marks are words: `BEGIN-PER` and `INSIDE-PER`."""
    firsts: dict[str, str] = {}
    others: dict[str, str] = {}
    for tag in inside:
        parts = re.split(r"[\W_]+", tag.casefold())
        for word, kind in ((parts[0], parts[1:]), (parts[-1], parts[:-1])):
            if word in _FIRST_WORDS:
                firsts["-".join(kind)] = tag
            elif word in _NEXT_WORDS:
                others["-".join(kind)] = tag
    both = sorted(firsts.keys() & others.keys() - {""})
    return (firsts[both[0]], others[both[0]]) if both else None


def _paired_some(found: Iterable[tuple[str, str]]) -> bool:
    marks: dict[str, set[str]] = {}
    for mark, kind in found:
        marks.setdefault(kind, set()).add(mark.upper())
    return any({"B", "I"} <= one for one in marks.values())


def _with_outside(scheme: TagScheme, names: Sequence[str]) -> TagScheme:
    present = {tag.strip() for tag in names}
    outside = [tag for tag in (*_OUTSIDE, "o") if tag in present or tag in ("O", "")]
    return scheme.model_copy(update={"outside": outside})


def _with_type(scheme: TagScheme, labels: Sequence[str] | None, where: str) -> TagScheme:
    if labels is not None and len(labels) == 1:
        return scheme.model_copy(update={"type": labels[0]})
    raise DataError(
        f"{where}: tags are marks alone (B, I, O), which name no entity type",
        hint="Name the type with `labels`, e.g. labels: [PER].",
    )
