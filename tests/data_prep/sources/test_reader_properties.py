"""What programs write is read back equal or refused, and damaged files never end in a traceback."""

import csv
import json
import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_prep.sources.file_names import format_of
from data_prep.sources.read_as import detect
from data_prep.sources.readers import read_rows
from raytrain_core.errors import DataError
from tests.support import REPOSITORY
from tests.support.damaged_files import NAMES

TEXT = st.text(st.sampled_from('ab ",;|\t\n\\é日'), min_size=1, max_size=12).map(lambda text: f"x{text}y")
ROW = st.builds(lambda text, out: {"text": text, "out": out}, TEXT, TEXT)  # in this order
TABLE = st.lists(ROW, min_size=1, max_size=6)
SAME = settings(max_examples=40, derandomize=True)
"""Few examples, the same ones each time."""


def read(path):
    return list(read_rows(path, format_of(path.name), path.name))


def told(path):
    try:
        return detect(path, format_of(path.name), path.name).told
    except DataError:
        return ()


def equal_or_refused(path, rows):
    """Nothing is silently wrong: equal, refused, or as many bad rows as differ."""
    try:
        found = read(path)
    except DataError:
        return
    if any(row.values is None for row in found):
        return
    assert [row.values for row in found] == rows


@given(rows=TABLE, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), end=st.sampled_from(["\n", "\r\n"]))
def test_csv_by_pandas(tmp_path_factory, rows, quoting, end):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    pd.DataFrame(rows).to_csv(path, index=False, quoting=quoting, lineterminator=end)
    equal_or_refused(path, rows)


@SAME
@given(rows=TABLE, delimiter=st.sampled_from(",;"), named=st.booleans(), mark=st.booleans())
def test_csv_by_excel(tmp_path_factory, rows, delimiter, named, mark):
    """With a byte order mark, and the delimiter of its country or in the first line."""
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    with path.open("w", newline="", encoding="utf-8-sig" if mark else "utf-8") as file:
        file.write(f"sep={delimiter}\r\n" if named else "")
        writer = csv.writer(file, csv.excel, delimiter=delimiter)
        writer.writerows([["text", "out"], *(row.values() for row in rows)])
    equal_or_refused(path, rows)


@SAME
@given(rows=TABLE, empty=st.lists(st.none() | st.just(""), max_size=3))
def test_csv_by_spark(tmp_path_factory, rows, empty):
    """Backslashes escape quotation marks, and themselves in quotes; null is no field at all."""
    rows = [*rows, *({"text": "x", "out": one} for one in empty)]
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    quoted = [",".join(map(_by_spark, row.values())) for row in rows]
    assume(any('\\"' in line for line in quoted) or not any("\\\\" in line for line in quoted))  # or nothing shows it
    path.write_text("\n".join(["text,out", *quoted, ""]), newline="")
    if "pairs of backslashes are read as one, outside of quotation marks too" not in told(path):
        equal_or_refused(path, [{key: value or "" for key, value in row.items()} for row in rows])


def _by_spark(value):
    if not value:
        return "" if value is None else '""'
    if not any(mark in value for mark in ',"\n'):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@SAME
@given(rows=TABLE, delimiter=st.sampled_from(",;|"), style=st.sampled_from(["needed", "all_valid"]))
def test_csv_by_pyarrow(tmp_path_factory, rows, delimiter, style):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    options = pyarrow.csv.WriteOptions(delimiter=delimiter, quoting_style=style)
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), path, options)
    equal_or_refused(path, rows)


@SAME
@given(rows=TABLE, delimiter=st.sampled_from(",;|"), forced=st.booleans())
def test_files_by_duckdb(tmp_path_factory, rows, delimiter, forced):
    folder = tmp_path_factory.mktemp("duckdb")
    table = pa.Table.from_pylist(rows)
    with duckdb.connect() as database:
        database.register("rows", table)
        forcing = ", FORCE_QUOTE *" if forced else ""
        database.execute(f"COPY rows TO '{folder}/a.csv' (HEADER, DELIMITER '{delimiter}'{forcing})")
        database.execute(f"COPY rows TO '{folder}/b.csv.gz' (HEADER)")
        database.execute(f"COPY rows TO '{folder}/c.jsonl' (FORMAT json)")
        database.execute(f"COPY rows TO '{folder}/d.json' (FORMAT json, ARRAY)")
        database.execute(f"COPY rows TO '{folder}/e.parquet' (COMPRESSION zstd)")
    for name in ("a.csv", "b.csv.gz"):
        equal_or_refused(folder / name, rows)
    for name in ("c.jsonl", "d.json", "e.parquet"):
        assert [row.values for row in read(folder / name)] == rows


@SAME
@given(
    rows=TABLE,
    separator=st.sampled_from(",;|"),
    style=st.sampled_from(["necessary", "always", "non_numeric"]),
    mark=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_files_by_polars(tmp_path_factory, rows, separator, style, mark, end):
    folder = tmp_path_factory.mktemp("polars")
    frame = pl.DataFrame(rows)
    written = {"separator": separator, "quote_style": style, "include_bom": mark, "line_terminator": end}
    frame.write_csv(folder / "a.csv", **written)
    frame.write_csv(folder / "b.tsv", separator="\t", quote_style=style)
    frame.write_ndjson(folder / "c.jsonl")
    frame.write_json(folder / "d.json")
    frame.write_parquet(folder / "e.parquet", compression="zstd")
    for name in ("a.csv", "b.tsv"):
        equal_or_refused(folder / name, rows)
    for name in ("c.jsonl", "d.json", "e.parquet"):
        assert [row.values for row in read(folder / name)] == rows


@SAME
@given(values=st.lists(st.none() | st.floats(allow_nan=False, width=32), min_size=1, max_size=6))
def test_numbers_by_polars(tmp_path_factory, values):
    """The shortest number that a 32-bit float stores is that float again."""
    folder = tmp_path_factory.mktemp("polars")
    frame = pl.DataFrame({"text": [f"x{i}" for i in range(len(values))], "out": pl.Series(values, dtype=pl.Float32)})
    frame.write_parquet(folder / "a.parquet")
    found = [row.values["out"] for row in read(folder / "a.parquet")]
    assert [None if one is None else np.float32(one) for one in found] == values


@SAME
@given(rows=TABLE, options=st.sampled_from([{"sep": ";"}, {"sep": "|", "encoding": "utf-16"}]))
def test_csv_by_pandas_with_other_settings(tmp_path_factory, rows, options):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    pd.DataFrame(rows).to_csv(path, index=False, **options)
    equal_or_refused(path, rows)


@given(rows=TABLE)
def test_jsonl_and_json_and_parquet(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "b.json").write_text(json.dumps(rows, indent=1))
    pq.write_table(pa.Table.from_pylist(rows), folder / "c.parquet")
    for name in ("a.jsonl", "b.json", "c.parquet"):
        assert [row.values for row in read(folder / name)] == rows


MEMORY = 128 << 20
"""Bytes by which reading damaged files of a few kilobytes may raise a process's largest memory."""


@pytest.mark.parametrize(
    ("count", "names"),
    [(100, NAMES), *(pytest.param(10_000, (name,), marks=pytest.mark.slow, id=name) for name in NAMES)],
)
def test_damaged_bytes_are_read_or_refused_in_bounded_time_and_memory(count, names):
    """In a process of its own: it ends by itself at a file that takes a minute."""
    command = [sys.executable, "-m", "tests.support.damaged_files", str(count), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["read"] + found["refused"] == count * len(names)
    assert found["read"] > 0
    assert found["grown"] <= MEMORY
