"""JSON documents, CoNLL text and rows of usual shapes are read instead of refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.config import Source
from data_prep.sources.file_names import format_of
from data_prep.sources.read_as import detect
from data_prep.sources.readers import read_rows
from raytrain_core.errors import DataError

ROWS = [{"a": i, "b": f"é {i} ]}}"} for i in range(300)]


def read(path, format=None):
    rows = read_rows(path, format or format_of(path.name), path.name)
    return [(row.number, row.values if row.values is not None else row.reason) for row in rows]


def values(path, format=None):
    return [values for _, values in read(path, format)]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.ndjson"])
def test_an_array(tmp_path, indent, name):
    path = tmp_path / name
    path.write_text(json.dumps(ROWS, indent=indent), encoding="utf-8")
    assert values(path) == ROWS
    assert detect(path, "jsonl", name).told == ("it is one JSON document instead of JSON Lines",)
    if indent == 2:
        assert [number for number, _ in read(path)][:3] == [2, 6, 10]


@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_that_holds_the_rows(tmp_path, indent):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"data": ROWS, "version": "1.1", "names": ["x", [1]]}, indent=indent))
    assert values(path) == ROWS
    path.write_text(json.dumps({"version": 12, "other": [1, 2], "rows": ROWS}, indent=1))
    assert values(path) == ROWS
    path.write_text(json.dumps({"a": [{"x": 1}], "b": [{"x": 1}]}, indent=1))
    with pytest.raises(DataError, match="two lists of objects, 'a' and 'b'"):
        values(path)
    path.write_text(json.dumps({"text": {"0": "x"}}, indent=1))
    with pytest.raises(DataError, match="holds no list of objects"):
        values(path)


def test_json_lines_stay_json_lines(tmp_path):
    path = tmp_path / "rows.json"
    for rows in ([{"a": [{"x": 1}]}] * 2, [{"data": [{"x": "y" * 9000}]}] * 2, [{"a": 1}]):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        path.rename(tmp_path / "rows.jsonl")
        assert values(tmp_path / "rows.jsonl") == rows
    path.write_text('{"a": 1\n{"a": 2}\n')
    assert [number for number, _ in read(path)] == [1, 2]
    path.write_text("[1]\n[2]\n")
    assert values(path) == ["a JSON list instead of an object"] * 2


@pytest.mark.parametrize(
    ("text", "error"),
    [('[{"a": 1}, {"a": 2}', r"rows\.json:1: not JSON: expected , or \]"), ('[\n{"a": 1}\n{"a": 2}]', r"rows\.json:3:"),
     ('[{"a": 1}] x', "text follows the end"), ('[{"a": tru}]', "Expecting value"), ("[\n" + "[" * 100_000, "nested")],
)  # fmt: skip
def test_a_broken_document_is_refused_at_its_line(tmp_path, text, error):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=error):
        values(path)


def test_rows_of_an_array_that_are_none(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[\n{"a": 1},\n5,\n{"a": 1, "a": 2},\n{"a": 3}\n]')
    assert read(path) == [
        (2, {"a": 1}),
        (3, "a JSON int instead of an object"),
        (4, "the key 'a' occurs twice"),
        (5, {"a": 3}),
    ]


def test_a_document_that_is_nested_too_deeply_after_a_key_that_occurs_twice(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"a": {"x": 1, "x": 2}, "b": ' + "[" * 200_000 + "]" * 200_000 + "}]")
    with pytest.raises(DataError, match="nested too deeply"):
        read(path)


def test_conll(tmp_path):
    path = tmp_path / "train.conll"
    path.write_text(
        "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\n\n# id = 7\nPeter\tB-PER\n\nbad\n\nx y\nx y z\n"
    )
    assert read(path) == [
        (3, {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}),
        (8, {"tokens": ["Peter"], "tags": ["B-PER"]}),
        (10, "line 10 has 1 columns instead of 2"),
        (12, "line 13 has 3 columns instead of 2"),
    ]


def test_messages(tmp_path):
    def said(*turns):
        return {"id": 1, "messages": [{"role": role, "content": content} for role, content in turns]}

    rows = [
        said(("user", "Hi"), ("assistant", "Hello")),
        said(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "And?"), ("assistant", "No.")),
        said(("user", [{"type": "text", "text": "part"}]), ("assistant", "Yes")),
        said(("user", "Hi")),
        said(("user", [{"type": "image_url"}]), ("assistant", "Yes")),
        said(("tool", "x"), ("assistant", "Yes")),
        {"text": "x"},
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = values(path, "messages")
    assert [(row["input"], row["target"], row["id"]) for row in found[:3]] == [
        ("Hi", "Hello", 1),
        ("System: Be brief.\nUser: Hi\nAssistant: Hello\nUser: And?", "No.", 1),
        ("part", "Yes", 1),
    ]
    assert [reason.partition(";")[0] for reason in found[3:]] == [
        "not messages: 'messages' does not end with an answer of the assistant",
        "not messages: a turn whose 'content' is no text",
        "not messages: a turn of 'tool'",
        "not messages: 'messages' is no list",
    ]
    pq.write_table(pa.Table.from_pylist(rows[:2]), tmp_path / "chat.parquet")
    assert values(tmp_path / "chat.parquet", "messages") == found[:2]


def test_sharegpt_and_alpaca(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(
        json.dumps([{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}], indent=1)
    )
    assert values(path, "sharegpt")[0]["input"] == "Hi"
    assert values(path, "sharegpt")[0]["target"] == "Hello"
    rows = [
        {"instruction": "Add", "input": "1, 2", "output": "3"},
        {"instruction": "Say hi", "input": "", "output": "hi"},
    ]
    path.write_text(json.dumps([*rows, {"instruction": 1}]))
    found = values(path, "alpaca")
    assert [(row["input"], row["target"]) for row in found[:2]] == [("Add\n\n1, 2", "3"), ("Say hi", "hi")]
    assert found[2] == "not alpaca: it has no 'instruction' and 'output' of text"


def test_squad(tmp_path):
    qas = [
        {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}, {"text": "Ann"}]},
        {"id": "q2", "question": "When?", "answers": [], "is_impossible": True},
    ]
    path = tmp_path / "squad.json"
    path.write_text(
        json.dumps({"version": "2", "data": [{"title": "T", "paragraphs": [{"context": "Ann.", "qas": qas}]}]})
    )
    found = values(path, "json") and values(path, "squad")
    assert [(row["id"], row["input"], row["target"], row["is_impossible"]) for row in found] == [
        ("q1", "question: Who? context: Ann.", ["Ann"], False),
        ("q2", "question: When? context: Ann.", [], True),
    ]


def test_the_formats_can_be_named():
    for name in ("json", "conll", "messages", "sharegpt", "alpaca", "squad"):
        assert Source(uri="x", format=name).format == name


def test_a_hash_is_a_token_where_it_has_the_columns_of_its_sentence(tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("# a comment of several words\n# O\nlove O\n\n# O\n\n# id = 7\nParis B-LOC\n")
    assert read(path) == [
        (2, {"tokens": ["#", "love"], "tags": ["O", "O"]}),
        (5, {"tokens": ["#"], "tags": ["O"]}),
        (8, {"tokens": ["Paris"], "tags": ["B-LOC"]}),
    ]
    path.write_text("# text\tis here\nAnn\t_\tB-PER\n")
    assert read(path) == [(2, {"tokens": ["Ann"], "tags": ["B-PER"]})]


def test_conll_whose_first_column_numbers_the_tokens_is_refused(tmp_path):
    path = tmp_path / "train.conllu"
    path.write_text("# text = Du rust\n1-2\tDurust\t_\n1\tDu\tPRON\n2\trust\tVERB\n\n1\tStop\tVERB\n")
    reason = "the first column numbers the tokens; write the tokens first and the tags last"
    assert read(path) == [(2, reason), (6, reason)]
    path.write_text("Score CD O\n: : O\n\n1 CD O\n2 CD O\n")  # numbers that are tokens
    assert [row[1]["tokens"] for row in read(path)] == [["Score", ":"], ["1", "2"]]
