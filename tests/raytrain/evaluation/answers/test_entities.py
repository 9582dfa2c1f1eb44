"""Entities in answers that are whole, broken, cut off, or introduced by some words."""

import pytest

from raytrain.evaluation.answers.entities import read_entities
from raytrain.evaluation.metrics import METRICS

TYPES = ("LOC", "ORG", "PER", "TIME")
GOLD = "PER: Ana Costa | LOC: Porto | ORG: Acme"


def read(answer, types=TYPES):
    found = read_entities(answer, types, complete=True)
    return list(found.entities), found.broken, found.readable


def scores(prediction, target=GOLD):
    return {
        name: METRICS[name].score(METRICS[name].stats_many([prediction], [[target]], [{"entity_types": TYPES}]))
        for name in ("f1", "precision", "recall", "unparsable")
    }


@pytest.mark.parametrize("tail", ["", " |", "|", " | ", " ||"])
def test_a_separator_at_the_end_is_no_part(tail):
    assert scores(GOLD + tail) == {"f1": 1, "precision": 1, "recall": 1, "unparsable": 0}


@pytest.mark.parametrize("tail", ["OR", "ORG", "ORG:", "O", ": Acme"])
def test_a_cut_tail_is_one_wrong_entity_and_the_whole_ones_count(tail):
    found = scores(f"PER: Ana Costa | LOC: Porto | {tail}")
    assert found == pytest.approx({"f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "unparsable": 0})


def test_a_broken_part_in_the_middle_costs_one_too():
    assert read("PER: Ann | in Rome | LOC: Oslo") == ([("PER", "Ann"), ("LOC", "Oslo")], 1, True)


@pytest.mark.parametrize(
    "answer", ["none", "None.", "Answer: none", "Entities: None", "none found", "**none**", "No named entities found."]
)
def test_ways_to_say_that_there_is_none(answer):
    assert read(answer) == ([], 0, True)
    assert scores(answer, "none")["f1"] == 1


def test_a_lead_in_is_not_a_type():
    assert read("Entities: PER: Ann | LOC: Rome") == ([("PER", "Ann"), ("LOC", "Rome")], 0, True)
    assert read("Answer: Ann") == ([], 1, False)
    assert read("TIME: 12:30") == ([("TIME", "12:30")], 0, True)
    assert read("PER: none") == ([("PER", "none")], 0, True)


@pytest.mark.parametrize(("answer", "broken"), [("", 0), (" | ", 0), ("Ann lives in Rome", 1), ("none none", 1)])
def test_an_answer_without_entity_is_unparsable_not_none(answer, broken):
    assert read(answer) == ([], broken, False)
    assert scores(answer, "none")["f1"] == 0


def test_prose_costs_precision():
    metric = METRICS["precision"]
    stats = metric.stats_many(["PER: Ann", "Ann lives in Rome"], [["PER: Ann"], ["LOC: Rome"]], [{}] * 2)
    assert metric.score(stats) == 0.5


def test_a_bar_inside_a_word_is_part_of_the_text_as_references_write_it():
    assert read("ORG: A|B | LOC: Rome") == ([("ORG", "A/B"), ("LOC", "Rome")], 0, True)
    assert read("PER: Ann|LOC: Rome") == ([("PER", "Ann"), ("LOC", "Rome")], 0, True)


@pytest.mark.parametrize("between", ["; ", ";", ", ", "\n", ";\n", " ;  "])
def test_other_separators_separate_before_a_known_type(between):
    assert scores(GOLD.replace(" | ", between)) == {"f1": 1, "precision": 1, "recall": 1, "unparsable": 0}


def test_other_separators_make_no_wrong_answer_right():
    assert read("PER: Ana, Costa; LOC: Porto\n Norte") == ([("PER", "Ana, Costa"), ("LOC", "Porto Norte")], 0, True)
    assert read("PER: Ana; Costa: Porto") == ([("PER", "Ana; Costa: Porto")], 0, True)  # no known type
    assert read("PER: Ann; Rome") == ([("PER", "Ann; Rome")], 0, True)
    assert read("PER: Ann, LOC: Rome, LO") == ([("PER", "Ann"), ("LOC", "Rome, LO")], 0, True)
    assert scores("PER: Ana Costa; LOC: Lisbon; ORG: Acme")["f1"] == pytest.approx(2 / 3)
    assert scores("PER: Ana Costa; PER: Ana Costa; PER: Ana Costa", "PER: Ana Costa")["precision"] == pytest.approx(
        1 / 3
    )


def test_a_reference_that_has_such_a_separator_inside_is_read_as_it_is_written():
    title = "ORG: Who, PER: what | LOC: Rome"
    assert scores(title, title)["f1"] == 1


def test_without_known_types_any_type_is_one():
    found = read_entities("DATE: May", (), complete=False)
    assert (found.entities, found.broken, found.readable) == ((("DATE", "May"),), 0, True)
