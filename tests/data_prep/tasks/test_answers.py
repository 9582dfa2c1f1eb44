"""Numbers as answers: one rule for JSON and CSV, and no meaning that is guessed."""

import csv
import json

import pytest

from data_prep.sources.task_files import source_files
from data_prep.tasks.answers import find_choice
from data_prep.tasks.labels import require_label
from data_prep.tasks.task_rows import read_task_rows
from raytrain_core.errors import DataError, RowError
from tests.support.data_prep_bench import make_task, write_jsonl

CHOICES = {"columns": {"input": "q", "target": "a", "choices": "options"}, "type": "multiple-choice"}


def answers(folder, rows, form, **fields):
    """The targets of all rows, written as JSONL or CSV."""
    if form == "jsonl":
        write_jsonl(folder / "rows.jsonl", rows)
    else:
        with (folder / "rows.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
    task = make_task(source={"uri": f"rows.{form}"}, **fields)
    found = list(read_task_rows(task, source_files(task, folder), folder))
    assert not [row.error for row in found if row.error]
    return [row.example.targets[0] for row in found]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
class TestChoices:
    def rows(self, options, given):
        return [{"q": f"question {i}", "options": options, "a": a} for i, a in enumerate(given)]

    def test_a_number_that_is_a_text_and_a_place_is_refused_with_both(self, tmp_path, form):
        with pytest.raises(DataError, match=r"1 is the text of \(A\) and also the place, counted from 0, of \(B\) '2'"):
            answers(tmp_path, self.rows([1, 2, 3, 4], [1, 2, 3, 1]), form, **CHOICES)

    def test_numbers_that_are_no_places_are_texts(self, tmp_path, form):
        assert answers(tmp_path, self.rows([1, 2, 3, 4], [1, 4, 2]), form, **CHOICES) == ["(A)", "(D)", "(B)"]
        assert answers(tmp_path, self.rows([10, 20, 30], [20, 10]), form, **CHOICES) == ["(B)", "(A)"]

    def test_numbers_that_are_no_texts_are_places(self, tmp_path, form):
        assert answers(tmp_path, self.rows(["a", "b", "c"], [0, 1, 2]), form, **CHOICES) == ["(A)", "(B)", "(C)"]
        assert answers(tmp_path, self.rows(["a", "b", "c"], [1, 3, 2]), form, **CHOICES) == ["(A)", "(C)", "(B)"]

    def test_the_meaning_can_be_set(self, tmp_path, form):
        rows = self.rows([1, 2, 3, 4], [1, 2, 3])
        for meaning, right in (("text", "ABC"), ("from-0", "BCD"), ("from-1", "ABC")):
            found = answers(tmp_path, rows, form, **CHOICES, numberChoices=meaning)
            assert found == [f"({c})" for c in right]

    def test_floats_of_pandas_are_whole_numbers(self, tmp_path, form):
        assert answers(tmp_path, self.rows(["a", "b", "c"], [0.0, 2.0]), form, **CHOICES) == ["(A)", "(C)"]
        assert answers(tmp_path, self.rows([10.0, 20.0, 30.0], [20, 30]), form, **CHOICES) == ["(B)", "(C)"]

    def test_both_meanings_may_agree(self, tmp_path, form):
        assert answers(tmp_path, self.rows([0, 1, 2], [0, 2, 1]), form, **CHOICES) == ["(A)", "(C)", "(B)"]


STARS = ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
class TestLabels:
    def rows(self, given):
        return [{"input": f"text {i}", "target": value} for i, value in enumerate(given)]

    def test_numbers_that_two_labels_have_are_refused(self, tmp_path, form):
        with pytest.raises(DataError, match="1 is '1 star' or, counted from 0, '2 stars'") as caught:
            answers(tmp_path, self.rows([1, 2, 3, 4]), form, type="rating", labels=STARS)
        assert "labelNames" in str(caught.value.hint)

    def test_a_five_or_a_zero_decides(self, tmp_path, form):
        assert answers(tmp_path, self.rows([1, 5, 2]), form, type="rating", labels=STARS) == [
            "1 star", "5 stars", "2 stars",
        ]  # fmt: skip
        assert answers(tmp_path, self.rows([0, 4, 1]), form, type="rating", labels=STARS) == [
            "1 star", "5 stars", "2 stars",
        ]  # fmt: skip

    def test_halves_and_signs_are_the_labels_as_written(self, tmp_path, form):
        halves = ["0.5", "1.0", "1.5", "2.0"]
        assert answers(tmp_path, self.rows([0.5, 1, 1.5, 2.0]), form, type="rating", labels=halves) == halves
        signed = ["-2", "-1", "0", "+1", "+2"]
        assert answers(tmp_path, self.rows([-2, -1, 0, 1, 2]), form, type="rating", labels=signed) == signed

    def test_booleans_have_names(self, tmp_path, form):
        names = {"true": "spam", "false": "ham"}
        assert answers(tmp_path, self.rows([True, False]), form, type="text", labelNames=names) == ["spam", "ham"]


def test_numbers_keep_all_their_digits():
    near = ["9007199254740992", "9007199254740993"]
    assert [find_choice(one, near) for one in near] == [0, 1]
    assert find_choice(9007199254740993, near) == 1
    with pytest.raises(RowError, match="is not one of"):
        find_choice("9007199254740994", near)


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_of_very_many_digits_is_a_bad_row(digits):
    with pytest.raises(RowError, match="is not one of"):
        find_choice("9" * digits, ["1", "2"])
    for labels in (["1", "2"], ["a", "b"]):
        with pytest.raises(RowError, match="is not one of"):
            require_label("9" * digits, labels)


def test_places_that_can_be_counted_from_0_or_from_1_are_refused(tmp_path):
    rows = [{"input": f"q{i}", "choices": ["w", "x", "y", "z"], "target": 1 + i % 3} for i in range(6)]
    task = {"type": "multiple-choice", "columns": {"choices": "choices"}}
    with pytest.raises(DataError, match="counted from 0 or from 1") as caught:
        answers(tmp_path, rows, "jsonl", **task)
    assert "numberChoices" in str(caught.value.hint)
    assert answers(tmp_path, rows, "jsonl", numberChoices="from-1", **task)[:3] == ["(A)", "(B)", "(C)"]
    with_last = [*rows, rows[0] | {"target": 4}]
    assert answers(tmp_path, with_last, "jsonl", **task)[:3] == ["(A)", "(B)", "(C)"]
