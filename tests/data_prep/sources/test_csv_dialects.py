"""Every dialect is read right, or refused at the right line with what to do."""

import csv
import io
import json
import math

import pandas as pd
import pytest

from data_prep.config import CsvOptions
from data_prep.sources.read_as import ReadAs, detect
from data_prep.sources.readers import read_rows
from raytrain_core.errors import DataError

ROWS = [{"text": f"good thing {i}", "stars": str(i % 5 + 1)} for i in range(60)]


def rows_of(path, kind="csv", **options):
    read_as = detect(path, kind, path.name, CsvOptions(**options) if options else None)
    return list(read_rows(path, kind, path.name, read_as=read_as)), read_as


def read(path, kind="csv", **options):
    rows, _ = rows_of(path, kind, **options)
    assert [row.reason for row in rows if row.values is None] == []
    return [row.values for row in rows]


def told(path, kind="csv", **options):
    return list(rows_of(path, kind, **options)[1].told)


def written(tmp_path, text, name="rows.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def lines(form, end="\n", header="text,stars"):
    return header + end + "".join(form.format(**row) + end for row in ROWS)


@pytest.mark.parametrize(
    ("form", "header", "tells"),
    [
        ("{text};{stars}", "text;stars", "fields are divided by semicolons"),
        ("{text}\t{stars}", "text\tstars", "fields are divided by tabs"),
        ("{text}|{stars}", "text|stars", "fields are divided by vertical bars"),
        ('"{text}", "{stars}"', "text, stars", "blanks before quotation marks are left out"),
        ("{text},{stars},", "text,stars", "60 rows end in more delimiters than the header"),
        ("{text},{stars},,", "text,stars,,", None),
    ],
)
def test_a_dialect_is_detected_and_told(tmp_path, form, header, tells):
    path = written(tmp_path, lines(form, header=header))
    assert [{"text": row["text"], "stars": row["stars"]} for row in read(path)] == ROWS
    assert told(path) == ([tells] if tells else [])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path, end):
    path = written(tmp_path, lines("{text},{stars}", end))
    assert read(path) == ROWS
    assert [row.number for row in rows_of(path)[0]] == list(range(2, 62))


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8-sig", ""), ("utf-16", ""), ("utf-16-le", "\ufeff"), ("utf-16-be", "\ufeff"), ("utf-16-le", ""),
     ("utf-16-be", ""), ("utf-32", "")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_encodings_that_the_first_bytes_show(tmp_path, encoding, mark, kind):
    text = "text,stars\nKäse 日本,5\n" if kind == "csv" else '{"text": "Käse 日本", "stars": "5"}\n'
    path = written(tmp_path, mark + text, f"rows.{kind}", encoding)
    assert read(path, kind) == [{"text": "Käse 日本", "stars": "5"}]


def test_another_encoding_is_never_guessed_but_proposed(tmp_path):
    path = written(tmp_path, "text,stars\nfine,4\nKäse,5\n", encoding="cp1252")
    rows, _ = rows_of(path)
    assert (rows[1].number, rows[1].reason) == (
        3,
        "not UTF-8; as Windows text it would be 'Käse' (then set source.csv.encoding: cp1252)",
    )
    assert read(path, encoding="cp1252")[1] == {"text": "Käse", "stars": "5"}
    assert read(path, encoding="latin-1")[1] == {"text": "Käse", "stars": "5"}
    with pytest.raises(DataError, match=r"rows\.csv: is not utf-16 after line"):
        read(path, encoding="utf-16")
    header = written(tmp_path, "größe,stars\nfine,4\n", encoding="cp1252")
    with pytest.raises(DataError, match=r"rows\.csv:1: the header is not UTF-8; as Windows text it would be 'größe'"):
        read(header)


def test_the_first_line_may_tell_excel_the_delimiter(tmp_path):
    path = written(tmp_path, "sep=;\n" + lines("{text};{stars}", header="text;stars"))
    assert read(path) == ROWS
    assert rows_of(path)[0][0].number == 3


def test_decimal_commas_do_not_make_a_semicolon_file_one_of_commas(tmp_path):
    path = written(tmp_path, "text;stars\n" + "".join(f"thing {i};{i},0\n" for i in range(9)))
    assert read(path)[4] == {"text": "thing 4", "stars": "4,0"}


def test_a_header_in_the_middle_is_a_bad_row(tmp_path):
    path = written(tmp_path, '\ufefftext,out\r\n"a",1\r\n\ufefftext,out\r\n\ufeff"b",2\r\n')
    rows, _ = rows_of(path)
    assert [(row.number, row.values or row.reason) for row in rows] == [
        (2, {"text": "a", "out": "1"}),
        (3, "repeats the header; were several files put together?"),
        (4, {"text": "b", "out": "2"}),
    ]


def test_an_unclosed_quotation_mark_is_reported_where_it_opens(tmp_path):
    path = written(tmp_path, "a,b\n1,2\n3,4\n" + '"never closed,5\n' + "6,7\n" * 50)
    with pytest.raises(DataError, match=r"rows\.csv:4: not CSV: a quotation mark is never closed") as caught:
        read(path)
    assert "source.csv.quote: none" in caught.value.hint
    assert len(read(path, quote="none")) == 53
    path = written(tmp_path, "a,b\n1,2\n" + '"never closed,5\n' + "6,7\n" * 50 + '"closed",8\n')
    with pytest.raises(DataError, match=r"rows\.csv:3: not CSV: a quotation mark opens here.* closes it in line 54"):
        read(path)


def test_quotation_marks_that_swallow_rows_are_refused(tmp_path):
    """Each line is a row, and only by chance do the marks make one of five."""
    path = written(tmp_path, "a,b\n1,2\n" + '"She said: never,5\n' + "6,7\n" * 3 + 'and left",8\n' + "9,10\n")
    with pytest.raises(DataError, match=r"rows\.csv:3: a quotation mark opens here and closes 4 lines below") as caught:
        read(path)
    assert "quote: none" in caught.value.hint
    assert len(read(path, quote="none")) == 7
    assert len(read(path, quote='"')) == 3


def test_rows_over_several_lines_are_counted(tmp_path):
    path = written(tmp_path, 'text,stars\nx,1\n"first\nsecond",2\n"a ""b"" c",3\n')
    rows, read_as = rows_of(path)
    assert [row.values["text"] for row in rows] == ["x", "first\nsecond", 'a "b" c']
    assert read_as.told == ("1 rows go over several lines, the first in line 3",)
    assert not read_as.lines_are_rows
    assert rows_of(written(tmp_path, lines("{text},{stars}")))[1].lines_are_rows


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"He said \\"stop\\", then left",o\n', 'He said "stop", then left'),
        ('"ends with a backslash and quote \\"",o\n"x, y",o\n', 'ends with a backslash and quote "'),
        ('"a \\\\ b \\"c\\"",o\n', 'a \\ b "c"'),
        ('"two\nlines \\"x\\" here",o\n', 'two\nlines "x" here'),
        ('C:\\dir,o\n"\\"x\\", y",o\n', "C:\\dir"),
        ('C:\\\\dir,o\n"\\"x\\", y",o\n', "C:\\dir"),
        ('\\\\server\\share,o\n"\\"x\\", y",o\n', "\\\\server\\share"),
    ],
)
def test_quotation_marks_escaped_by_backslashes(tmp_path, text, value):
    path = written(tmp_path, "text,out\n" + "".join(f'"line {i}, plain",o {i}\n' for i in range(40)) + text)
    assert read(path)[40]["text"] == value
    assert "quotation marks are escaped by backslashes" in told(path)


def test_backslashes_stay_where_quotation_marks_are_doubled(tmp_path):
    path = written(tmp_path, 'text,out\n"C:\\new\\",1\n"say ""x\\y""",2\n')
    assert [row["text"] for row in read(path)] == ["C:\\new\\", 'say "x\\y"']


def test_tsv_does_not_quote(tmp_path):
    body = [f"sentence {i}\tanswer {i}" for i in range(20)]
    body[3] = '"Start of a speech that is never closed\tanswer three'
    body[9] = 'second half ends"\tanswer nine'
    body[12] = '"Entirely quoted"\t"kept?"'
    body[15] = '5" disk\tsize'
    path = written(tmp_path, "src\ttgt\n" + "\n".join(body) + "\n", "rows.tsv")
    assert [f"{row['src']}\t{row['tgt']}" for row in read(path, "tsv")] == body
    assert told(path, "tsv") == ["quotation marks are plain text, as usual in TSV"]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_tsv_quotes_if_the_file_shows_it(tmp_path, quoting):
    rows = [{"src": 'He said "hi"', "tgt": "a\tb"}, {"src": "two\nlines", "tgt": "x"}, {"src": "plain", "tgt": "y"}]
    for some in (rows, rows[:1], rows[1:2], [{"src": 'say "x"', "tgt": "1"}]):
        path = tmp_path / "rows.tsv"
        pd.DataFrame(some).to_csv(path, sep="\t", index=False, quoting=quoting)
        assert read(path, "tsv") == some
    assert "quotation marks enclose fields" in told(path, "tsv")


def test_what_is_set_is_not_questioned(tmp_path):
    path = written(tmp_path, 'a;b\n"1;2"\n')
    assert read(path, delimiter=";", quote="none") == [{"a": '"1', "b": '2"'}]
    assert read(path, delimiter=",") == [{"a;b": "1;2"}]
    path = written(tmp_path, "1,2\n3,4\n")
    assert read(path, header=["x", "y"]) == [{"x": "1", "y": "2"}, {"x": "3", "y": "4"}]
    path = written(tmp_path, "a,b\n'1, 2',3\n")
    assert read(path, quote="'") == [{"a": "1, 2", "b": "3"}]
    path = written(tmp_path, 'a,b\n"x ^"y^" z",3\n')
    assert read(path, escape="^") == [{"a": 'x "y" z', "b": "3"}]
    path = written(tmp_path, "a\tb\n1\\\t2\t3\n", "rows.tsv")
    assert read(path, "tsv", quote="none", escape="\\") == [{"a": "1\t2", "b": "3"}]


@pytest.mark.parametrize(
    "options",
    [{"delimiter": "ab"}, {"delimiter": "none"}, {"quote": ""}, {"encoding": "klingon"}, {"encoding": "hex"},
     {"header": []}, {"escape": "\n"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CsvOptions(**options)


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"PK\x03\x04rest", "a zip archive or an Excel workbook"), (b"PAR1rest", "a Parquet file"),
     (b"\x1f\x8b\x08rest", "compressed by gzip"), (b"%PDF-1.7", "a PDF")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "jsonl", "tsv"])
def test_a_file_that_is_no_text_is_named(tmp_path, data, what, kind):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"is {what}, not what its name says"):
        read(path, kind)


def test_columns_without_a_name(tmp_path):
    assert read(written(tmp_path, ",text\n0,a\n1,b\n")) == [{"": "0", "text": "a"}, {"": "1", "text": "b"}]
    assert read(written(tmp_path, "text,,\na,,\n")) == [{"text": "a"}]
    rows, _ = rows_of(written(tmp_path, "text,,\na,,x\n"))
    assert rows[0].reason == "field 3 holds text, but its column has no name"


def test_how_a_file_is_read_can_be_stored(tmp_path):
    path = written(tmp_path, lines("{text};{stars}", header="text;stars"))
    for options in ({}, {"header": ["a", "b"]}):
        read_as = rows_of(path, **options)[1]
        assert ReadAs.from_json(read_as.to_json()) == read_as


def test_a_long_file_is_judged_by_all_of_it(tmp_path):
    """The first rows say nothing: only the last shows how quotation marks are escaped."""
    text = io.StringIO()
    text.write("text,out\n" + '"a, b",1\n' * 5000 + '"x \\"y\\", z",2\n')
    assert read(written(tmp_path, text.getvalue()))[-1]["text"] == 'x "y", z'


@pytest.mark.parametrize("field", ["NaN", "nan", "<NA>", "\\N"])
@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_what_programs_write_for_a_missing_value_is_missing(tmp_path, field, kind, delimiter):
    path = written(tmp_path, f"text{delimiter}stars\na{delimiter}{field}\nNaN and nan{delimiter}2\n", f"rows.{kind}")
    first, second = read(path, kind)
    assert first["text"] == "a"
    assert math.isnan(first["stars"])
    assert second == {"text": "NaN and nan", "stars": "2"}


def test_a_header_that_comes_again_in_other_letters_is_a_bad_row(tmp_path):
    rows, _ = rows_of(written(tmp_path, "text,stars\na,1\nTEXT, Stars\nb,2\n"))
    assert [(row.number, row.reason[:7]) for row in rows] == [(2, ""), (3, "repeats"), (4, "")]


def test_a_header_that_comes_again_in_another_order_is_refused(tmp_path):
    path = written(tmp_path, "text,stars\na,1\nstars,text\n2,b\n")
    with pytest.raises(DataError, match=r"rows.csv:3: repeats the header in another order \(stars, text\)"):
        rows_of(path)


def test_quotation_marks_are_text_in_a_csv_file_with_tabs_if_only_that_fits(tmp_path):
    path = written(tmp_path, "text\tstars\n" + "".join(f'"good {i}\t{i}"\nfine\t2\n' for i in range(9)))
    assert read(path)[:2] == [{"text": '"good 0', "stars": '0"'}, {"text": "fine", "stars": "2"}]
    assert told(path)[-1] == "quotation marks are plain text, as usual in TSV"


def test_two_delimiters_that_fit_every_row_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,more;stars\ngood, really;5\nbad, sadly;1\n")
    with pytest.raises(DataError, match="divided by commas as well as by semicolons") as caught:
        rows_of(path)
    assert "source.csv.delimiter" in caught.value.hint
    assert read(path, delimiter=";")[0] == {"text,more": "good, really", "stars": "5"}
    path.write_text("text,more;stars\ngood, really;5\nbad;1\n")  # one row decides
    assert read(path)[1] == {"text,more": "bad", "stars": "1"}


@pytest.mark.parametrize("last", ["third", "a, b", "a; b", "a|b"])
def test_a_single_column_without_a_header_line_fits_every_delimiter_and_is_read(tmp_path, last):
    path = tmp_path / "a.csv"
    path.write_text(f"first\nsecond\n{last}\n")
    assert [row["text"] for row in read(path, header=["text"])] == ["first", "second", last]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("indent", [None, 1])
def test_json_documents_in_other_encodings(tmp_path, encoding, indent):
    path, rows = tmp_path / "a.json", [{"text": f"é日 {i}"} for i in range(900)]
    path.write_bytes(json.dumps(rows, indent=indent, ensure_ascii=False).encode(encoding))
    found, how = rows_of(path, "jsonl")
    assert [row.values for row in found] == rows
    assert how.format == "json"
    assert any("encoding" in one for one in how.told)


def test_a_file_that_is_complete_with_and_without_escapes_is_refused(tmp_path):
    path = written(tmp_path, 'text,out\nx,"y\\"\nz,w"\n')
    with pytest.raises(DataError, match=r"rows\.csv:2: every row is complete whether or not a backslash") as caught:
        rows_of(path)
    assert "source.csv.escape" in caught.value.hint
    assert read(path, escape="none") == [{"text": "x", "out": "y\\"}, {"text": "z", "out": 'w"'}]
    assert read(path, escape="\\", quote='"') == [{"text": "x", "out": 'y"\nz,w'}]


def test_an_escape_that_is_set_is_read_outside_of_quotation_marks_as_the_file_has_it(tmp_path):
    """Wherever backslashes are doubled: in quotes alone as by Spark, or everywhere as by pandas."""
    frame = pd.DataFrame({"text": ["C:\\dir", 'say "x"', "a, C:\\dir"], "out": ["o", "p", "q"]})
    pandas = tmp_path / "pandas.csv"
    frame.to_csv(pandas, index=False, escapechar="\\", doublequote=False)
    spark = written(tmp_path, 'text,out\nC:\\dir,o\n"say \\"x\\"",p\n"a, C:\\\\dir",q\n')
    for path in (pandas, spark):
        for options in ({"escape": "\\"}, {"escape": "\\", "quote": '"'}):
            assert [row["text"] for row in read(path, **options)] == list(frame["text"])


def test_tabs_win_in_tsv_over_another_delimiter_that_fits_and_it_is_told(tmp_path):
    path = written(tmp_path, "a,b\tc\n1,2\t3\n4,5\t6\n", "rows.tsv")
    assert read(path, "tsv") == [{"a,b": "1,2", "c": "3"}, {"a,b": "4,5", "c": "6"}]
    assert told(path, "tsv") == [
        "fields are divided by tabs, though commas would fit every row too (source.csv.delimiter says which)"
    ]
    assert told(path, "tsv", delimiter="tab") == []
    assert read(path, "tsv", delimiter=",")[0] == {"a": "1", "b\tc": "2\t3"}
    assert told(written(tmp_path, "a,b\tc\n1,2\t3\n4\t6\n", "plain.tsv"), "tsv") == []


def test_backslashes_in_pairs_are_told_where_nothing_shows_that_they_escape(tmp_path):
    note = "backslashes come in pairs only, and both of a pair are read"
    path = written(tmp_path, 'text,out\n"a, C:\\\\dir",1\nb,2\n')
    assert (read(path)[0]["text"], told(path)) == ("a, C:\\\\dir", [note])
    assert read(path, escape="\\")[0]["text"] == "a, C:\\dir"
    assert told(path, escape="\\") == []
    assert told(written(tmp_path, "text,out\nC:\\dir,1\n\\\\server,2\n")) == []
    assert told(written(tmp_path, 'text,out\nx\\"y,1\n')) == ["backslashes before quotation marks are plain text"]
    both = written(tmp_path, 'text,out\nC:\\\\dir,1\n"\\"x\\", y",2\n')
    assert (read(both)[0]["text"], told(both)[-1]) == (
        "C:\\dir",
        "pairs of backslashes are read as one, outside of quotation marks too",
    )
