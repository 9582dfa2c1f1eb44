"""A hub; files to export; and, imported where it is used, a run with a model and scores."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.export.bundle import Bundle
from raytrain_core.storage import Store
from raytrain_core.storage.commit import FileEntry
from raytrain_core.storage.store import sha256_of
from tests.support.model_hub import hub

__all__ = ["hub"]


@pytest.fixture
def bundle_of(tmp_path):
    """Returns a function that makes a bundle of files by name."""

    def make(**changes: bytes) -> Bundle:
        contents = {"config.json": b"{}", "model.safetensors": b"weights" * 99, "README.md": b"# Model", **changes}
        folder = tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        entries = tuple(FileEntry(name, len(data), sha256_of(data)) for name, data in sorted(contents.items()))
        return Bundle({name: folder / name for name in contents}, entries, {"kind": "transformers", "run": "one"})

    return make


class Finished(NamedTuple):
    """What `export_run` takes, and a folder that is not there yet."""

    world: Any
    store: Store
    layout: RunLayout
    out: Path


@pytest.fixture(scope="session")
def finished_world(tmp_path_factory):
    from dataclasses import replace

    from raytrain.evaluation.results import Stage
    from raytrain.generation.generator import Generator, load_model
    from raytrain.runs.record import RunRecord, write_record
    from tests.support.prepared_run import make_world

    world = replace(make_world(tmp_path_factory.mktemp("finished")), layout=RunLayout("taken-out"))
    write_record(world.store, world.layout, RunRecord(world.job, world.folder, world.shard_set.digest, "5f" * 32))
    evaluator, cache = world.evaluator(), tmp_path_factory.mktemp("models")
    size = world.tokenizer.size
    for name, ref in (("before", world.base), ("after", world.export(world.checkpoint(4, noise=0.2)))):
        model = load_model(ref, world.base, store=world.store, cache_folder=cache, tokenizer_size=size)
        generator = Generator(model, world.tokenizer, world.limits, device="cpu")
        for task in evaluator.tasks:
            requests = [one for chunk in evaluator.chunks(task, "test") for one in chunk.requests]
            evaluator.score(Stage(name, ref, "test"), task, generator.generate(requests), 1.0)
    return world


@pytest.fixture
def finished(finished_world, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    return Finished(finished_world, finished_world.store, finished_world.layout, tmp_path / "out")
