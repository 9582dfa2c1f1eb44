"""NaN, numbers and lists between reading and the example."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tasks.values import number_text, parse_list, without_nan
from raytrain_core.errors import RowError
from tests.support.data_prep_bench import make_task


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['x', 'y']", ["x", "y"]),
        ('["x", "y"]', ["x", "y"]),
        ("('x', 'y')", ["x", "y"]),
        ("['it\\'s', \"a\"]", ["it's", "a"]),
        ("[1, 2.5, None, true]", None),
        ("[1, null, true]", [1, None, True]),
        ("[1, NaN]", [1, None]),
        ("{'text': ['a'], 'label': ['A']}", {"text": ["a"], "label": ["A"]}),
        ("['Ann' 'no0']", None),
        ("['x', nan]", ["x", None]),
        ("array(['x', 'y'], dtype=object)", ["x", "y"]),
        ("{'text': array(['a'],\n      dtype=object), 'n': array([1])}", {"text": ["a"], "n": [1]}),
        ("array(['a' 'b'])", None),
        ("array", None),
        ("open('x')", None),
        ("[open('x')]", None),
        ("['a'\n 'b']", None),
        ("[x, y]", None),
        ("[1 2]", None),
        ("[A] is first", None),
        ("text", None),
        ("(an aside)", None),
        ("('one text')", None),
        ("[" * 5000 + "]" * 5000, None),
    ],
)
def test_a_list_written_as_text_is_read_as_what_it_was(text, value):
    assert parse_list(text) == value


@given(values=st.lists(st.one_of(st.text(), st.integers()), max_size=5))
def test_what_pandas_writes_is_read_back(values):
    assert parse_list(str(values)) == values


def test_not_a_number_is_missing_everywhere():
    row = {"a": math.nan, "b": [1.0, math.nan], "c": {"d": math.nan}, "e": "nan", "f": 1.5}
    clean, columns = without_nan(row)
    assert clean == {"a": None, "b": [1.0, None], "c": {"d": None}, "e": "nan", "f": 1.5}
    assert columns == ["a", "b", "c"]
    assert without_nan(row, ["b"])[1] == ["b"]


def test_numbers_as_text():
    assert [number_text(v, whole=True) for v in (105.0, 3, 7.5, 1e15)] == ["105", "3", "7.5", "1000000000000000"]
    assert number_text(3.0, whole=False) == "3.0"
    with pytest.raises(RowError, match="not a finite number"):
        number_text(math.inf, whole=True)


def prepared(bench, rows, **fields):
    bench.write("rows.jsonl", rows)
    task = make_task(type="question-answering", split={"validation": 0.2, "test": 0.2}, **fields)
    return bench.prepare(task)


def targets(bench, shard_set):
    from data_prep.shards.text_reader import read_rows

    return {
        row.meta["input"]: row.targets
        for split in ("train", "validation", "test")
        for row in read_rows(shard_set, "notes", split, bench.store, bench.cache)
    }


def test_nan_is_a_bad_row_and_floats_of_a_whole_column_are_whole(bench):
    rows = [{"input": f"text {i}", "target": math.nan if i % 6 == 0 else 3.0 * i} for i in range(60)]
    shard_set = prepared(bench, rows, onBadRow="skip")
    found = targets(bench, shard_set)
    assert found == {f"text {i}": [str(3 * i)] for i in range(60) if i % 6}
    kinds = shard_set.task("notes").tally["kinds"]
    assert (kinds["bad-row"]["count"], kinds["number-whole"]["count"]) == (10, 50)
    assert kinds["bad-row"]["first"][0]["note"] == "'target' is null"
    assert kinds["detected"]["first"][0]["note"] == "column target: whole numbers, written without .0"


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_an_infinite_number_is_a_bad_row(bench, form):
    rows = [{"input": f"text {i}", "target": math.inf if i == 7 else -math.inf if i == 9 else 1.5} for i in range(60)]
    if form == "jsonl":
        shard_set = prepared(bench, rows, onBadRow="skip")
    else:
        pq.write_table(pa.Table.from_pylist(rows), bench.folder / "rows.parquet")
        shard_set = prepared(bench, rows, onBadRow="skip", source={"uri": "rows.parquet"})
    assert targets(bench, shard_set) == {f"text {i}": ["1.5"] for i in range(60) if i not in (7, 9)}
    bad = shard_set.task("notes").tally["kinds"]["bad-row"]
    assert (bad["count"], "not a finite number" in bad["first"][0]["note"]) == (2, True)


def test_floats_of_a_column_that_is_not_whole_stay(bench):
    rows = [{"input": f"text {i}", "target": i / 2} for i in range(60)]
    shard_set = prepared(bench, rows)
    assert targets(bench, shard_set) == {f"text {i}": [str(i / 2)] for i in range(60)}
    assert shard_set.task("notes").tally["kinds"]["number-as-written"]["count"] == 30


def test_the_last_row_decides_whether_a_column_is_whole(bench):
    """Detection reads the whole file."""
    rows = [{"input": f"text {i}", "target": float(i)} for i in range(3000)] + [{"input": "last", "target": 0.5}]
    assert targets(bench, prepared(bench, rows))["text 7"] == ["7.0"]


def test_floats_and_lists_that_come_late_count_too(bench):
    """The first 1,500 rows show neither."""
    rows = [{"input": f"text {i}", "target": i if i < 1500 else float(i)} for i in range(1600)]
    shard_set = prepared(bench, rows)
    assert targets(bench, shard_set)["text 1550"] == ["1550"]
    assert shard_set.task("notes").tally["kinds"]["number-whole"]["count"] == 100
    rows = [{"input": f"text {i}", "target": "" if i < 1500 else f"['a{i}', 'b']"} for i in range(1600)]
    found = prepared(bench, rows, onBadRow="skip", badRowLimit=1500)
    assert targets(bench, found)["text 1550"] == ["a1550", "b"]


def test_missing_references_and_ids_of_pandas(bench):
    rows = [{"input": f"text {i}", "target": "a", "more": math.nan if i % 2 else "b", "n": float(i)} for i in range(60)]
    shard_set = prepared(bench, rows, columns={"references": ["more"], "id": "n"})
    found = targets(bench, shard_set)
    assert (found["text 1"], found["text 2"]) == (["a"], ["a", "b"])
    from data_prep.shards.text_reader import read_rows

    ids = {row.id for row in read_rows(shard_set, "notes", "train", bench.store, bench.cache)}
    assert "1" in ids or "2" in ids
    assert not any("." in one for one in ids)


@pytest.mark.parametrize("written", ["['shelf {i}', 'on shelf {i}']", '["shelf {i}", "on shelf {i}"]'])
def test_a_column_of_lists_in_a_csv_holds_references(bench, written):
    cells = [written.replace("{i}", str(i)).replace('"', '""') for i in range(60)]
    lines = "".join(f'text {i},"{cell}"\n' for i, cell in enumerate(cells))
    (bench.folder / "rows.csv").write_text("input,target\n" + lines)
    task = make_task(type="question-answering", source={"uri": "rows.csv"}, split={"validation": 0.2, "test": 0.2})
    shard_set = bench.prepare(task)
    assert targets(bench, shard_set)["text 3"] == ["shelf 3", "on shelf 3"]
    assert shard_set.task("notes").tally["kinds"]["list-parsed"]["count"] == 60


def test_a_text_in_brackets_among_others_stays_and_is_told(bench):
    rows = [{"input": f"text {i}", "target": "[1]" if i == 5 else "one"} for i in range(60)]
    shard_set = prepared(bench, rows)
    assert targets(bench, shard_set)["text 5"] == ["[1]"]
    assert shard_set.task("notes").tally["kinds"]["list-kept"]["count"] == 1


def test_a_condition_over_nan_makes_bad_rows_that_are_told(bench):
    rows = [{"input": f"text {i}", "target": "a", "score": math.nan if i % 3 == 0 else i} for i in range(60)]
    kinds = prepared(bench, rows, where="score > 3", onBadRow="skip").task("notes").tally["kinds"]
    assert kinds["bad-row"]["count"] == 20
    assert kinds["bad-row"]["first"][0]["note"] == "where: null > 3 cannot be compared"
    assert kinds["where"]["count"] == 2


def test_whole_numbers_stay_as_written_where_the_job_says_so(bench):
    bench.write("rows.jsonl", [{"input": f"release {i}", "target": float(i), "id": float(i)} for i in range(60)])
    fields = {"type": "text", "columns": {"id": "id"}}
    shortened, kept = (bench.prepare(make_task(**fields, whole_numbers=how)) for how in ("detect", "as-written"))
    assert targets(bench, shortened)["release 7"] == ["7"]
    assert targets(bench, kept)["release 7"] == ["7.0"]
    assert shortened.task("notes").digest != kept.task("notes").digest
    kinds = kept.task("notes").tally["kinds"]
    assert kinds["number-as-written"]["count"] == 60
    assert "detected" not in kinds


def test_whole_numbers_of_a_csv_column_stay_as_written_too(bench):
    (bench.folder / "rows.csv").write_text("input,target\n" + "".join(f"release {i},{i}.0\n" for i in range(60)))
    fields = {"type": "text", "source": {"uri": "rows.csv"}}
    assert targets(bench, bench.prepare(make_task(**fields)))["release 7"] == ["7"]
    kept = bench.prepare(make_task(**fields, whole_numbers="as-written"))
    assert targets(bench, kept)["release 7"] == ["7.0"]
