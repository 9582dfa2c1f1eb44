import bz2
import gzip
import json
import lzma
import tracemalloc
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.sources import compression as streams
from data_prep.sources import csv_records
from data_prep.sources.file_names import format_of
from data_prep.sources.readers import count_rows, read_rows
from raytrain_core.errors import DataError
from raytrain_core.hashing import splitmix64

DAMAGED = "(damaged (gzip|zst|bzip2|xz|lz4)|cannot be read as Parquet)"


def packed(data: bytes, ending: str) -> bytes:
    if ending.endswith("gz"):
        return gzip.compress(data, 1)
    if ending.endswith("bz2"):
        return bz2.compress(data)
    if ending.endswith("xz"):
        return lzma.compress(data, preset=1)
    if ending.endswith(("zst", "lz4")):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd" if ending.endswith("zst") else "lz4") as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()
    return data


def read(path, format=None):
    return [
        (row.number, row.values or row.reason) for row in read_rows(path, format or format_of(path.name), path.name)
    ]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2", ".xz", ".lz4"])
def test_json_lines(tmp_path, ending):
    path = tmp_path / f"rows.jsonl{ending}"
    data = b'\xef\xbb\xbf{"a": 1}\n\n  {"a": "\xc3\xa9"}\r\n{"a":\n[1]\n"x"\n{"a": "\xff"}\n{"a": 2}'
    path.write_bytes(packed(data, ending))
    rows = read(path)
    assert [number for number, _ in rows] == [1, 3, 4, 5, 6, 7, 8]
    assert [values for _, values in rows if isinstance(values, dict)] == [{"a": 1}, {"a": "\u00e9"}, {"a": 2}]
    reasons = dict(rows)
    assert reasons[4].startswith("not JSON: ")
    assert reasons[5] == "a JSON list instead of an object"
    assert reasons[6] == "a JSON str instead of an object"
    assert reasons[7] == "not UTF-8 (byte 0xff at 7)"


def test_files_put_together_have_several_byte_order_marks(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\xef\xbb\xbf{"a": "\xef\xbb\xbf"}\n')
    assert read(path) == [(1, {"a": 1}), (2, {"a": "\ufeff"})]


@pytest.mark.parametrize("row", ['{"a": 1, "b": 2, "a": 1}', '{"b": {"a": 1, "a": 2}}', '{"b": [{"a": 1, "a": 2}]}'])
def test_a_key_that_occurs_twice_is_a_bad_row(tmp_path, row):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + row + "\n")
    assert read(path) == [(1, {"a": 1}), (2, "the key 'a' occurs twice")]


def test_deep_json_is_a_bad_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": ' + "[" * 200_000 + "\n" + '{"a": 1}\n')
    rows = read(path)
    assert rows[0][1].startswith("not JSON")
    assert rows[1] == (2, {"a": 1})


def test_csv_with_quotes_over_lines(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfa, b \r\n"x\r\ny","1,""2"""\r\n\r\nz,3\r\nz\r\nz,\xff\r\n\xc3\xa9,4')
    assert read(path) == [
        (2, {"a": "x\r\ny", "b": '1,"2"'}),
        (5, {"a": "z", "b": "3"}),
        (6, "1 fields, but the header names 2"),
        (7, "not UTF-8; as Windows text it would be 'ÿ' (then set source.csv.encoding: cp1252)"),
        (8, {"a": "\u00e9", "b": "4"}),
    ]


def test_tsv_and_a_format_that_is_given(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text('a\tb\n1, 2\t"3\t4"\n')
    assert format_of(path.name) is None
    assert read(path, "tsv") == [(2, {"a": "1, 2", "b": "3\t4"})]


def test_csv_that_is_none(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n1,"2" 3\n')
    with pytest.raises(DataError, match=r"rows\.csv:2: not CSV"):
        read(path)
    path.write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match="two columns are named 'a'"):
        read(path)


def test_a_long_field(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a\n" + "x" * 300_000 + "\n")
    assert len(read(path)[0][1]["a"]) == 300_000


def test_parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    rows = [{"a": i, "b": [f"x{i}", None]} for i in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=700)
    assert read(path) == list(enumerate(rows, 1))
    assert count_rows(path, "parquet", "x") == 3000


@pytest.mark.parametrize(
    "ending", ["jsonl.gz", "csv.gz", "jsonl.zst", "tsv.zst", "jsonl.bz2", "csv.xz", "jsonl.lz4", "parquet"]
)
def test_damaged_files_are_named(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"a": ["x" * 100] * 1000}), path)
    else:
        path.write_bytes(packed("".join(f'{{"a": {i}}}\n' for i in range(5000)).encode(), ending))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=rf"rows\.{ending}: {DAMAGED}"):
        read(path)
    path.write_bytes(b"not what its name says, at all")
    with pytest.raises(DataError, match=rf"rows\.{ending}: {DAMAGED}"):
        read(path)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "jsonl.gz", "jsonl.zst", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, ending):
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.{ending}"
        texts = [f"row {i} " + "x" * 500 for i in range(rows)]
        if ending == "parquet":
            pq.write_table(pa.table({"a": texts}), path, row_group_size=1000)
        else:
            lines = ["a", *texts] if ending == "csv" else [json.dumps({"a": text}) for text in texts]
            data = ("\n".join(lines) + "\n").encode()
            path.write_bytes(packed(data, ending))
        del texts
        tracemalloc.start()
        count = sum(row.values is not None for row in read_rows(path, format_of(path.name), path.name))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == rows
        return highest

    assert peak(20_000) < 1.5 * peak(4_000) + (64 << 10)  # 10 MB of rows


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.jsonl", "jsonl"), ("a.JSON.GZ", "jsonl"), ("a.csv.gz", "csv"), ("a.tsv", "tsv"), ("a.parquet", "parquet"),
     ("a.jsonl.zst", "jsonl"), ("a.TSV.ZST", "tsv"),
     ("a.parquet.gz", None), ("a.parquet.zst", None), ("a.jsonl.gz.zst", None), ("a.txt", None),
     ("README.md", None), ("jsonl", None)],
)  # fmt: skip
def test_formats_by_name(name, format):
    assert format_of(name) == format


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_a_row_that_is_too_long_is_a_bad_row_and_never_held(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(packed(b'{"a": 1}\n{"a": "' + b"x" * (40 << 20) + b'"}\n{"a": 2}\n', ending))
    tracemalloc.start()
    rows = read(path)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == [(1, {"a": 1}), (2, "a row of more than 16 MiB"), (3, {"a": 2})]
    assert highest < 3 * streams.LONGEST_ROW


def test_a_quotation_mark_that_is_never_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_records, "LONGEST_ROW", 1000)
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n1,2\n3,"4\n' + "5,6\n" * 1000)
    with pytest.raises(DataError, match=r"rows\.csv:3: a row of more than") as caught:
        read(path)
    assert caught.value.hint == "Is a quotation mark never closed?"


def test_a_long_value_of_parquet_is_a_bad_row(tmp_path):
    path = tmp_path / "rows.parquet"
    noise = bytes(range(32, 127)) * (17 << 20 >> 6)
    pq.write_table(pa.table({"a": ["x", noise.decode(), "y"]}), path, compression="none")
    assert read(path) == [(1, {"a": "x"}), (2, "a row of more than 16 MiB"), (3, {"a": "y"})]


@pytest.mark.parametrize("ending", ["jsonl.gz", "csv.zst", "parquet"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, ending):
    path = tmp_path / f"bomb.{ending}"
    size, blank = 256 << 20, (b" " * 65535 + b"\n") * 16
    if ending == "parquet":
        value = "x" * (4 << 20)
        table = pa.table({"a": [f"{i}{value}" for i in range(40)]})
        pq.write_table(table, path, compression="zstd", use_dictionary=False)
    elif ending.endswith("gz"):
        packer = zlib.compressobj(9, wbits=31)
        path.write_bytes(b"".join(packer.compress(blank) for _ in range(size >> 20)) + packer.flush())
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            for _ in range(size >> 20):
                stream.write(blank)
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"bomb\.{ending}: its first [\d,]+ bytes decompress to more than") as caught:
        for _ in read_rows(path, format_of(path.name), path.name):
            pass
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "decompress the file first" in caught.value.hint
    assert highest < 8 << 20


def test_files_packed_by_hand_one_after_the_other(tmp_path):
    for ending in ("gz", "bz2", "xz", "zst"):
        path = tmp_path / f"rows.jsonl.{ending}"
        path.write_bytes(packed(b'{"a": 1}\n', ending) + packed(b'{"a": 2}\n', ending))
        assert read(path) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "lz4"])
def test_a_damaged_second_file_is_never_left_out(tmp_path, ending):
    path = tmp_path / f"rows.jsonl.{ending}"
    first, second = (packed(b'{"a": %d}\n' % number, ending) for number in (1, 2))
    path.write_bytes(first + b"X" + second[1:])
    with pytest.raises(DataError, match=DAMAGED):
        read(path)


def test_padding_between_xz_streams(tmp_path):
    path = tmp_path / "rows.jsonl.xz"
    path.write_bytes(packed(b'{"a": 1}\n', "xz") + bytes(1 << 18) + packed(b'{"a": 2}\n', "xz"))
    assert read(path) == [(1, {"a": 1}), (2, {"a": 2})]


def test_text_that_packs_well_is_no_bomb(tmp_path):
    path = tmp_path / "rows.jsonl.zst"
    boilerplate = "the same notice at the end of every mail, " * 60
    lines = "".join(
        json.dumps({"a": " ".join(f"{splitmix64(10 * i + k):x}" for k in range(5)) + boilerplate}) + "\n"
        for i in range(28_000)
    )
    path.write_bytes(packed(lines.encode(), "zst"))
    assert len(lines) > streams.UNCHECKED_BYTES
    assert 20 < len(lines) / path.stat().st_size < streams.LARGEST_RATIO
    assert sum(1 for _ in read_rows(path, "jsonl", path.name)) == 28_000


def test_rows_are_counted_by_their_lines_also_in_packed_files(tmp_path):
    lines = b'{"a": 1}\n' * 250_000
    (tmp_path / "rows.jsonl").write_bytes(lines)
    with gzip.open(tmp_path / "rows.jsonl.gz", "wb") as file:
        file.write(lines)
    pq.write_table(pa.table({"a": range(7)}), tmp_path / "rows.parquet")
    assert count_rows(tmp_path / "rows.jsonl", "jsonl", "rows.jsonl") == 250_000
    assert count_rows(tmp_path / "rows.jsonl.gz", "jsonl", "x", packed_as="rows.jsonl.gz") == 250_000
    assert count_rows(tmp_path / "rows.parquet", "parquet", "rows.parquet") == 7
    (tmp_path / "rows.jsonl.gz").write_bytes((tmp_path / "rows.jsonl.gz").read_bytes()[:100])
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz: damaged gzip"):
        count_rows(tmp_path / "rows.jsonl.gz", "jsonl", "rows.jsonl.gz")
