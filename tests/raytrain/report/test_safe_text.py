import unicodedata
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from raytrain.report.safe_text import readable
from raytrain.report.words import agreement

anything = st.text(st.characters(), max_size=200)


@given(anything, st.integers(0, 100))
def test_readable_text_can_be_stored_and_holds_nothing_invisible(text, limit):
    shown = readable(text, limit)
    shown.encode()  # no lone surrogates
    bad = [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert not bad
    assert not set(shown) & {"\u202a", "\u202e", "\u2066", "\u2069", "\u200b", "\u2028", "\ufeff"}


def test_readable_says_how_much_was_cut():
    assert readable("w" * 100_000, 1000) == "w" * 1000 + " … [cut: 99,000 more characters]"
    assert readable("short", 5) == "short"


def test_readable_shows_what_would_turn_or_ring():
    assert readable("user\u202ecod.exe\x07", 100) == "user[U+202E]cod.exe␇"
    assert readable("a\r\nb\tc", 100) == "a\nb\tc"


@given(anything, anything, st.booleans())
def test_pieces_of_an_agreement_join_to_the_text(text, reference, exact):
    pieces = agreement(text, reference, exact=exact)
    assert "".join(p.text for p in pieces) == text
    assert all(a.agrees != b.agrees for a, b in pairwise(pieces))


@given(anything)
def test_a_text_agrees_with_itself(text):
    agrees = [p for p in agreement(text, text) if not p.agrees]
    assert all(p.text.isspace() for p in agrees)


def test_agreement_marks_words_in_order():
    found = agreement("Then Leo and Ana will meet in Oslo", "Ana and Leo meet in Porto")
    assert [p.text for p in found if p.agrees] == ["Leo", "meet in"]


def test_case_matters_only_where_exactness_is_asked():
    assert agreement("Total", "total")[0].agrees
    assert not agreement("Total", "total", exact=True)[0].agrees
