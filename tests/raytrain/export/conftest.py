"""A run with an exported model and scores before and after, made once; and a hub."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.results import Stage
from raytrain.generation.generator import Generator, load_model
from raytrain.runs.record import RunRecord, write_record
from raytrain_core.storage import Store
from tests.support.model_hub import hub
from tests.support.prepared_run import World, prepared_world

__all__ = ["hub", "prepared_world"]


class Finished(NamedTuple):
    """What `export_run` takes, and a folder that is not there yet."""

    world: World
    store: Store
    layout: RunLayout
    out: Path


@pytest.fixture(scope="session")
def finished_world(prepared_world, tmp_path_factory):
    world = replace(prepared_world, layout=RunLayout("taken-out"))
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
