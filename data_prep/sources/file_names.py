"""What a file name says of the file: its format, its compression and its split."""

import re
from pathlib import Path, PurePosixPath
from typing import Literal

from data_prep.config import Format, Split
from raytrain_core.errors import DataError

Compression = Literal["gz", "zst", "bz2", "xz", "lz4"]

_EXTENSIONS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".ldjson": "jsonl",
    ".jl": "jsonl",
    ".json": "jsonl",  # a single JSON document is told from JSON Lines by its first bytes
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".conll": "conll",
    ".conllu": "conll",
    ".conll2003": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
}
_SUFFIXES: dict[str, Compression] = {
    ".gz": "gz",
    ".gzip": "gz",
    ".zst": "zst",
    ".zstd": "zst",
    ".bz2": "bz2",
    ".xz": "xz",
    ".lz4": "lz4",
}
_NUMBERED = re.compile(r"(\.\d{1,9}|-\d{1,9}-of-\d{1,9})$")  # rotated logs; shards such as x.jsonl-00001-of-00008
_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",  # as the hub's own rule has it
    "evaluation": "test",
    "heldout": "test",
    "holdout": "test",
}
_PARTS_OF_WORDS = re.compile(r"(?<=[a-z])(set|split|data)$")  # trainset, testdata


def format_of(name: str) -> Format | None:
    """Returns the format of a file name; None if it is unknown."""
    plain, packed = _unpacked(name)
    found = _EXTENSIONS.get(Path(plain).suffix)
    return None if packed and found == "parquet" else found


def require_format(name: str, given: Format | None, where: str) -> Format:
    """Returns `given`, or else the format of a file name; raises DataError if it is unknown."""
    found = given or format_of(name)
    if found is None:
        raise DataError(
            f"{where}: unknown format of {name}",
            hint=f"Known are {known_extensions()}; otherwise set source.format.",
        )
    return found


def known_extensions() -> str:
    """Returns the supported extensions, for messages."""
    return ".jsonl, .json, .csv, .tsv, .conll (each also .gz, .zst, .bz2, .xz or .lz4) and .parquet"


def compression_of(name: str) -> Compression | None:
    """Returns how a file of that name is compressed."""
    return _unpacked(name)[1]


def split_of_name(name: str) -> Split | None:
    """Returns the split named in a path, the last part first.

    `data/train-00000-of-00002.parquet` is train.
    """
    found = {_SPLIT_WORDS[word] for word in split_words(name)}
    return found.pop() if len(found) == 1 else None


def split_words(name: str) -> set[str]:
    """Returns the words for splits in the last part of a path that has some."""
    for part in reversed(PurePosixPath(name).parts):
        words = [_PARTS_OF_WORDS.sub("", word) for word in re.split(r"[^a-z]+", part.lower())]
        if found := {word for word in words if word in _SPLIT_WORDS}:
            return found
    return set()


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is no data by convention.

    Such as `.cache`, `_SUCCESS`, or the unfinished `_temporary` of Hadoop and Spark.
    """
    return name.startswith((".", "_"))


def _unpacked(name: str) -> tuple[str, Compression | None]:
    """The name in small letters without numbering and compression; the compression."""
    plain = _NUMBERED.sub("", name.lower())
    packed = _SUFFIXES.get(Path(plain).suffix)
    if packed is None:
        return plain, None
    return _NUMBERED.sub("", str(Path(plain).with_suffix(""))), packed
