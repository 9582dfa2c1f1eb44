"""Puts together what a job would do: rows, mixture, steps, memory and time."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.config import Task
from data_prep.tasks.mixture import depends_on_examples, rates
from raytrain.check import estimate
from raytrain.check.hub_rows import Hub
from raytrain.check.lengths import MeanLengths, measure, mixture_means
from raytrain.check.model_size import ModelSize, size_of
from raytrain.check.report import CheckReport, TaskCheck
from raytrain.check.source_rows import TaskRows, count_rows
from raytrain.config.benchmark import Benchmark
from raytrain.config.job import FineTuneJob
from raytrain.config.locations import storage_location
from raytrain.config.resources import Resources
from raytrain.config.run_layout import RunLayout
from raytrain.config.training import PackingShape
from raytrain.runs.checkpoints import is_scored
from raytrain.runs.record import RunRecord
from raytrain_core.errors import StorageError, UserError, joined
from raytrain_core.storage import Store, open_store

FEW_STEPS = 20  # fewer hardly train: the default of batchTokens is meant for tens of thousands of rows


@dataclass(frozen=True, slots=True)
class _Data:
    """What is known of the tasks' rows.

    `shares` is None if they depend on rows that are unknown.
    """

    rows: Mapping[str, TaskRows]
    lengths: Mapping[str, MeanLengths]
    lengths_basis: str
    shares: Mapping[str, float] | None

    @property
    def means(self) -> tuple[float, float] | None:
        """Mean source and target tokens of an example of the mixture."""
        return mixture_means(self.lengths, self.shares)

    def train_rows(self, task: str) -> int | None:
        """Training rows of a task, if they are known."""
        return (self.rows[task].counts or {}).get("train")


def check(job: FineTuneJob, *, storage: str | None = None, base_folder: Path = Path()) -> CheckReport:
    """Returns what the job would do.

    Raises all problems with model and data at once, as one UserError.

    Reads sources that are local files, asks the hub how many rows a data set has, and looks for the
    speed of an earlier attempt of the run. Writes nothing.
    """
    store = open_store(storage_location(storage, job, base_folder=base_folder))
    model, data = _inspect(job, base_folder, store)
    shape = _packing_shape(job, data.means)
    step_tokens = job.spec.training.batch_tokens
    if shape is not None:
        step_tokens = step_tokens // (shape.source + shape.target) * (shape.source + shape.target)
    speed, warnings = _measured_speed(store, job.metadata.name)
    if job.spec.training.steps is None:
        steps = _steps(job, data, step_tokens)
        warnings += _few_steps(job, steps, step_tokens)
        job = RunRecord(job, base_folder, steps=steps or 0).job
    training = job.spec.training
    tokens = step_tokens * training.last_step
    workers = job.spec.resources.training
    shards = workers.workers if workers.sharding == "fsdp" else 1
    memory = estimate.memory(model, training, shape, shards=shards)
    seconds, seconds_basis = estimate.duration(model.parameters, tokens, training, measured=speed)
    return CheckReport(
        run=job.metadata.name,
        storage=store.uri,
        model=job.spec.model,
        parameters=model.parameters,
        model_note=model.note,
        tasks=_tasks(job, data, shape),
        steps=training.last_step,
        tokens_per_step=step_tokens,
        tokens=tokens,
        row=None if shape is None else (shape.source, shape.target),
        lengths_basis=data.lengths_basis,
        checkpoints=-(-training.last_step // training.checkpoint_every),
        scored_checkpoints=_scored_checkpoints(job),
        memory_bytes=memory.bytes,
        memory_parts=memory.parts,
        memory_note=memory.note,
        seconds=seconds,
        seconds_basis=seconds_basis,
        ignored=_ignored(job),
        benchmarks=[_benchmark(benchmark, job) for benchmark in job.spec.probes],
        warnings=[*warnings, *_warnings(job, data)],
    )


def _inspect(job: FineTuneJob, base_folder: Path, store: Store) -> tuple[ModelSize, _Data]:
    """Looks at the model and at every task's rows.

    Raises what is wrong with any of them together.
    """
    hub, problems = Hub(), list[UserError]()
    model, rows = ModelSize(None, None, ""), dict[str, TaskRows]()
    try:
        model = size_of(job.spec.model, base_folder)
    except UserError as error:
        problems.append(error)
    for task in job.spec.tasks:
        try:
            rows[task.name] = count_rows(task, base_folder, hub.rows, store)
        except UserError as error:
            problems.append(error)
    if job.spec.probes:
        from raytrain.benchmarks.refusals import check_all

        problems += check_all(job.spec.probes, base_folder)
    if problems:
        raise joined(problems, "the model and the data")
    lengths, basis = measure(rows, model, job.spec.training)
    return model, _Data(rows, lengths, basis, _shares(job, rows))


def _shares(job: FineTuneJob, rows: Mapping[str, TaskRows]) -> dict[str, float] | None:
    """The mixture's shares; None if they depend on rows that are unknown."""
    counts = {task.name: (rows[task.name].counts or {}).get("train") for task in job.spec.trained_tasks}
    if not depends_on_examples(job.spec.mixture):
        return rates(job.spec.mixture, {name: n or 1 for name, n in counts.items()})
    known = {name: n for name, n in counts.items() if n is not None}
    return rates(job.spec.mixture, known) if len(known) == len(counts) else None


def _packing_shape(job: FineTuneJob, means: tuple[float, float] | None) -> PackingShape | None:
    training = job.spec.training
    if training.packing is not None:
        return training.packing
    from raytrain.training.data.default_shape import packing_shape

    limits = (training.batch_tokens, training.max_input_tokens, training.max_target_tokens)
    if means is None:
        packing_shape(*limits, *map(float, limits[1:]))  # raises if a step cannot hold the longest example
        return None
    return packing_shape(*limits, *means)


def _measured_speed(store: Store, name: str) -> tuple[float | None, list[str]]:
    """Tokens per second of an earlier attempt, and a warning if the storage cannot be read."""
    from raytrain.telemetry.progress import read_progress

    try:
        progress = read_progress(store, RunLayout(name))
    except StorageError as error:
        return None, [f"the storage does not answer: {error.message}"]
    return (progress.tokens_per_second if progress is not None else None), []


def _steps(job: FineTuneJob, data: _Data, step_tokens: int) -> int | None:
    """About how many steps the job's epochs or tokens take; None if the rows are unknown."""
    training = job.spec.training
    if training.tokens is not None:
        return -(-training.tokens // step_tokens)
    counts = [data.train_rows(task.name) for task in job.spec.trained_tasks]
    if training.epochs is None or data.means is None or None in counts:
        return None
    return math.ceil(training.epochs * sum(n for n in counts if n is not None) * sum(data.means) / step_tokens)


def _few_steps(job: FineTuneJob, steps: int | None, step_tokens: int) -> Iterator[str]:
    if steps is None:
        yield "how many steps training.epochs takes is known once the data is prepared"
    elif steps < FEW_STEPS:
        amount = f"1 step of {step_tokens:,} tokens" if steps == 1 else f"{steps} steps of {step_tokens:,} tokens"
        length = "epochs" if job.spec.training.epochs is not None else "tokens"
        yield f"training.{length} comes to about {amount}, too few to learn much: lower training.batchTokens"


def _tasks(job: FineTuneJob, data: _Data, shape: PackingShape | None) -> list[TaskCheck]:
    examples = _examples(job, data.means, shape)
    return [_task_check(task, data, examples) for task in job.spec.tasks]


def _task_check(task: Task, data: _Data, examples: float | None) -> TaskCheck:
    rows, length = data.rows[task.name], data.lengths.get(task.name)
    share = None if data.shares is None or task.probe else data.shares[task.name]
    return TaskCheck(
        name=task.name,
        type=task.type,
        probe=task.probe,
        source=task.source.uri or ", ".join((task.source.splits or {}).values()),
        rows=rows.counts,
        note=rows.note,
        bad_rows=rows.bad_count,
        events=rows.tally.lines(),
        share=share,
        epochs=_epochs(examples, share, data.train_rows(task.name)),
        input_tokens=length.source if length else None,
        target_tokens=length.target if length else None,
        cut=length.cut if length else None,
    )


def _benchmark(benchmark: Benchmark, job: FineTuneJob) -> str:
    """What a benchmark's probe would score, in a line."""
    rows = benchmark.examples or job.spec.evaluation.examples_per_task
    where = benchmark.rows or "the data set that its definition names"
    few_shot = "" if benchmark.few_shot is None else f", {benchmark.few_shot} solved examples in a prompt"
    when = ", ".join(benchmark.when)
    return f"{benchmark.probe}: at most {rows:,} rows of {benchmark.benchmark} from {where}{few_shot}; {when}"


def _examples(job: FineTuneJob, means: tuple[float, float] | None, shape: PackingShape | None) -> float | None:
    """About how many examples all steps hold."""
    if means is None or shape is None:
        return None
    row_examples = min(shape.source / means[0], shape.target / means[1])
    step_examples = row_examples * (job.spec.training.batch_tokens // (shape.source + shape.target))
    return step_examples * job.spec.training.last_step


def _epochs(examples: float | None, share: float | None, rows: int | None) -> float | None:
    return examples * share / rows if examples is not None and share is not None and rows else None


def _scored_checkpoints(job: FineTuneJob) -> int:
    """Returns how many checkpoints of the job will be scored."""
    training, every, last = job.spec.training, job.spec.evaluation.every, job.spec.training.last_step
    checkpoints = {*range(training.checkpoint_every, last + 1, training.checkpoint_every), last}
    return sum(is_scored(step, every=every, last_step=last) for step in checkpoints)


def _ignored(job: FineTuneJob) -> list[str]:
    """Fields of the job that a local run ignores."""
    ignored, defaults = [], Resources()
    for part in ("training", "evaluation"):
        requested, default = getattr(job.spec.resources, part), getattr(defaults, part)
        ignored += [
            f"spec.resources.{part}.{field}"
            for field in ("gpus", "memory")
            if getattr(requested, field) != getattr(default, field)
        ]
    if job.spec.cluster is not None:
        ignored.append("spec.cluster")
    return ignored


def _cuts(lengths: MeanLengths) -> Iterator[str]:
    """Which part of the rows is cut, and what to raise."""
    if lengths.cut_prompts:
        yield f"{lengths.cut_prompts:.0%} of the prompts are too long, and their input is cut (maxInputTokens)"
    if lengths.cut_answers:
        yield f"{lengths.cut_answers:.0%} of the answers are too long, and cut at their end (maxTargetTokens)"


def _warnings(job: FineTuneJob, data: _Data) -> Iterator[str]:
    training, evaluation = job.spec.training, job.spec.evaluation
    for name, rows in data.rows.items():
        if rows.bad_count:
            yield f"task {name}: {rows.bad_count:,} bad rows are skipped, e.g. {rows.bad[0]}"
        elif warning := rows.tally.warning():
            yield f"task {name}: {warning}"
        if name in data.lengths and data.lengths[name].cut > 0.05:
            yield f"task {name}: {' and '.join(_cuts(data.lengths[name]))}"
    if _scored_checkpoints(job) == 1 and training.last_step > evaluation.every:
        yield (
            f"only the last checkpoint is scored: no earlier step is a multiple of both evaluation.every "
            f"({evaluation.every}) and training.checkpointEvery ({training.checkpoint_every})"
        )
    if training.warmup_steps > training.last_step:
        yield "training.warmupSteps is more than training.steps: the peak learning rate is never reached"
    if not job.spec.probes and not any(task.probe for task in job.spec.tasks):
        yield "no task is a probe: the report cannot show what was forgotten"
