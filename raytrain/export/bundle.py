"""The files of an export, made in a scratch folder before anything is put anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from raytrain.config.run_layout import RunLayout
from raytrain.export.exported_run import ExportedRun
from raytrain.runs.record import read_record
from raytrain_core.errors import DataError, StorageError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import FileEntry, fetch, read_manifest
from raytrain_core.storage.scratch import scratch
from raytrain_core.storage.store import sha256_of_file

Format = Literal["transformers", "adapter", "ctranslate2"]
LISTING = "raytrain-export.json"
"""Lists an export's files with their digests; written last."""
CARD = "README.md"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files of an export by name, and what its listing says about where they come from."""

    files: Mapping[str, Path]
    entries: tuple[FileEntry, ...]
    origin: Mapping[str, Any]

    @property
    def listing(self) -> bytes:
        """The content of `raytrain-export.json`."""
        files = [{"name": one.name, "bytes": one.bytes, "sha256": one.sha256} for one in self.entries]
        document = {"format": _FORMAT, **self.origin, "files": files}
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


@contextmanager
def make_bundle(store: Store, layout: RunLayout, form: Format, *, quantization: str) -> Iterator[Bundle]:
    """Yields the files of a run's model in a format; they are removed at the end.

    Raises DataError if the run has no model yet, StorageError if it is not what was committed.
    """
    record, manifest = read_record(store, layout), read_manifest(store, layout.model)
    if record is None or manifest is None:
        raise DataError(
            f"run {layout.name} has no tuned model yet", hint="wait until it has finished, or resume it: `raytrain run`"
        )
    from raytrain.export.card import model_card

    with scratch("export") as folder:
        run = ExportedRun(store, layout, record, manifest, fetch(store, manifest, folder / "model"))
        out = folder / "out"
        out.mkdir()
        findings = _write_format(run, form, out, folder, quantization)
        (out / CARD).write_text(model_card(store, layout, form, findings), encoding="utf-8")
        origin = {
            "kind": form,
            "run": layout.name,
            "step": manifest.body.get("step"),
            "identity": record.identity,
            "raytrain": _version(),
        }
        yield _bundle(out, origin)


def _write_format(run: ExportedRun, form: Format, out: Path, folder: Path, quantization: str) -> list[str]:
    """Writes the model to `out`; returns sentences about the conversion for the card."""
    try:
        if form == "ctranslate2":
            from raytrain.export.ctranslate2 import write_ctranslate2

            return write_ctranslate2(run, out, quantization)
        if form == "adapter":
            from raytrain.export.adapter import write_adapter

            return write_adapter(run, out)
        for entry in run.manifest.files:
            (run.model / entry.name).rename(out / entry.name)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}", hint="free some space") from None
    return []


def _bundle(folder: Path, origin: Mapping[str, Any]) -> Bundle:
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    entries = tuple(FileEntry(name, path.stat().st_size, sha256_of_file(path)) for name, path in files.items())
    return Bundle(files, entries, origin)


def _version() -> str | None:
    with suppress(PackageNotFoundError):  # run from a source tree
        return version("raytrain")
    return None
