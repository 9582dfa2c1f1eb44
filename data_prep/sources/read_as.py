"""How a file is read: what the job says, and what was detected over the whole file.

It is part of the identity of the shards, so a changed detection never reuses old ones.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Self

from data_prep.config import CsvOptions, Format
from data_prep.sources.compression import open_bytes
from data_prep.sources.csv_detection import detect_csv
from data_prep.sources.csv_records import CsvDialect
from data_prep.sources.encoding import as_utf8, encoding_of
from data_prep.sources.file_names import Compression, compression_of, format_of
from data_prep.sources.json_rows import is_json_document
from data_prep.sources.shapes import SHAPES

DETECTION = 4
"""Raised whenever detection may find something else in the same file."""

_HEAD = 1 << 12  # bytes that show the encoding


@dataclass(frozen=True, slots=True)
class ReadAs:
    """How a file is read."""

    format: Format
    """Of the file; never a shape."""
    shape: Format | None = None
    """Shape of its rows, if it is one of `shapes`."""
    encoding: str = "utf-8"
    dialect: CsvDialect | None = None
    lines_are_rows: bool = False
    """Whether reading may begin at any line: no row goes over several, and bytes are UTF-8."""
    told: tuple[str, ...] = ()
    """What was detected, in words, where it is not the usual."""

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain data."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def identity(self) -> dict[str, Any]:
        """Returns what determines the rows."""
        known = self.to_json()
        return {key: known[key] for key in ("format", "shape", "encoding", "dialect")}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Reads what `to_json` returned; raises KeyError or TypeError for anything else."""
        dialect = document["dialect"]
        if dialect is not None:
            header = dialect["header"]
            dialect = CsvDialect(**dialect | {"header": None if header is None else tuple(header)})
        return cls(**dict(document) | {"dialect": dialect, "told": tuple(document["told"])})


@dataclass(frozen=True, slots=True)
class _Key:
    """What determines the result of detection."""

    path: Path
    stat: tuple[int, int, int]
    format: Format
    packed_as: str
    options: str
    name: str


def detect(
    path: Path, format: Format, name: str, options: CsvOptions | None = None, *, packed_as: str | None = None
) -> ReadAs:
    """Returns how the file `path` is read.

    Reads all of it if rows may be written in several ways.
    `packed_as` (by default `name`) has the extension that tells its compression. Raises DataError
    for a file that is damaged, is no text, or could be read in two ways. The result is remembered
    until the file changes.
    """
    stat = path.stat()
    given = "" if options is None else options.model_dump_json()
    times = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return _detect(_Key(path, times, format, packed_as or name, given, name))


@lru_cache(maxsize=4096)
def _detect(key: _Key) -> ReadAs:
    shape = key.format if key.format in SHAPES else None
    format = (format_of(key.packed_as) or "jsonl") if shape else key.format
    if format == "parquet":
        return ReadAs("parquet", shape)
    compression = compression_of(key.packed_as)
    options = CsvOptions.model_validate_json(key.options) if key.options else None
    with open_bytes(key.path, compression, key.name) as file:
        head = file.read(_HEAD)
        complete = not file.read(1)
    shown = encoding_of(head, key.name)
    csv = format in ("csv", "tsv")
    given = options.encoding if csv and options is not None else None
    encoding = given or shown
    told = (f"the encoding is {encoding}",) if encoding not in ("utf-8", given) else ()
    splittable = encoding == "utf-8" and compression is None
    plain_name = key.packed_as.lower()
    named_json = ".json" in plain_name and ".jsonl" not in plain_name
    plain_head = head if encoding == "utf-8" else head.decode(encoding, "ignore").encode("utf-8", "surrogatepass")
    if format == "jsonl" and is_json_document(plain_head, complete=complete, named_json=named_json):
        return ReadAs("json", shape, encoding, told=(*told, "it is one JSON document instead of JSON Lines"))
    if not csv:
        return ReadAs(format, shape, encoding, None, splittable and format == "jsonl", told)

    def opened() -> AbstractContextManager[IO[bytes]]:
        return open_text(key.path, encoding, compression, key.name)

    found = detect_csv(opened, format, options, key.name)
    return ReadAs(format, shape, encoding, found.dialect, splittable and found.lines_are_rows, told + found.told)


@contextmanager
def open_text(path: Path, encoding: str, compression: Compression | None, name: str) -> Iterator[IO[bytes]]:
    """Yields the file's text in UTF-8, decompressed while read; raises DataError if damaged."""
    with open_bytes(path, compression, name) as file:
        yield as_utf8(file, encoding, name)
