"""A small prepared run: real shards of two tasks and a probe, and a random T5."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.prepare import PrepLimits, prepare
from data_prep.shards.manifest import ShardSet
from data_prep.text.tokenizer import Tokenizer
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.evaluator import Evaluator
from raytrain.evaluation.results import ScoreCard, Stage
from raytrain.generation.requests import Generation, GenerationLimits, ModelRef, Request
from raytrain.model.export import export
from raytrain.model.loading import load
from raytrain.model.source import digest
from raytrain.runs.record import RunRecord, write_record
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.commit import commit
from tests.support.tiny_t5 import state

Generate = Callable[[ModelRef, Sequence[Request]], list[Generation]]

torch.set_num_threads(1)  # the models are tiny: several threads would only wait for each other


@dataclass(frozen=True)
class World:
    """A run with prepared data; every test gets a layout with its own run name."""

    job: FineTuneJob
    folder: Path
    store: Store
    shard_set: ShardSet
    tokenizer: Tokenizer
    base: ModelRef
    layout: RunLayout

    @property
    def limits(self) -> GenerationLimits:
        return GenerationLimits(48, 8, 5)

    def evaluator(self, **changes: Any) -> Evaluator:
        settings: dict[str, Any] = {
            "store": self.store,
            "layout": self.layout,
            "shard_set": self.shard_set,
            "tasks": {task.name: task for task in self.job.spec.tasks},
            "cache": Cache(self.folder / "cache", 1 << 30),
            "limits": self.limits,
            "examples_per_task": 12,
        }
        return Evaluator(**{**settings, **changes})

    def checkpoint(self, step: int, noise: float = 0.05) -> ModelRef:
        """Commit a checkpoint with weights of its own."""
        from safetensors.torch import save_file

        model = load(self.folder / "model", tokenizer_size=self.tokenizer.size)
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
        path = self.folder / f"weights-{self.layout.name}-{step}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state(model).items()}, path)
        prefix = self.layout.checkpoint(step, 1)
        manifest = commit(self.store, prefix, {"model.safetensors": path}, {"kind": "checkpoint", "step": step})
        return ModelRef("checkpoint", prefix, manifest.file("model.safetensors").sha256, step)

    def export(self, ref: ModelRef) -> ModelRef:
        """Commit the model of a checkpoint as the run's export."""
        from raytrain.generation.generator import load_model

        size = self.tokenizer.size
        options: dict[str, Any] = {"store": self.store, "cache_folder": self.folder / "cache", "tokenizer_size": size}
        folder = self.folder / f"export-{self.layout.name}"
        self.tokenizer.save(folder / "tokenizer")
        files = export(load_model(ref, self.base, **options), folder / "tokenizer", folder / "model")
        manifest = commit(
            self.store, self.layout.model, files, {"kind": "model", "step": ref.step, "checkpoint": ref.uri}
        )
        return ModelRef("export", self.layout.model, manifest.file("model.safetensors").sha256, ref.step)


@pytest.fixture
def score_locally() -> Callable[..., tuple[ScoreCard, ...]]:
    """Returns a function that scores a stage in this process, chunk by chunk as the pool does it.

    Its arguments are evaluator, generate(model, requests), stage and tasks (by default all).
    """

    def score(evaluator: Evaluator, generate: Generate, stage: Stage, task: str) -> ScoreCard:
        if (card := evaluator.stored_card(stage, task)) is not None:
            return card
        examples = evaluator.examples(task, stage.split)
        generations: dict[int, Generation] = {}
        for chunk in evaluator.chunks(task, stage.split):
            generations.update(zip(chunk.indices, generate(stage.model, chunk.requests), strict=True))
        return evaluator.score(stage, task, [generations[i] for i in range(len(examples))], 1.0)

    def score_all(
        evaluator: Evaluator, generate: Generate, stage: Stage, tasks: Sequence[str] | None = None
    ) -> tuple[ScoreCard, ...]:
        return tuple(score(evaluator, generate, stage, task) for task in tasks or evaluator.tasks)

    return score_all


def make_world(folder: Path) -> World:
    """Prepares the tiny job in `folder`."""
    from tests.support.tiny_job import write_job

    loaded = load_job(write_job(folder))
    store = open_store(str(folder / "store"))
    tokenizer = read_tokenizer(folder / "model")
    spec = loaded.job.spec
    limits = PrepLimits(spec.training.max_input_tokens, spec.training.max_target_tokens)
    shard_set = prepare(
        spec.tasks, spec.mixture, store=store, tokenizer=tokenizer, limits=limits, base_folder=loaded.base_folder
    )
    base = ModelRef("base", str(folder / "model"), digest(folder / "model"))
    return World(loaded.job, folder, store, shard_set, tokenizer, base, RunLayout("unused"))


@pytest.fixture(scope="session")
def prepared_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("evaluation-world"))


@pytest.fixture
def world(prepared_world: World, request: pytest.FixtureRequest) -> World:
    name = f"run-{sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
    world = replace(prepared_world, layout=RunLayout(name))
    record = RunRecord(world.job, world.folder, world.shard_set.digest, world.base.digest)
    write_record(world.store, world.layout, record)
    return world
