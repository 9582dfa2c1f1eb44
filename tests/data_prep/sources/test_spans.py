"""The spans of a file hold all of its rows, each once, with the numbers they have in the file."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.config import CsvOptions
from data_prep.sources import spans
from data_prep.sources.parquet_rows import parquet_rows
from data_prep.sources.read_as import ReadAs
from data_prep.sources.readers import detect_format, read_rows, spans_of
from raytrain_core.errors import DataError

LINES = [b'{"a": 1}', b"", b"  ", b"null", b"{", b"\xff", b'{"a": "\xc3\xa9\xe2\x80\xa8"}']
LINES += [b'{"a": 1}\r', b'{"a": 1}\r{"a": 2}']  # CR LF, and CR alone


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=30),
    size=st.integers(1, 60),
    block=st.integers(1, 40),
    end=st.booleans(),
)
def test_spans_of_lines_hold_every_row_once(tmp_path, monkeypatch, lines, size, block, end):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n" * end)
    with monkeypatch.context() as patch:
        patch.setattr(spans, "BYTES", size)
        patch.setattr(spans, "_BLOCK", block)
        found = spans_of(path, ReadAs("jsonl", lines_are_rows=True), "rows.jsonl", packed_as="rows.jsonl")
    expected = list(read_rows(path, "jsonl", "rows.jsonl"))
    assert [row for span in found for row in read_rows(path, "jsonl", "rows.jsonl", span=span)] == expected
    assert sum(span.bytes for span in found) == path.stat().st_size
    assert [span.start for span in found[1:]] == [span.stop for span in found[:-1]]


CSV_LINES = [b"1,x", b"", b"2,", b'3,"a, b"', b'4,"say ""x"""', b"5", b"6,x,y", b"7,\xff", b"8,\xc3\xa9\xe2\x80\xa8"]
CSV_LINES += [b"a,b", b"A,B", b"9,x\r", b"\xef\xbb\xbf10,x", b"11,NaN", b'12,"']
CSV_BEGINS = [b"a,b\n", b"\n\n\na,b\r\n", b"sep=,\na,b\n", b"\xef\xbb\xbfa,b\n", b'"a\nc",b\n']


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    begin=st.sampled_from(CSV_BEGINS),
    lines=st.lists(st.sampled_from(CSV_LINES), max_size=30),
    size=st.integers(1, 60),
    block=st.integers(1, 40),
    options=st.sampled_from([CsvOptions(), CsvOptions(header=["a", "b"]), CsvOptions(quote="none")]),
)
def test_spans_of_csv_hold_every_row_once(tmp_path, monkeypatch, begin, lines, size, block, options):
    path = tmp_path / "rows.csv"
    path.write_bytes(begin + b"\n".join(lines))
    try:
        how = detect_format(path, "csv", "rows.csv", options, packed_as="rows.csv")
        expected = list(read_rows(path, "csv", "rows.csv", read_as=how))
    except DataError:
        return  # refused as a whole
    with monkeypatch.context() as patch:
        patch.setattr(spans, "BYTES", size)
        patch.setattr(spans, "_BLOCK", block)
        found = spans_of(path, how, "rows.csv", packed_as="rows.csv")
    rows = [row for span in found for row in read_rows(path, "csv", "rows.csv", read_as=how, span=span)]
    assert list(map(repr, rows)) == list(map(repr, expected))  # NaN equals itself


@pytest.mark.parametrize(("text", "divided"), [('1,"x, y"\n', True), ('1,"x\ny"\n', False), ("1,x\r\n", True)])
def test_csv_is_divided_where_no_record_goes_over_several_lines(tmp_path, monkeypatch, text, divided):
    monkeypatch.setattr(spans, "BYTES", 20)
    monkeypatch.setattr(spans, "_BLOCK", 8)
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "2,y\n" * 30 + text)  # the last record decides
    how = detect_format(path, "csv", "rows.csv", None, packed_as="rows.csv")
    found = spans_of(path, how, "rows.csv", packed_as="rows.csv")
    assert (how.lines_are_rows, len(found) > 3) == (divided, divided)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 200), group=st.integers(1, 90), most=st.integers(1, 50))
def test_spans_of_parquet_hold_every_row_once(tmp_path, monkeypatch, count, group, most):
    path = tmp_path / "rows.parquet"
    table = pa.table({"a": pa.array(range(count)), "b": pa.array([f"text {i}" for i in range(count)], pa.string())})
    pq.write_table(table, path, row_group_size=group)
    with monkeypatch.context() as patch:
        patch.setattr(spans, "_ROWS", most)
        found = spans_of(path, ReadAs("parquet"), "rows.parquet", packed_as="rows.parquet")
    rows = [row for span in found for row in read_rows(path, "parquet", "rows.parquet", span=span)]
    assert rows == list(read_rows(path, "parquet", "rows.parquet"))
    assert [row.number for row in rows] == list(range(1, count + 1))


def test_a_byte_order_mark_or_a_list_means_the_same_at_the_start_of_a_span(tmp_path, monkeypatch):
    monkeypatch.setattr(spans, "BYTES", 1)
    monkeypatch.setattr(spans, "_BLOCK", 4)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n[1]\n\ufeff{"a": 2}\n')
    found = spans_of(path, ReadAs("jsonl", lines_are_rows=True), "rows.jsonl", packed_as="rows.jsonl")
    assert len(found) > 2
    rows = [row for span in found for row in read_rows(path, "jsonl", "rows.jsonl", span=span)]
    assert rows == list(read_rows(path, "jsonl", "rows.jsonl"))


def test_a_large_row_group_is_not_decoded_once_for_every_few_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(spans, "BYTES", 100)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": [f"row {i} of many" for i in range(1000)]}), path)
    found = spans.spans_of_parquet(path)
    assert len(found) == 16
    assert [row.values["a"] for span in found for row in parquet_rows(path, "rows", span)] == [
        f"row {i} of many" for i in range(1000)
    ]
