"""The plain form of short answers: signs with a meaning stay, decoration at the ends goes."""

import pytest

from raytrain.evaluation.answers.normal import normalize_answer


@pytest.mark.parametrize(
    ("first", "second"),
    [("5", "-5"), ("5", "5%"), ("C", "C#"), ("C++", "C"), ("3 14", "3.14"), ("314", "3.14"), ("10", "1.0"), (".5", "5"),
     ("+", "-"), ("x-1", "x 1"), ("2/3", "2 3"), ("~A", "A"), ("!true", "true"), ("a.b", "a b"), ("F#", "F"),
     ("n*", "n"), ("5!", "5"), ("n!", "n"), ("10²", "102"), ("H₂O", "H2O2"), ("1½", "11/2"), ("(0,1)", "[0,1]"),
     ("'5'", "5"), ("__init__", "init"), ("f'", "f"), ("$5", "5"), ("[1]", "1"), ("<5", "5"), (":)", ":("),
     ("well-known", "well known"), ("...", ".."), ("1,000", "1.000"), ("é", "e")],
)  # fmt: skip
def test_a_sign_that_carries_a_meaning_is_kept(first, second):
    assert normalize_answer(first) != normalize_answer(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [("The Hague.", "the hague"), ("(B)", "b"), (" (B). ", "B"), ("Yes!", "yes"), ("Is it?", "is it"), ("-5", "−5"),
     ("–", "-"), ('"Paris"', "Paris"), ("“Paris.”", "Paris"), ("**Paris**", "paris"), ("don’t", "don't"),
     ("«Да»", "да"), ("会議。", "会議"), ("ﬁne", "fine"), ("e\u0301", "é"), ("１２", "12"), ("a\u200bb", "ab"),
     ("a \n b", "A B"), ("5.", "5"), ("…", "...")],
)  # fmt: skip
def test_decoration_and_variants_do_not_count(first, second):
    assert normalize_answer(first) == normalize_answer(second)


@pytest.mark.parametrize("text", ["(B)", "...", "**", '""', "«»", "().", "x.y.", "''"])
def test_the_plain_form_is_stable_and_never_empty(text):
    plain = normalize_answer(text)
    assert plain
    assert normalize_answer(plain) == plain
