"""Closed lists of names and words, and the rule that assigns combinations of them to splits.

A model of this size cannot copy names that it has rarely seen, so every name occurs in training.
Held out are *combinations*: the CRC-32 of a pair such as (Emma, Patel) assigns it to one split.
"""

from collections.abc import Sequence
from random import Random
from typing import Literal
from zlib import crc32

Split = Literal["train", "validation", "test"]

FIRST_NAMES = (
    *("Ana", "Anton", "Boris", "Carla", "Cem", "Clara", "Daniel", "Diego", "Elena", "Emma", "Erik", "Farid", "Felix"),
    *("Grace", "Hana", "Hugo", "Ines", "Irina", "Ivan", "Jonas", "Julia", "Karim", "Laura", "Leila", "Leo", "Lina"),
    *("Lucia", "Marco", "Maria", "Mira", "Nadia", "Nora", "Olga", "Omar", "Oscar", "Paula", "Peter", "Philip", "Priya"),
    *("Ravi", "Rosa", "Samir", "Sara", "Simon", "Sofia", "Tara", "Tom", "Victor", "Yuki", "Zoe"),
)
LAST_NAMES = (
    *("Almeida", "Bauer", "Becker", "Costa", "Dubois", "Fischer", "Garcia", "Haddad", "Hansen", "Horvat", "Ito"),
    *("Jansen", "Khan", "Kim", "Kowalski", "Laurent", "Lopez", "Meyer", "Moreau", "Novak", "Okafor", "Patel", "Rossi"),
    *("Sato", "Silva", "Singh", "Tanaka", "Virtanen", "Weber", "Yilmaz"),
)
CITIES = (
    *("Athens", "Bergen", "Berlin", "Boston", "Bristol", "Cairo", "Chicago", "Cologne", "Dakar", "Delhi", "Denver"),
    *("Dublin", "Geneva", "Hamburg", "Hanoi", "Havana", "Kyoto", "Lagos", "Lima", "Lisbon", "London", "Lyon", "Madrid"),
    *("Milan", "Nairobi", "Naples", "Oslo", "Ottawa", "Paris", "Porto", "Prague", "Quito", "Seoul", "Turin", "Vienna"),
    "Zurich",
)
COMPANY_STEMS = (
    *(
        "Alpine",
        "Amber",
        "Atlas",
        "Aurora",
        "Cedar",
        "Delta",
        "Falcon",
        "Harbor",
        "Lunar",
        "Meridian",
        "Nordic",
        "Orion",
    ),
    *("Pioneer", "Sierra", "Summit", "Vertex"),
)
COMPANY_KINDS = ("Airlines", "Bank", "Energy", "Foods", "Insurance", "Motors", "Software", "Steel")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "March", "April", "June", "July", "September", "October", "December")


def split_of(kind: str, one: str, two: str) -> Split:
    """Returns the split of a pair: one eighth test, one eighth validation, the rest training."""
    part = crc32(f"{kind}/{one}/{two}".encode()) % 8
    return "test" if part == 0 else "validation" if part == 1 else "train"


def draw_pair(rng: Random, split: Split, kind: str, ones: Sequence[str], twos: Sequence[str]) -> tuple[str, str]:
    """Returns a random pair that belongs to `split`.

    Raises ValueError if the lists contain no such pair, as a list of one word may.
    """
    for _ in range(10_000):
        one, two = rng.choice(ones), rng.choice(twos)
        if one != two and split_of(kind, one, two) == split:
            return one, two
    raise ValueError(f"no pair of kind {kind!r} belongs to {split}")


def person(rng: Random, split: Split) -> str:
    """Returns a first and last name."""
    return " ".join(draw_pair(rng, split, "person", FIRST_NAMES, LAST_NAMES))


def company(rng: Random, split: Split) -> str:
    """Returns the two-word name of a company."""
    return " ".join(draw_pair(rng, split, "company", COMPANY_STEMS, COMPANY_KINDS))


def speakers(rng: Random, split: Split) -> tuple[str, str, str]:
    """Returns who starts a chat, who replies and who is mentioned.

    The first two are a pair of `split`. Each role has its own names, as a model this small cannot
    tell people apart by position alone.
    """
    return *draw_pair(rng, split, "speakers", FIRST_NAMES[::2], FIRST_NAMES[1::4]), rng.choice(FIRST_NAMES[3::4])
