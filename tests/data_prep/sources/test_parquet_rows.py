"""Every Parquet type has a stated form, and two columns of one name are refused."""

import datetime
import decimal
import io
import subprocess
import sys
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.sources.readers import read_rows
from raytrain_core.errors import DataError
from tests.support import REPOSITORY
from tests.support.parquet_footer import without_chunk_metadata


def values(tmp_path, array):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": array}), path)
    return [row.values["a"] for row in read_rows(path, "parquet", path.name)]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([7.6666665, 0.1, 1e18, None], pa.float32()), [7.6666665, 0.1, 1e18, None]),
        (pa.array(np.array([0.1, 3.5], np.float16)), [0.1, 3.5]),
        (pa.array([0.1, 105.0]), [0.1, 105.0]),
        (pa.array([decimal.Decimal("0.5"), decimal.Decimal("19.90")], pa.decimal128(6, 2)), ["0.50", "19.90"]),
        (pa.array([decimal.Decimal("1E+3")], pa.decimal256(40, 0)), ["1000"]),
        (pa.array([datetime.date(2024, 1, 31)]), ["2024-01-31"]),
        (pa.array([datetime.date(2024, 1, 31)], pa.date64()), ["2024-01-31"]),
        (pa.array([datetime.datetime(2024, 1, 31, 12, 5)], pa.timestamp("ms")), ["2024-01-31 12:05:00"]),
        (pa.array([1], pa.timestamp("ns")), ["1970-01-01 00:00:00.000000001"]),
        (pa.array([0], pa.timestamp("us", "UTC")), ["1970-01-01 00:00:00+00:00"]),
        (pa.array([datetime.time(7, 5)]), ["07:05:00"]),
        (pa.array([b"caf\xc3\xa9", b"\xff", None], pa.binary()), ["café", b"\xff", None]),
        (pa.array([b"ab"], pa.binary(2)), ["ab"]),
        (pa.array([b"ab"], pa.large_binary()), ["ab"]),
        (pa.array([b"ab"], pa.binary_view()), ["ab"]),
        (pa.array(["x"], pa.string_view()), ["x"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([["x", None]], pa.large_list(pa.large_string())), [["x", None]]),
        (pa.array([[0.1, None], None], pa.list_(pa.float32())), [[0.1, None], None]),
        (pa.array([{"x": 0.1, "y": "z"}], pa.struct({"x": pa.float32(), "y": pa.string()})), [{"x": 0.1, "y": "z"}]),
        (pa.array([[("k", 0.1)]], pa.map_(pa.string(), pa.float32())), [{"k": 0.1}]),
        (pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int8())), [[["k", 1], ["k", 2]]]),
        (pa.array([2**63], pa.uint64()), [2**63]),
        (pa.nulls(1), [None]),
    ],
)  # fmt: skip
def test_every_type_has_a_form(tmp_path, array, expected):
    assert values(tmp_path, array) == expected


def test_an_identifier_of_sixteen_bytes_is_its_usual_text(tmp_path):
    one = uuid.uuid5(uuid.NAMESPACE_DNS, "example.org")
    assert values(tmp_path, pa.array([one.bytes], pa.uuid())) == [str(one)]


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "joined.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["note", "note"]), path)
    with pytest.raises(DataError, match=r"joined\.parquet: two columns are named 'note'") as caught:
        list(read_rows(path, "parquet", path.name))
    assert "Rename or drop" in caught.value.hint


def test_two_fields_of_one_name_inside_a_column_are_refused(tmp_path):
    path = tmp_path / "joined.parquet"
    kind = pa.struct([pa.field("x", pa.string()), pa.field("x", pa.string())])
    array = pa.StructArray.from_arrays([pa.array(["1"]), pa.array(["2"])], fields=list(kind))
    pq.write_table(pa.table({"a": array}), path)
    with pytest.raises(DataError, match="two columns of a are named 'x'"):
        list(read_rows(path, "parquet", path.name))


def test_a_damaged_name_of_a_column_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"column": ["x"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"column", b"col\xeamn"))
    with pytest.raises(DataError, match=r"rows\.parquet: .*cannot be read"):
        list(read_rows(path, "parquet", path.name))


READ = """
import sys, pathlib
from data_prep.sources.readers import count_rows, read_rows, spans_of
from data_prep.sources.read_as import ReadAs
from raytrain_core.errors import DataError
for name in sys.argv[1:]:
    path = pathlib.Path(name)
    try:
        spans = spans_of(path, ReadAs("parquet"), path.name, packed_as=path.name)
        parts = [read_rows(path, "parquet", path.name, span=span) for span in spans]
        print("read", [len(list(rows)) for rows in [*parts, read_rows(path, "parquet", path.name)]])
    except DataError as error:
        print(str(error).splitlines()[0])
"""


def test_column_chunks_that_the_footer_does_not_describe_are_refused(tmp_path):
    """Asked for such metadata, pyarrow ends the process; while reading it leaves the rows out."""
    file = io.BytesIO()
    pq.write_table(pa.table({"a": list("wxyz"), "b": [1, 2, 3, 4]}), file, row_group_size=2)
    damages = [({0}, {0, 1}), ({0, 1}, {0, 1}), ({1}, {1}), ({0, 1}, {0}), (set(), set())]
    paths = []
    for number, (columns, groups) in enumerate(damages):
        paths.append(tmp_path / f"{number}.parquet")
        paths[-1].write_bytes(without_chunk_metadata(file.getvalue(), columns, groups))
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "0.parquet: its footer states rows 1 to 2, but 0 can be read",
        "1.parquet: its footer states rows 1 to 2, but 0 can be read",
        "2.parquet: its footer states rows 3 to 4, but 0 can be read",
        "3.parquet: its footer states rows 1 to 2, but 0 can be read",
        "read [2, 2, 4]",
    ]
    with pytest.raises(DataError, match="its footer states rows 1 to 4, but 2 can be read") as caught:
        list(read_rows(paths[3], "parquet", "a.parquet"))
    assert "damaged" in caught.value.hint
