"""What a file name says of the file: its format, its compression and its split."""

import re
from pathlib import Path, PurePosixPath
from typing import Literal

from data_prep.config import Split
from raytrain_core.errors import DataError

Format = Literal["jsonl", "csv", "tsv", "parquet"]
Compression = Literal["gz", "zst"]

_EXTENSIONS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_SUFFIXES: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}
_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def format_of(name: str) -> Format | None:
    """Returns the format of a file name; None if it is unknown."""
    packed = compression_of(name)
    found = _EXTENSIONS.get(Path(name.lower().removesuffix(f".{packed}")).suffix)
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
    return ".jsonl, .csv, .tsv (each also .gz or .zst) and .parquet"


def compression_of(name: str) -> Compression | None:
    """Returns how a file of that name is compressed."""
    return _SUFFIXES.get(Path(name.lower()).suffix)


def split_of_name(name: str) -> Split | None:
    """Returns the split named in a path, the last part first.

    `data/train-00000-of-00002.parquet` is train.
    """
    for part in reversed(PurePosixPath(name).parts):
        words = re.split(r"[^a-z]+", part.lower())
        if found := {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}:
            return found.pop() if len(found) == 1 else None
    return None
