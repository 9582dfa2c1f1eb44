import os

import pytest
from pydantic import ValidationError

from data_prep.sources.file_names import split_of_name
from data_prep.sources.task_files import source_files
from raytrain_core.errors import DataError, UsageError
from tests.support.data_prep_bench import make_task, write_jsonl

ROWS = [{"input": "x", "target": "y"}]


def found(folder, uri=None, **source):
    task = make_task(source={"uri": uri, **source} if uri else source)
    return [(file.name, file.split) for file in source_files(task, folder)]


def write(folder, *names):
    for name in names:
        write_jsonl(folder / name, ROWS)


def test_a_single_file_has_no_split_whatever_its_name(tmp_path):
    write(tmp_path, "data/train.jsonl")
    assert found(tmp_path, "data/train.jsonl") == [("data/train.jsonl", None)]
    assert found(tmp_path, str(tmp_path / "data/train.jsonl")) == [(str(tmp_path / "data/train.jsonl"), None)]
    assert found(tmp_path, (tmp_path / "data/train.jsonl").as_uri())[0][1] is None


def test_splits_of_a_folder_are_recognised_by_name(tmp_path):
    write(tmp_path, "d/my-train-00000-of-00002.jsonl", "d/my-train-00001-of-00002.jsonl", "d/dev.jsonl")
    write(tmp_path, "d/test/part.jsonl", "d/.cache/train.jsonl", "d/_old/train.jsonl")
    (tmp_path / "d/README.md").write_text("# test")
    assert found(tmp_path, "d") == [
        ("d/dev.jsonl", "validation"),
        ("d/my-train-00000-of-00002.jsonl", "train"),
        ("d/my-train-00001-of-00002.jsonl", "train"),
        ("d/test/part.jsonl", "test"),
    ]


def test_a_glob(tmp_path):
    write(tmp_path, "train/a.jsonl", "train/b.csv", "test/a.jsonl", "other/a.jsonl")
    assert found(tmp_path, "t*/*.jsonl") == [("test/a.jsonl", "test"), ("train/a.jsonl", "train")]
    assert [name for name, _ in found(tmp_path, "**/t*/a.jsonl")] == ["test/a.jsonl", "train/a.jsonl"]


def test_splits_that_are_given(tmp_path):
    write(tmp_path, "test.jsonl", "more/a.jsonl", "more/b.jsonl")
    assert found(tmp_path, splits={"train": "more/*.jsonl", "validation": "test.jsonl"}) == [
        ("more/a.jsonl", "train"),
        ("more/b.jsonl", "train"),
        ("test.jsonl", "validation"),
    ]


@pytest.mark.parametrize(
    ("name", "split"),
    [("train.jsonl", "train"), ("a_valid.csv", "validation"), ("DEV-0.parquet", "validation"), ("x/test/0.csv", "test"),
     ("test/train.csv", "train"), ("train_test.csv", None), ("contest.csv", None), ("trainer.csv", None),
     ("devices.csv", None), ("val2.csv", "validation"), ("data.csv", None)],
)  # fmt: skip
def test_the_split_that_a_name_tells(name, split):
    assert split_of_name(name) == split


def test_what_is_not_there_is_named_with_what_may_be_meant(tmp_path):
    write(tmp_path, "data/reviews.jsonl")
    with pytest.raises(DataError, match=r"task notes: there is no data/review\.jsonl, did you mean reviews\.jsonl\?"):
        found(tmp_path, "data/review.jsonl")
    with pytest.raises(DataError, match="there is no nowhere/at/all"):
        found(tmp_path, "nowhere/at/all")
    with pytest.raises(DataError, match="no file matches"):
        found(tmp_path, "data/*.csv")


def test_a_file_or_folder_that_cannot_be_data(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("x")
    with pytest.raises(DataError, match="no data files in folder"):
        found(tmp_path, "folder")
    with pytest.raises(DataError, match=r"unknown format of folder/notes\.txt"):
        found(tmp_path, "folder/notes.txt")
    assert found(tmp_path, "folder/notes.txt", format="tsv") == [("folder/notes.txt", None)]
    with pytest.raises(UsageError, match="jira:// sources are not supported"):
        found(tmp_path, "jira://host/file.csv")
    with pytest.raises(ValidationError, match=r"ftp://\.\.\.: unsupported kind of storage"):
        found(tmp_path, "ftp://host/file.csv")
    with pytest.raises(UsageError, match="names no split"):
        found(tmp_path, splits={})


def test_the_order_in_which_splits_are_given_does_not_count(tmp_path):
    """An API server gives mappings back sorted by name."""
    write(tmp_path, "a.jsonl", "b.jsonl", "c.jsonl")
    given = {"validation": "b.jsonl", "test": "c.jsonl", "train": "a.jsonl"}
    assert found(tmp_path, splits=given) == found(tmp_path, splits=dict(sorted(given.items())))


def test_an_odd_file_among_splits_is_refused(tmp_path):
    write(tmp_path, "d/train.jsonl", "d/test.jsonl", "d/instructions.jsonl")
    with pytest.raises(DataError, match=r"d/instructions\.jsonl names no split"):
        found(tmp_path, "d")


def test_a_fingerprint_changes_with_the_file_and_is_not_trusted_while_it_is_new(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    (file,) = source_files(make_task(), tmp_path)
    assert file.fingerprint is None
    os.utime(path, (1e9, 1e9))
    first = file.fingerprint
    os.utime(path, (1e9, 1e9 + 1))
    assert first is not None
    assert file.fingerprint != first


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://KEYID:SECRETKEY@bucket/a.jsonl", "contains credentials"),
        ("s3://bucket/a.jsonl?X-Amz-Signature=SECRETKEY", "contains credentials"),
        ("s3://bucket/a.jsonl?AWSAccessKeyId=SECRETKEY", "contains credentials"),
        ("https://user:SECRETKEY@host/a.jsonl", "contains credentials"),
        ("hf://user:hf_SECRETKEYSECRETKEY@main", "contains credentials"),
        ("file://user:SECRETKEY@host/a.jsonl", "contains credentials"),
        ("s3://bucket/../other/a.jsonl", r"contains \.\."),
        ("s3://bucket/a/*/../../b.jsonl", r"contains \.\."),
        ("hf://../etc", r"contains \.\."),
        ("hf://someone/notes@../main", r"contains \.\."),
        ("data/*/../../../etc/*.csv", r"contains \.\. after a wildcard"),
        ("data/a\n.csv", "contains control characters"),
        ("s3://bucket/a\x00.csv", "contains control characters"),
        ("  ", "is empty"),
        ("http://169.254.169.254/latest", "unsupported kind of storage"),
        ("ssh://host/a.csv", "ssh:// sources are not supported"),
    ],
)
def test_a_uri_is_no_way_to_other_places(tmp_path, uri, reason):
    with pytest.raises((UsageError, ValidationError), match=reason) as caught:
        found(tmp_path, uri)
    assert "SECRETKEY" not in str(caught.value)


def test_a_folder_above_the_job_may_be_named(tmp_path):
    write(tmp_path, "data/a.jsonl", "data/b.jsonl")
    (tmp_path / "jobs").mkdir()
    assert found(tmp_path / "jobs", "../data/*.jsonl")[0][0].endswith("data/a.jsonl")


def test_a_file_uri_with_escapes(tmp_path):
    write(tmp_path, "my data/a.jsonl")
    uri = (tmp_path / "my data/a.jsonl").as_uri()
    assert "%20" in uri
    assert len(found(tmp_path, uri)) == 1
    assert len(found(tmp_path, uri.replace("file:", "FILE:"))) == 1


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=r"no pipe\.jsonl"):
        found(tmp_path, "pipe.jsonl")
    write(tmp_path, "d/a.jsonl")
    os.mkfifo(tmp_path / "d/pipe.jsonl")
    assert [name for name, _ in found(tmp_path, "d")] == ["d/a.jsonl"]
