import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tasks.answers import find_choice
from data_prep.tasks.labels import RATING_LABELS, find_label
from data_prep.tasks.task_types import entities_of, format_entities, format_options, parse_entities
from raytrain_core.errors import RowError

words = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="|"), min_size=1, max_size=8)
entity_texts = st.lists(words, min_size=1, max_size=3).map(" ".join)
kinds = st.text(st.characters(categories=["L"]), min_size=1, max_size=8)


def test_entities_are_written_in_order_of_appearance():
    entities = [("PER", "Philip Kowalski"), ("ORG", "Aurora Bank")]
    assert format_entities(entities) == "PER: Philip Kowalski | ORG: Aurora Bank"
    assert format_entities([]) == "none"


@given(entities=st.lists(st.tuples(kinds, entity_texts), max_size=4))
def test_what_is_written_is_read_back(entities):
    assert parse_entities(format_entities(entities)) == entities


@pytest.mark.parametrize(
    ("answer", "entities"),
    [
        ("none", []),
        (" None. ", []),
        ("PER:Ann|LOC : New  York", [("PER", "Ann"), ("LOC", "New York")]),
        ("TIME: 10:30", [("TIME", "10:30")]),
        ("", None),
        ("Ann", None),
        ("PER: Ann | ", None),
        ("PER:", None),
        (": Ann", None),
    ],
)
def test_answers_of_a_model_are_read_leniently_or_not_at_all(answer, entities):
    assert parse_entities(answer) == entities


def test_a_bar_inside_an_entity_does_not_break_the_answer():
    assert parse_entities(format_entities([("ORG", "A | B")])) == [("ORG", "A / B")]


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("B-PER I-PER O B-LOC", [("PER", "a b"), ("LOC", "d")]),
        ("I-PER I-PER O I-LOC", [("PER", "a b"), ("LOC", "d")]),  # I only
        ("I-PER B-PER O O", [("PER", "a"), ("PER", "b")]),  # IOB1: B where two meet
        ("B-PER I-LOC I-LOC O", [("PER", "a"), ("LOC", "b c")]),
        ("S-PER B-LOC I-LOC E-LOC", [("PER", "a"), ("LOC", "b c d")]),
        ("E-PER I-PER O O", [("PER", "a"), ("PER", "b")]),
        ("PER PER O LOC", [("PER", "a b"), ("LOC", "d")]),
        ("B-creative-work I-creative-work O O", [("creative-work", "a b")]),
        ("O O O O", []),
    ],
)
def test_tags_become_entities(tags, entities):
    assert entities_of(list("abcd"), tags.split()) == entities


def test_tags_that_fit_no_tokens_are_refused():
    with pytest.raises(RowError, match="2 tokens but 1 tags"):
        entities_of(["a", "b"], ["O"])
    with pytest.raises(RowError, match="names no type"):
        entities_of(["a"], ["B-"])


def test_blank_tokens_make_no_entity():
    assert entities_of(["", "b", " "], ["B-PER", "O", "B-LOC"]) == []


@pytest.mark.parametrize("value", ["5", " 5 ", "5.0", "5.", "05"])
def test_whole_numbers_are_the_label_they_mean(value):
    assert find_label(value, RATING_LABELS) == "5"


@pytest.mark.parametrize("value", ["6", "4.5", "five", "", "-1", "5/5"])
def test_other_values_are_no_label(value):
    assert find_label(value, RATING_LABELS) is None


def test_case_matters_only_where_two_labels_differ_by_it():
    assert find_label("POSITIVE", ["positive", "negative"]) == "positive"
    assert find_label("A", ["a", "A"]) == "A"
    assert find_label("YES", ["Yes", "yes"]) is None


def test_choices_are_found_by_text_letter_name_or_number():
    choices = ["red", "green", "B"]
    assert [find_choice(v, choices) for v in ("green", "(A)", "c", "B.", "B", 2)] == [1, 0, 2, 1, 2, 2]
    assert find_choice("2", choices, names=["1", "2", "3"]) == 1
    assert find_choice("0", choices) == find_choice(0, choices) == 0  # one rule for CSV and JSON
    for wrong in ("blue", "D", "3", 3, -1):
        with pytest.raises(RowError, match="not one of the"):
            find_choice(wrong, choices)
    assert format_options(["red", "green"]) == "Options:\n(A) red\n(B) green"
