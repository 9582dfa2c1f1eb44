"""The source files of one task.

The digest of everything that determines its shards, and its examples.

The sha256 of a source file is computed once: `shards/sources/` remembers it by the file's path,
size and modification time (or etag) and by what the job says of its format, so that preparing
unchanged sources again takes a moment.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from data_prep.config import Task
from data_prep.shards.progress import ProgressMeter
from data_prep.shards.read_ahead import read_ahead
from data_prep.shards.row_limit import Keepers
from data_prep.shards.settings import PrepSettings
from data_prep.shards.span_reading import Chunk, SpanJob, Wanted, seen
from data_prep.shards.workers import Workers
from data_prep.sources.files import SourceFile
from data_prep.sources.plugins import versions
from data_prep.sources.read_as import DETECTION, ReadAs
from data_prep.sources.spans import Span
from data_prep.sources.task_files import Sources
from data_prep.tally import Tally
from data_prep.tasks.bad_rows import BadRows
from data_prep.tasks.columns import check_columns
from data_prep.tasks.examples import row_transform
from data_prep.tasks.profile import Observations, Profile, conclude, is_needed
from data_prep.tasks.splits import Splitter
from data_prep.text.templates import BUILT_IN
from raytrain_core.errors import DataError
from raytrain_core.hashing import digest_of
from raytrain_core.storage import NotFoundError

T = TypeVar("T")

FORMAT = 8
"""Raised whenever the same input would give other shards: templates, row mapping, tokenizer
conventions."""

AT_ONCE = 8
"""Files that are looked at at the same time: downloaded, hashed, divided."""

ROWS_OF_A_UNIT = 20_000
TEXT_OF_A_UNIT = 32 << 20
"""Characters of inputs and targets. With the rows, it bounds the memory that a work unit takes."""

_IDENTITY_FIELDS = {
    *("name", "type", "columns", "fields", "templates_per_example", "labels", "split", "limit", "probe"),
    *("on_bad_row", "bad_row_limit", "transform", "where", "mask", "few_shot", "target_format", "label_names"),
    *("tag_scheme", "number_choices"),
}


class TaskSources:
    """A task, the files it reads, and how their rows are divided into splits."""

    def __init__(self, task: Task, found: Sources, splitter: Splitter, settings: PrepSettings, scratch: Path) -> None:
        """Reads files whose contents are not known yet for their sha256.

        Creates `scratch` for downloads.
        """
        scratch.mkdir()
        self.task, self.files, self.splitter, self.scratch = task, found.files, splitter, scratch
        self._passed_over = found.passed_over
        self._settings = settings
        self.profile = Profile()
        """What whole columns tell, once `read_profile` was called."""
        self._used = [file for file in found.files if file.split in splitter.shares]
        self._fingerprints = [file.fingerprint for file in self._used]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            contents = list(pool.map(self._contents, self._used, self._fingerprints))
        self._hashes = [sha256 for sha256, _ in contents]
        self._used = [file for _, file in contents]
        self.identity = self._identify()
        self.digest = digest_of(self.identity)

    def check_columns(self) -> None:
        """Raises DataError if the first row of a file is missing a column.

        Later on, such a row is a bad row.
        """
        transform = row_transform(self.task)
        list(self._each(lambda f: check_columns(self.task, f.name, partial(f.rows, self.scratch), transform)))

    def read_profile(self, meter: ProgressMeter, workers: Workers) -> None:
        """Lets the workers read the rows for what whole columns tell, if the task needs that."""
        if not is_needed(self.task):
            return
        seen = Observations()
        for _, chunk in self.read("profile", BadRows(self.task), meter, workers):
            meter.report()
            if chunk.observed is not None:
                seen.merge(chunk.observed)
        self.profile = conclude(self.task, seen)

    def count(self) -> int | None:
        """About how many examples there will be; None if only reading them all would tell."""
        if self.task.limit is not None:
            return None
        rows = [span.rows for spans in self._spans for span in spans]
        return None if None in rows else sum(count for count in rows if count is not None)

    def read(
        self, wanted: Wanted, bad: BadRows, meter: ProgressMeter, workers: Workers, keepers: Keepers | None = None
    ) -> Iterator[tuple[int, Chunk]]:
        """Yields what is wanted of all rows, in their order, each chunk with its span's number.

        `bad` takes in what happened to the rows. Raises DataError for too many bad rows, or for a
        file that changed while it was read.
        """
        for number, chunk in read_ahead(self.jobs(wanted, keepers), workers, meter):
            bad.merge(chunk.bad)
            meter.add_read(chunk.rows)
            bad.fail_early()
            if chunk.error is not None:
                raise chunk.error
            yield number, chunk
        self._require_unchanged()

    def jobs(self, wanted: Wanted, keepers: Keepers | None = None) -> Iterator[SpanJob]:
        """Yields a job for every span, in the order of the rows."""
        spans = ((file, span) for file, spans in zip(self._used, self._spans, strict=True) for span in spans)
        for number, (file, span) in enumerate(spans):
            keeper = None if keepers is None else keepers.of(number)
            yield SpanJob(
                self.task,
                file,
                span,
                self.splitter,
                self.profile,
                self.scratch,
                wanted,
                keeper,
                self._settings.seed,
                seen(file),
            )

    def _require_unchanged(self) -> None:
        for file, fingerprint in zip(self._used, self._fingerprints, strict=True):
            if fingerprint is not None and file.fingerprint != fingerprint:
                raise DataError(
                    f"task {self.task.name}: {file.name} was changed while it was read",
                    hint="Run the same command again once nobody writes to it.",
                )

    def tally(self) -> Tally:
        """Returns which files were passed over, and what was detected of those that are read."""
        return Sources(self._used, self._passed_over).tally(self.scratch)

    @cached_property
    def _spans(self) -> list[list[Span]]:
        """The spans of each file; several files are looked at at the same time."""
        return list(self._each(lambda file: file.spans(self.scratch)))

    def _each(self, action: Callable[[SourceFile], T]) -> Iterator[T]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(action, self._used)

    def provenance(self) -> list[dict[str, Any]]:
        """Returns name, split and sha256 of every file, for the manifest."""
        return [
            {"name": file.name, "split": file.split, "sha256": sha256, "read_as": file.read_as.to_json()}
            for file, sha256 in zip(self._used, self._hashes, strict=True)
        ]

    def _identify(self) -> dict[str, Any]:
        fields = self.task.model_dump(mode="json", include=_IDENTITY_FIELDS)
        if self.task.near_twins == "drop":
            fields["near_twins"] = "drop"
        if self.task.whole_numbers != "detect":
            fields["whole_numbers"] = self.task.whole_numbers
        if self.task.mask is not None and "phone" in self.task.mask.kinds:
            fields["numbering_plans"] = version("phonenumbers")  # they change with each release
        return {
            "format": FORMAT,
            "task": fields | {"templates": self.task.templates or list(BUILT_IN[self.task.type])},
            "functions": versions(self.task.transform, f"task {self.task.name}"),
            "files": [[file.split, sha256] for file, sha256 in zip(self._used, self._hashes, strict=True)],
            "read_as": [file.read_as.identity() for file in self._used],
            "tokenizer": self._settings.tokenizer.digest,
            "limits": asdict(self._settings.limits),
            "seed": self._settings.seed,
            "part": [ROWS_OF_A_UNIT, TEXT_OF_A_UNIT],
        }

    def _memory_of(self, file: SourceFile, fingerprint: str) -> str:
        """Where it is remembered: what the name and the job say decides how a file is read too."""
        csv = self.task.source.csv
        asked = [file.read_as.format, PurePosixPath(file.name).name, csv and csv.model_dump(exclude_defaults=True)]
        return f"shards/sources/{digest_of({'fingerprint': fingerprint, 'asked': asked})}.json"

    def _contents(self, file: SourceFile, fingerprint: str | None) -> tuple[str, SourceFile]:
        """Returns the sha256 of a file, and the file with how it is read.

        Both are remembered; else the file is read for them.
        """
        store = self._settings.store
        key = self._memory_of(file, fingerprint) if fingerprint else None
        if key is not None and not self._settings.verify:
            try:
                known = json.loads(store.get(key))
                if known["detection"] == DETECTION:
                    return str(known["sha256"]), file.with_read_as(ReadAs.from_json(known["read_as"]))
            except (NotFoundError, ValueError, KeyError, TypeError):
                pass
        sha256, detected = file.sha256(self.scratch), file.detected(self.scratch)
        if key is not None and file.fingerprint == fingerprint:  # else it changed meanwhile
            read_as = detected.read_as.to_json()
            known = {"source": file.name, "sha256": sha256, "detection": DETECTION, "read_as": read_as}
            store.put(key, json.dumps(known).encode())
        return sha256, detected
