"""Scoring any model on a job's tasks: a base model, a fine-tune, or the model of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raytrain.config.job import FineTuneJob
from raytrain.config.locations import cache_folder, locate_run, storage_location
from raytrain.config.run_layout import EvaluationLayout, RunLayout
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.commit import read_manifest
from raytrain_core.text import did_you_mean

if TYPE_CHECKING:
    from raytrain.evaluation.evaluator import Evaluator
    from raytrain.evaluation.local import OnProgress
    from raytrain.evaluation.results import ScoreCard
    from raytrain.generation.generator import Generator

Split = Literal["validation", "test"]


@dataclass(frozen=True, slots=True)
class ModelScores:
    """The scores of a model, and the name that they are stored under."""

    model: str
    name: str
    storage: str
    split: str
    cards: tuple[ScoreCard, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns plain data for `-o json`."""
        cards = [card.to_json() for card in self.cards]
        return {"model": self.model, "name": self.name, "storage": self.storage, "split": self.split, "scores": cards}


def evaluate_model(
    target: str,
    job: FineTuneJob,
    *,
    base_folder: Path,
    storage: str | None = None,
    tasks: Sequence[str] = (),
    split: Split = "test",
    on_progress: OnProgress = lambda done, total, task: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> ModelScores:
    """Scores a model on `tasks` of the job (by default all), on the rows that a run would score.

    The job's benchmarks are tasks too; they have one set of rows, whatever `split` is.

    `target` is a run (name or URI) whose exported model is scored, a model folder, a prefix in a
    bucket, or a hub id. The model's own tokenizer is used. Scores are stored under
    `evaluations/` and are not computed again.

    Raises UsageError for an unknown task, TrainingError for a model that cannot be loaded.
    """
    from raytrain.evaluation.local import score_locally
    from raytrain.evaluation.results import Stage
    from raytrain.generation.requests import ModelRef
    from raytrain.model.source import digest

    names = _select_tasks([*(t.name for t in job.spec.tasks), *(p.probe for p in job.spec.probes)], tasks)
    store = open_store(storage_location(storage, job, base_folder=base_folder))
    folder = _model_folder(target, store)
    stage = Stage(split, ModelRef("base", str(folder), digest(folder)), split)
    name = evaluation_name(target, stage.model.digest)
    evaluator = _evaluator(job, name, folder, names, store=store, base_folder=base_folder)
    for probe, benchmark in evaluator.benchmarks.items():
        on_note(f"{probe}: {benchmark.in_words}")
    cards = score_locally(
        evaluator, stage, lambda: _load_generator(job, folder, evaluator), tasks=names, on_progress=on_progress
    )
    return ModelScores(target, name, store.uri, split, tuple(cards))


def _evaluator(
    job: FineTuneJob, name: str, model_folder: Path, tasks: Sequence[str], *, store: Store, base_folder: Path
) -> Evaluator:
    """Prepares the job's data with the model's tokenizer; returns the evaluator of `tasks`."""
    from data_prep.prepare import PrepLimits, prepare
    from data_prep.text.tokenizer_folder import read_tokenizer
    from raytrain.evaluation.benchmark_rows import load_benchmarks
    from raytrain.evaluation.evaluator import Evaluator
    from raytrain.generation.requests import GenerationLimits
    from raytrain_core.storage.cache import Cache
    from raytrain_core.storage.scratch import scratch

    spec = job.spec
    with scratch("benchmarks", folder=cache_folder()) as rows:
        benchmarks = load_benchmarks(job, model_folder, base_folder=base_folder, store=store, scratch=rows, names=tasks)
    shards = prepare(
        spec.tasks,
        spec.mixture,
        store=store,
        tokenizer=read_tokenizer(model_folder),
        limits=PrepLimits(spec.training.max_input_tokens, spec.training.max_target_tokens),
        base_folder=base_folder,
    )
    return Evaluator(
        store=store,
        layout=EvaluationLayout(name),
        shard_set=shards,
        tasks={
            **{task.name: task for task in spec.tasks if task.name in tasks},
            **{name: benchmark.task for name, benchmark in benchmarks.items()},
        },
        benchmarks=benchmarks,
        cache=Cache(cache_folder() / "shards"),
        limits=GenerationLimits.from_job(job),
        examples_per_task=spec.evaluation.examples_per_task,
    )


def _load_generator(job: FineTuneJob, model_folder: Path, evaluator: Evaluator) -> Generator:
    from data_prep.shards.tokenizer_files import load_tokenizer
    from raytrain.generation.generator import Generator
    from raytrain.generation.plain_tokenizer import PlainTokenizer
    from raytrain.model.loading import load

    tokenizer = load_tokenizer(evaluator.shard_set, evaluator.store)
    return Generator(
        load(model_folder, tokenizer_size=tokenizer.size),
        tokenizer,
        evaluator.limits,
        device=job.spec.training.device,
        max_target_tokens=job.spec.training.max_target_tokens,
        plain=lambda: PlainTokenizer(model_folder),
        positions=max((benchmark.positions for benchmark in evaluator.benchmarks.values()), default=0),
    )


def evaluation_name(target: str, digest: str) -> str:
    """Returns the name that a model's scores are stored under: readable and unique to the model."""
    last = target.rstrip("/").rpartition("/")[2].lower()
    readable = re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:40]
    return f"{readable or 'model'}-{digest[:12]}"


def _select_tasks(known: Sequence[str], requested: Sequence[str]) -> list[str]:
    for name in requested:
        if name not in known:
            raise UsageError(
                f"the job has no task {name!r}{did_you_mean(name, known)}",
                hint=f"Its tasks are {', '.join(known)}.",
            )
    return [name for name in known if not requested or name in requested]


def _model_folder(target: str, store: Store) -> Path:
    """Returns the local folder of a model; that of a run is fetched from storage."""
    from raytrain.model import source

    if "/runs/" in target and not Path(target).joinpath("config.json").is_file():
        run = locate_run(target, None)
        store = open_store(run.storage)
        target = f"run://{run.name}"
    elif "/" not in target and not Path(target).is_dir() and read_manifest(store, RunLayout(target).model) is not None:
        target = f"run://{target}"
    return source.resolve(target, store=store, base_folder=Path.cwd(), cache=cache_folder() / "models")
