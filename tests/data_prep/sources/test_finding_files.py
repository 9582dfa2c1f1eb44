"""Which files of a folder or bucket are read, and that the others are named with the reason."""

import os

import pytest

from data_prep.sources.file_names import compression_of, format_of, split_of_name
from data_prep.sources.task_files import find_sources, source_files
from data_prep.tasks.splits import splitter_of
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import open_store
from tests.support.data_prep_bench import make_task, write_jsonl

ROWS = [{"input": "x", "target": "y"}]


def write(folder, *names):
    for name in names:
        write_jsonl(folder / name, ROWS)


def names(folder, uri, **source):
    return [file.name for file in source_files(make_task(source={"uri": uri, **source}), folder)]


def passed_over(folder, uri):
    return {one.name: one.reason for one in find_sources(make_task(source={"uri": uri}), folder).passed_over}


def test_links_to_files_and_folders_are_followed(tmp_path):
    write(tmp_path, "data/2023/part.jsonl", "disk2/2024/part.jsonl", "disk3/more.jsonl")
    (tmp_path / "data/2024").symlink_to(tmp_path / "disk2/2024")
    (tmp_path / "data/more.jsonl").symlink_to("../disk3/more.jsonl")
    expected = ["data/2023/part.jsonl", "data/2024/part.jsonl", "data/more.jsonl"]
    assert names(tmp_path, "data") == expected
    assert names(tmp_path, "data/**/*.jsonl") == expected
    assert names(tmp_path, "data/*/*.jsonl") == expected[:2]


def test_a_linked_folder_gives_its_name_to_the_split(tmp_path):
    write(tmp_path, "elsewhere/part.jsonl", "data/test/part.jsonl")
    (tmp_path / "data/train").symlink_to(tmp_path / "elsewhere")
    files = source_files(make_task(source={"uri": "data"}), tmp_path)
    assert [(file.name, file.split) for file in files] == [
        ("data/test/part.jsonl", "test"),
        ("data/train/part.jsonl", "train"),
    ]


@pytest.mark.parametrize("uri", ["data", "data/**/*.jsonl"])
def test_links_in_a_circle_are_refused(tmp_path, uri):
    write(tmp_path, "data/a/part.jsonl")
    (tmp_path / "data/a/again").symlink_to(tmp_path / "data")
    with pytest.raises(DataError, match=r"data/a/again: is a symbolic link to a folder above it"):
        names(tmp_path, uri)


@pytest.mark.parametrize("uri", ["data", "data/*.jsonl", "data/b.jsonl"])
def test_a_link_to_nothing_is_refused(tmp_path, uri):
    write(tmp_path, "data/a.jsonl")
    (tmp_path / "data/b.jsonl").symlink_to("/nowhere/b.jsonl")
    with pytest.raises(DataError, match=r"b\.jsonl.* is a symbolic link to /nowhere/b\.jsonl, which does not exist"):
        names(tmp_path, uri)


def test_a_link_to_a_folder_that_is_gone_is_refused(tmp_path):
    write(tmp_path, "data/2023/part.jsonl")
    (tmp_path / "data/2024").symlink_to("/nowhere/2024")
    with pytest.raises(DataError, match=r"data/2024: is a symbolic link to /nowhere/2024, which does not exist"):
        names(tmp_path, "data")


def test_a_file_that_is_reached_twice_is_read_once_and_that_is_told(tmp_path):
    write(tmp_path, "data/2024/part.jsonl", "data/z.jsonl")
    (tmp_path / "data/1-newest").symlink_to("2024")
    (tmp_path / "data/a.jsonl").symlink_to("z.jsonl")
    assert names(tmp_path, "data") == ["data/2024/part.jsonl", "data/z.jsonl"]
    assert passed_over(tmp_path, "data") == {
        "data/1-newest/part.jsonl": "the same file as 2024/part.jsonl",
        "data/a.jsonl": "the same file as z.jsonl",
    }


def test_a_file_of_two_splits_is_read_for_both(tmp_path):
    """It is leakage, which is found and told later on."""
    write(tmp_path, "data/train/a.jsonl")
    (tmp_path / "data/test").symlink_to("train")
    assert names(tmp_path, "data") == ["data/test/a.jsonl", "data/train/a.jsonl"]


def test_what_is_passed_over_is_named_with_the_reason(tmp_path):
    write(tmp_path, "d/a.jsonl", "d/_part-3.jsonl", "d/.cache/x.jsonl", "d/README.md", "d/a.parquet.gz", "d/_SUCCESS")
    os.mkfifo(tmp_path / "d/pipe.jsonl")
    assert names(tmp_path, "d") == ["d/a.jsonl"]
    assert passed_over(tmp_path, "d") == {
        "d/.cache": "its name begins with .",
        "d/README.md": "not a known format",
        "d/_SUCCESS": "its name begins with _",
        "d/_part-3.jsonl": "its name begins with _",
        "d/a.parquet.gz": "not a known format",
        "d/pipe.jsonl": "not a plain file",
    }
    assert passed_over(tmp_path, "d/*") == {
        "d/README.md": "not a known format",
        "d/_SUCCESS": "not a known format",
        "d/a.parquet.gz": "not a known format",
        "d/pipe.jsonl": "not a plain file",
    }


def test_a_folder_with_nothing_to_read_says_what_is_there(tmp_path):
    write(tmp_path, "d/_a.jsonl", "d/notes.txt")
    with pytest.raises(DataError, match="no data files in d") as caught:
        names(tmp_path, "d")
    assert "Passed over: d/_a.jsonl (its name begins with _), d/notes.txt (not a known format)." in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path):
    write(tmp_path, "d/a.jsonl", "d/secret/b.jsonl")
    (tmp_path / "d/secret").chmod(0)
    with pytest.raises(DataError, match=r"d/secret: cannot be read \(Permission denied\)"):
        names(tmp_path, "d")


@pytest.mark.parametrize("folder", ["run [A]", "what?", "a*b", "{x}"])
def test_the_folder_of_the_job_is_no_pattern(tmp_path, folder):
    write(tmp_path / folder, "data/part-1.jsonl", "data/part-2.csv")
    write(tmp_path / "run A", "data/part-1.jsonl")
    assert names(tmp_path / folder, "data/*.jsonl") == ["data/part-1.jsonl"]
    assert names(tmp_path, f"{folder}/data/*.jsonl") == [f"{folder}/data/part-1.jsonl"]
    assert names(tmp_path, f"{folder}/data") == [f"{folder}/data/part-{i}" for i in ("1.jsonl", "2.csv")]
    assert names(tmp_path, f"{folder}/data/part-1.jsonl") == [f"{folder}/data/part-1.jsonl"]
    assert names(tmp_path, (tmp_path / folder).as_uri() + "/data/*.jsonl")[0].endswith("part-1.jsonl")


def test_a_name_that_exists_is_found_before_what_it_matches_as_a_pattern(tmp_path):
    write(tmp_path, "d/[1] x.jsonl", "d/1 x.jsonl", "d/sub[12]/x.jsonl", "d/sub1/x.jsonl")
    assert names(tmp_path, "d/[1] x.jsonl") == ["d/[1] x.jsonl"]
    assert names(tmp_path, "*/sub[12]/x.jsonl") == ["d/sub[12]/x.jsonl"]
    assert names(tmp_path, "d/sub[1]/x.jsonl") == ["d/sub1/x.jsonl"]


@pytest.mark.parametrize(
    ("name", "format", "compression"),
    [("a.jsonlines", "jsonl", None), ("a.jsonl.1", "jsonl", None), ("a.jsonl.bz2", "jsonl", "bz2"),
     ("a.jsonl-00001-of-00008", "jsonl", None), ("a.csv.gz-1-of-2", "csv", "gz"), ("a.jsonl.2.gz", "jsonl", "gz"),
     ("a.tab", "tsv", None), ("a.pq", "parquet", None), ("a.csv.xz", "csv", "xz"), ("a.tsv.lz4", "tsv", "lz4"),
     ("a.ndjson.zstd", "jsonl", "zst"), ("a.jsonl~", None, None), ("a.jsonl.bak", None, None),
     ("part-00000", None, None), ("a.1", None, None)],
)  # fmt: skip
def test_common_names(name, format, compression):
    assert (format_of(name), compression_of(name)) == (format, compression)


def put(store, *names):
    for name in names:
        store.put(name, b'{"input": "x", "target": "y"}\n')


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A store in the place of a bucket; the rules for its keys are the same on S3."""
    store = open_store(str(tmp_path / "bucket"))
    monkeypatch.setattr("data_prep.sources.task_files.open_like", lambda *_: store)
    return store


def test_a_bucket_has_the_same_rules(bucket, tmp_path):
    put(bucket, "d/[1] x.jsonl", "d/1 x.jsonl", "d/_x.jsonl", "d/notes.txt", "d/.hidden/x.jsonl", "run [A]/p/x.jsonl")
    put(bucket, "run A/p/x.jsonl")
    assert names(tmp_path, "s3://bucket/d/[1] x.jsonl") == ["s3://bucket/d/[1] x.jsonl"]
    assert names(tmp_path, "s3://bucket/d") == ["s3://bucket/d/1 x.jsonl", "s3://bucket/d/[1] x.jsonl"]
    assert passed_over(tmp_path, "s3://bucket/d") == {
        "s3://bucket/d/.hidden/x.jsonl": "the name .hidden begins with .",
        "s3://bucket/d/_x.jsonl": "the name _x.jsonl begins with _",
        "s3://bucket/d/notes.txt": "not a known format",
    }
    assert names(tmp_path, "s3://bucket/run [A]/p/*.jsonl") == ["s3://bucket/run [A]/p/x.jsonl"]
    assert names(tmp_path, "s3://bucket/run [A]") == ["s3://bucket/run [A]/p/x.jsonl"]
    assert names(tmp_path, "s3://bucket/run ?/p/*.jsonl") == ["s3://bucket/run A/p/x.jsonl"]
    assert names(tmp_path, "s3://bucket/**/x.jsonl") == ["s3://bucket/run A/p/x.jsonl", "s3://bucket/run [A]/p/x.jsonl"]
    assert names(tmp_path, "s3://bucket/d/[!a]*x.jsonl")[0] == "s3://bucket/d/1 x.jsonl"


def test_an_object_that_was_replaced_after_the_listing_is_refused(bucket, tmp_path):
    put(bucket, "d/x.jsonl")
    (file,) = source_files(make_task(source={"uri": "s3://bucket/d"}), tmp_path)
    bucket.put("d/x.jsonl", b'{"input": "other", "target": "y"}\n')
    with pytest.raises(DataError, match=r"s3://bucket/d/x\.jsonl: was changed after it was listed"):
        list(file.rows(tmp_path))


def test_a_range_of_characters_that_is_none_is_a_mistake_of_the_job(bucket, tmp_path):
    put(bucket, "d/x.jsonl")
    with pytest.raises(UsageError, match=r"\[z-a\].jsonl: not a pattern"):
        names(tmp_path, "s3://bucket/d/[z-a].jsonl")


@pytest.mark.parametrize("uri", ["d", "d/*.jsonl", "**/*.jsonl"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path, uri):
    write(tmp_path / "d", "x.jsonl")
    (tmp_path / "d/x.jsonl").rename(tmp_path / "d" / os.fsdecode(b"\xff.jsonl"))
    with pytest.raises(DataError, match=r"d/\\udcff\.jsonl: this name is not UTF-8"):
        names(tmp_path, uri)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("eval/rows.jsonl", "test"),
        ("evaluation.csv", "test"),
        ("my_heldout-1.jsonl", "test"),
        ("TrainSet.csv", "train"),
        ("testdata/part-0.jsonl", "test"),
        ("devsplit.json", "validation"),
        ("dataset.jsonl", None),
        ("train_eval.jsonl", None),
        ("latest/rows.jsonl", None),
        ("set.jsonl", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_of_name(name) == split


def test_a_folder_called_eval_is_never_trained_on(tmp_path):
    (tmp_path / "data/eval").mkdir(parents=True)
    (tmp_path / "data/eval/rows.jsonl").write_text('{"input": "a", "target": "b"}\n')
    task = make_task(source={"uri": "data"})
    with pytest.raises(DataError, match="has test rows but none to train on"):
        splitter_of(task, [file.split for file in find_sources(task, tmp_path).files])


def test_settings_of_csv_for_files_that_are_none_are_refused(tmp_path):
    write(tmp_path, "data/a.jsonl", "data/b.json.gz")
    options = {"csv": {"delimiter": ";"}}
    with pytest.raises(DataError, match=r"source\.csv has no effect: none of the 2 files is CSV or TSV.*a\.jsonl"):
        names(tmp_path, "data", **options)
    with pytest.raises(DataError, match=r"source\.csv has no effect"):
        names(tmp_path, "data", format="alpaca", **options)
    assert names(tmp_path, "data", csv={}) == ["data/a.jsonl", "data/b.json.gz"]
    write(tmp_path, "data/c.csv.gz")
    assert len(names(tmp_path, "data", **options)) == 3
    assert len(names(tmp_path, "data", format="alpaca", **options)) == 3


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["train", "eval", "test"], ["eval.jsonl and test.jsonl are read together as test rows"]),
        (["train", "dev", "valid", "test"], ["dev.jsonl and valid.jsonl are read together as validation rows"]),
        (["train-1", "train-2", "test"], []),
        (["train", "validation", "test"], []),
    ],
)
def test_files_that_two_words_make_one_split_are_told(bench, names, told):
    for name in names:
        bench.write(f"notes/{name}.jsonl", [{"input": f"{name} {i}", "target": "x"} for i in range(30)])
    found = find_sources(make_task(source={"uri": "notes"}), bench.folder)
    assert [place.note for _, entry in found.tally(bench.folder) for place in entry.first] == told
