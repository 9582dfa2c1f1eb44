import pytest

from data_prep.tasks.examples import LeftOut, example_maker
from data_prep.tasks.task_types import TargetFormat
from raytrain_core.errors import RowError
from tests.support.data_prep_bench import make_task


def example(row, **fields):
    return example_maker(make_task(**fields))(row)


def test_a_summary_with_line_ends_of_another_system():
    found = example(
        {"dialogue": "A: hi\r\nB: ho\r\n", "summary": " They greet. ", "n": 7},
        columns={"input": "dialogue", "target": "summary", "id": "n"},
    )
    assert (found.input, found.targets, found.id) == ("A: hi\nB: ho", ["They greet."], "7")
    assert found.meta == {"input": "A: hi\nB: ho"}


def test_several_references_and_one_of_two_columns():
    columns = {"input": "input", "target": "summary|summaries"}
    assert example({"input": "x", "summaries": ["a", "b"]}, columns=columns).targets == ["a", "b"]
    assert example({"input": "x", "summary": "a"}, columns=columns).targets == ["a"]


@pytest.mark.parametrize("value", [4, "4", 4.0, "4.0", [4, "5"]])
def test_a_rating(value):
    assert example({"input": "x", "target": value}, type="rating").targets[0] == "4"


def test_a_rating_by_names():
    found = example({"input": "x", "target": "Good"}, type="rating", labels=["bad", "good"])
    assert (found.targets, found.meta["label"]) == (["good"], "good")


def test_entities_from_tokens_and_tags():
    row = {"words": ["Ann", "sees", "New", "York", ""], "tags": ["B-PER", "O", "B-LOC", "I-LOC", "I-LOC"]}
    found = example(row, type="ner", columns={"tokens": "words", "tags": "tags"})
    assert (found.input, found.targets) == ("Ann sees New York", ["PER: Ann | LOC: New York"])
    assert found.meta["entities"] == [["PER", "Ann"], ["LOC", "New York"]]


def test_entities_from_text():
    assert example({"input": "Ann", "target": "PER: Ann"}, type="ner").meta["entities"] == [["PER", "Ann"]]


def test_code_keeps_the_spaces_at_its_beginning():
    found = example({"input": "\n    int x;\n", "target": "\n  var x\n"}, type="code-translation")
    assert (found.input, found.targets) == ("    int x;", ["  var x"])


@pytest.mark.parametrize(
    ("choices", "answer"),
    [(["red", "green"], "green"), (["red", "green"], "B"), (["red", "green"], 1), ([3, 4], "4"),
     ({"text": ["red", "green"], "label": ["1", "2"]}, "2")],
)  # fmt: skip
def test_choices_are_written_below_the_question(choices, answer):
    row = {"input": "Which?", "target": answer, "options": choices}
    found = example(row, type="multiple-choice", columns={"choices": "options"})
    assert found.targets == ["(B)"]
    assert found.input.startswith("Which?\nOptions:\n(A) ")
    assert found.meta["choices"] == [str(c) for c in (choices["text"] if isinstance(choices, dict) else choices)]


NER = {"type": "ner", "columns": {"tokens": "words", "tags": "tags"}}
CHOICES = {"type": "multiple-choice", "columns": {"choices": "options"}}


@pytest.mark.parametrize(
    ("row", "fields", "reason"),
    [
        ({"input": None, "target": "a"}, {}, "'input' is null"),
        ({"input": " \n", "target": "a"}, {}, "'input' is empty"),
        ({"input": "x", "target": ""}, {}, "'target' is empty"),
        ({"input": "x", "target": []}, {}, "'target' is an empty list"),
        ({"input": "x", "target": ["a", None]}, {}, "'target' is null"),
        ({"input": "x", "target": 7}, {}, "'target' is 7 instead of text"),
        ({"input": ["x"], "target": "a"}, {}, r"'input' is \['x'\] instead of text"),
        ({"input": "x"}, {}, "no column 'target'; the row has 'input'"),
        ({"input": "x\ud800", "target": "a"}, {}, "not valid Unicode"),
        ({"input": "x", "target": 6}, {"type": "rating"}, "label '6' is not one of 1, 2, 3, 4, 5"),
        ({"input": "x", "target": True}, {"type": "rating"}, "'target' is True instead of text"),
        ({"input": "x", "target": "b"}, {"type": "text", "labels": ["a"]}, "label 'b' is not one of a"),
        ({"input": "x", "target": "Ann"}, {"type": "ner"}, "not `TYPE: text"),
        ({"words": "Ann", "tags": ["O"]}, NER, "'words' is 'Ann' instead of a list"),
        ({"words": ["Ann"], "tags": [3]}, NER, "'tags' holds numbers"),
        ({"words": ["Ann", 1], "tags": ["O", "O"]}, NER, "must hold text only"),
        ({"words": [], "tags": []}, NER, "'words' is empty"),
        ({"words": ["Ann"], "tags": ["B-PER"]}, {**NER, "labels": ["LOC"]}, "entity type 'PER' is not one of labels"),
        ({"input": "x", "target": "c", "options": ["a"]}, CHOICES, "instead of a list of 2 to 26 choices"),
        ({"input": "x", "target": 1.5, "options": ["a", "b"]}, CHOICES, "target '1.5' is not one of the choices"),
        ({"input": "x", "target": "a", "n": None}, {"columns": {"id": "n"}}, "'n' .the row's id. is null"),
    ],
)
def test_a_bad_row_says_why(row, fields, reason):
    with pytest.raises(RowError, match=reason):
        example(row, **fields)


def test_references_in_several_columns():
    columns = {"references": ["second", "more|others"]}
    row = {"input": "x", "target": "a", "second": "b", "others": ["c", "d"]}
    assert example(row, columns=columns).targets == ["a", "b", "c", "d"]
    assert example({"input": "x", "target": "a", "second": None, "more": ""}, columns=columns).targets == ["a"]
    assert example({"input": "x", "target": "a", "second": ["b", "", None]}, columns=columns).targets == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "fields", "answer"),
    [
        (1, {"label_names": {"0": "negative", "1": "positive"}}, "positive"),
        ("0", {"label_names": {"0": "negative", "1": "positive"}}, "negative"),
        (1.0, {"label_names": {"0": "negative", "1": "positive"}}, "positive"),
        (True, {"label_names": {"false": "no", "true": "yes"}}, "yes"),
        ("C", {"label_names": {"C": "complaint", "Q": "question"}}, "complaint"),
        (-1, {"label_names": {"-1": "against", "1": "for"}}, "against"),
        (1, {"labels": ["negative", "neutral", "positive"]}, "neutral"),
        ("2", {"labels": ["negative", "neutral", "positive"]}, "positive"),
        (0, {}, "negative"),
        ("Positive", {}, "positive"),
    ],
)
def test_a_label_is_what_it_means(value, fields, answer):
    found = example({"input": "x", "target": value}, type="sentiment", **fields)
    assert (found.targets, found.meta["label"]) == ([answer], answer)


@pytest.mark.parametrize(
    ("value", "fields", "reason"),
    [
        (2, {}, "label '2' is not one of negative, positive"),
        (3, {"labels": ["a", "b", "c"]}, "label '3' is not one of a, b, c"),
        (-1, {"labels": ["a", "b"]}, "label '-1' is not one of"),
        (7, {"label_names": {"0": "no"}}, r"label 7 is not one of labelNames \(0\)"),
        (None, {"label_names": {"0": "no"}}, "'target' is null"),
        (1, {"label_names": {"1": "x"}, "labels": ["y"]}, "label 'x' is not one of y"),
    ],
)
def test_a_label_that_means_nothing_is_a_bad_row(value, fields, reason):
    with pytest.raises(RowError, match=reason):
        example({"input": "x", "target": value}, type="sentiment", **fields)


def test_numbers_of_a_scale_are_never_places_in_a_list():
    with pytest.raises(RowError, match="label '0' is not one of 1, 2, 3, 4, 5"):
        example({"input": "x", "target": 0}, type="rating")


def test_tags_that_are_numbers_get_their_names():
    names = {"0": "O", "1": "B-PER", "2": "I-PER"}
    found = example({"words": ["Ann", "Lee", "sings"], "tags": [1, 2, 0]}, **NER, label_names=names, labels=["PER"])
    assert found.targets == ["PER: Ann Lee"]


def test_lists_in_a_csv_file_are_json():
    assert example({"words": '["Ann", "sings"]', "tags": '["B-PER", "O"]'}, **NER).targets == ["PER: Ann"]
    row = {"input": "Which?", "target": "green", "options": '["red", "green"]'}
    assert example(row, **CHOICES).targets == ["(B)"]


def test_an_answer_is_written_as_the_task_wants_it_and_read_back():
    task = make_task(type="rating", target_format="Rating: {target} of 5")
    found = example_maker(task)({"input": "x", "target": 4})
    assert (found.targets, found.meta["label"]) == (["Rating: 4 of 5"], "4")
    frame = TargetFormat.of(task)
    assert [frame.unwrap(text) for text in ("Rating: 4 of 5", " Rating:4 of 5", "4", "Rating: 4")] == ["4"] * 4
    assert TargetFormat.of(make_task()).unwrap(" as it is ") == " as it is "


def test_rows_that_are_not_wanted_are_none():
    make = example_maker(make_task(where="stars >= 4"))
    assert make({"input": "x", "target": "y", "stars": 3}) == LeftOut("where")
    assert make({"stars": "3.5"}) == LeftOut("where")  # not wanted, so not a bad row either
    assert make({"input": "x", "target": "y", "stars": "4"}).input == "x"
    with pytest.raises(RowError, match="where: null >= 4 cannot be compared"):
        make({"input": "x", "target": "y"})


@pytest.mark.parametrize("written", ["['x' 'y']", "{'x', 'y'}", "{'text': ['x'], 'answer_start': [1]}", '["x", ...'])
def test_an_answer_that_spells_no_list_but_begins_like_one_is_told(written):
    found = example({"input": "q", "target": written}, type="question-answering")
    assert found.targets == [written]
    assert [event.kind for event in found.events] == ["list-kept"]


@pytest.mark.parametrize("answer", [1.5, "1.5"])
def test_a_decimal_answer_is_found_among_decimal_choices(answer):
    found = example({"input": "q", "target": answer, "options": [0.5, 1.5, 2.5]}, **CHOICES)
    assert found.targets == ["(B)"]


@pytest.mark.parametrize("word", ["nan", "NaN", "NULL", "None", "N/A"])
def test_a_target_that_may_stand_for_a_missing_value_is_told(word):
    found = example({"input": "q", "target": word}, type="question-answering")
    assert (found.targets, [event.kind for event in found.events]) == ([word], ["missing-kept"])
