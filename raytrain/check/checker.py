"""Putting together what a job would do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.tasks.mixture import depends_on_examples, rates
from raytrain.check import estimate
from raytrain.check.hub_rows import Hub
from raytrain.check.model_size import ModelSize, size_of
from raytrain.check.report import CheckReport, TaskCheck
from raytrain.check.source_rows import TaskRows, count_rows
from raytrain.config.job import FineTuneJob, PackingShape, Resources
from raytrain.config.locations import storage_location
from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import is_scored
from raytrain.runs.record import RunRecord
from raytrain_core.errors import StorageError, UserError
from raytrain_core.storage import Store, open_store

CHARACTERS_PER_TOKEN = 4.0  # English text with T5's pieces; only where the tokenizer is not at hand
FEW_STEPS = 20  # fewer are hardly a training: the default of batchTokens is meant for tens of thousands of rows


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Mean tokens of a task's examples, cut to the limits, and the share that was cut."""

    source: float
    target: float
    cut: float


def check(job: FineTuneJob, *, storage: str | None = None, base_folder: Path = Path()) -> CheckReport:
    """What the job would do. Every problem with model and data is raised at once, as one UserError.

    Reads sources that are files here, asks the hub how many rows a data set has, and looks whether
    an earlier attempt of the run left its speed. Writes nothing.
    """
    store = open_store(storage_location(storage, job, base_folder=base_folder))
    hub, problems = Hub(), []
    rows: dict[str, TaskRows] = {}
    model = ModelSize(None, None, "")
    try:
        model = size_of(job.spec.model, base_folder)
    except UserError as error:
        problems.append(error)
    for task in job.spec.tasks:
        try:
            rows[task.name] = count_rows(task, base_folder, hub.rows, store)
        except UserError as error:
            problems.append(error)
    if problems:
        raise _joined(problems)

    lengths, basis = _lengths(job, rows, model)
    shares = _shares(job, rows)
    shape = _shape(job, lengths, shares)
    per_step = job.spec.training.batch_tokens
    if shape is not None:
        per_step = per_step // (shape.source + shape.target) * (shape.source + shape.target)
    speed, warnings = _measured_speed(store, job.metadata.name)
    if job.spec.training.steps is None:
        steps = _steps(job, rows, _means(lengths, shares), per_step)
        if steps is None:
            warnings.append("how many steps training.epochs come to is known once the data is prepared")
        elif steps < FEW_STEPS:
            amount = f"1 step of {per_step:,} tokens" if steps == 1 else f"{steps} steps of {per_step:,} tokens"
            length = "epochs" if job.spec.training.epochs is not None else "tokens"
            warnings.append(
                f"training.{length} come to about {amount}, too few to learn much: lower training.batchTokens"
            )
        job = RunRecord(job, base_folder, steps=steps or 0).job
    training = job.spec.training
    tokens = per_step * training.last_step
    workers = job.spec.resources.training
    shards = workers.workers if workers.sharding == "fsdp" else 1
    memory_bytes, memory_note = estimate.memory(model.parameters, training, shards=shards)
    seconds, seconds_basis = estimate.duration(model.parameters, tokens, training, measured=speed)
    return CheckReport(
        run=job.metadata.name,
        storage=store.uri,
        model=job.spec.model,
        parameters=model.parameters,
        model_note=model.note,
        tasks=_tasks(job, rows, lengths, shares, shape),
        steps=training.last_step,
        tokens_per_step=per_step,
        tokens=tokens,
        row=None if shape is None else (shape.source, shape.target),
        lengths_basis=basis,
        checkpoints=-(-training.last_step // training.checkpoint_every),
        scored_checkpoints=_scored(job),
        memory_bytes=memory_bytes,
        memory_note=memory_note,
        seconds=seconds,
        seconds_basis=seconds_basis,
        ignored=_ignored(job),
        warnings=[*warnings, *_warnings(job, rows, lengths)],
    )


def _joined(problems: Sequence[UserError]) -> UserError:
    """All problems as one error of the first one's kind (and exit code), each with its own hint."""
    if len(problems) == 1:
        return problems[0]
    return type(problems[0])("\n".join([f"{len(problems)} problems with the model and the data:", *map(str, problems)]))


def _lengths(job: FineTuneJob, rows: dict[str, TaskRows], model: ModelSize) -> tuple[dict[str, _Lengths], str]:
    """Mean lengths of the tasks whose rows could be read, and by what they were measured."""
    training = job.spec.training
    sampled = {name: r for name, r in rows.items() if r.prompts}
    if not sampled:
        return {}, "unknown, as the rows are"
    if model.folder is not None:
        from data_prep.text.tokenizer import Tokenizer

        tokenizer = Tokenizer.from_folder(model.folder)

        def count(texts: list[str], limit: int) -> list[int]:
            return [int(n) for n in tokenizer.encode_counted(texts, limit).lengths]

        basis = "measured with the model's tokenizer"
    else:

        def count(texts: list[str], limit: int) -> list[int]:
            return [round(len(t) / CHARACTERS_PER_TOKEN) + 1 for t in texts]

        basis = f"guessed by {CHARACTERS_PER_TOKEN:.0f} characters a token; the tokenizer is fetched with the model"
    found = {}
    for name, task_rows in sampled.items():
        sources = count(task_rows.prompts, training.max_input_tokens)
        targets = count(task_rows.targets, training.max_target_tokens)
        over = [
            s > training.max_input_tokens or t > training.max_target_tokens
            for s, t in zip(sources, targets, strict=True)
        ]
        found[name] = _Lengths(
            sum(min(s, training.max_input_tokens) for s in sources) / len(sources),
            sum(min(t, training.max_target_tokens) for t in targets) / len(targets),
            sum(over) / len(over),
        )
    return found, basis


def _shares(job: FineTuneJob, rows: dict[str, TaskRows]) -> dict[str, float] | None:
    """The mixture's shares; None where they depend on rows that are unknown."""
    counts = {t.name: (rows[t.name].counts or {}).get("train") for t in job.spec.trained_tasks}
    if not depends_on_examples(job.spec.mixture):
        return rates(job.spec.mixture, {name: n or 1 for name, n in counts.items()})
    known = {name: n for name, n in counts.items() if n is not None}
    return rates(job.spec.mixture, known) if len(known) == len(counts) else None


def _means(lengths: dict[str, _Lengths], shares: dict[str, float] | None) -> tuple[float, float] | None:
    """Mean source and target tokens of an example of the mixture."""
    if shares is None or not all(name in lengths for name in shares):
        return None
    return (
        sum(share * lengths[name].source for name, share in shares.items()),
        sum(share * lengths[name].target for name, share in shares.items()),
    )


def _shape(job: FineTuneJob, lengths: dict[str, _Lengths], shares: dict[str, float] | None) -> PackingShape | None:
    training, means = job.spec.training, _means(lengths, shares)
    if training.packing is not None:
        return training.packing
    from raytrain.training.data.packing import packing_shape

    limits = (training.batch_tokens, training.max_input_tokens, training.max_target_tokens)
    if means is None:
        packing_shape(*limits, *map(float, limits[1:]))  # raises if a step cannot hold the longest example
        return None
    return packing_shape(*limits, *means)


def _tasks(
    job: FineTuneJob,
    rows: dict[str, TaskRows],
    lengths: dict[str, _Lengths],
    shares: dict[str, float] | None,
    shape: PackingShape | None,
) -> list[TaskCheck]:
    means = _means(lengths, shares)
    examples = None
    if means is not None and shape is not None:
        in_a_row = min(shape.source / means[0], shape.target / means[1])
        in_a_step = in_a_row * (job.spec.training.batch_tokens // (shape.source + shape.target))
        examples = in_a_step * job.spec.training.last_step
    reports = []
    for task in job.spec.tasks:
        found, length = rows[task.name], lengths.get(task.name)
        share = None if shares is None or task.probe else shares[task.name]
        trained = (found.counts or {}).get("train")
        epochs = examples * share / trained if examples is not None and share is not None and trained else None
        reports.append(
            TaskCheck(
                name=task.name,
                type=task.type,
                probe=task.probe,
                source=task.source.uri or ", ".join((task.source.splits or {}).values()),
                rows=found.counts,
                note=found.note,
                bad_rows=found.bad_count,
                share=share,
                epochs=epochs,
                input_tokens=length.source if length else None,
                target_tokens=length.target if length else None,
                cut=length.cut if length else None,
            )
        )
    return reports


def _scored(job: FineTuneJob) -> int:
    """Returns how many checkpoints of the job will be scored."""
    training, every, last = job.spec.training, job.spec.evaluation.every, job.spec.training.last_step
    checkpoints = {*range(training.checkpoint_every, last + 1, training.checkpoint_every), last}
    return sum(is_scored(step, every=every, last_step=last) for step in checkpoints)


def _steps(job: FineTuneJob, rows: dict[str, TaskRows], means: tuple[float, float] | None, per_step: int) -> int | None:
    """About how many steps the job's epochs or tokens come to, in full rows; None where rows are not known."""
    training = job.spec.training
    if training.tokens is not None:
        return -(-training.tokens // per_step)
    counts = [(rows[task.name].counts or {}).get("train") for task in job.spec.trained_tasks]
    if training.epochs is None or means is None or None in counts:
        return None
    return math.ceil(training.epochs * sum(n for n in counts if n is not None) * sum(means) / per_step)


def _measured_speed(store: Store, name: str) -> tuple[float | None, list[str]]:
    from raytrain.telemetry.progress import read_progress

    try:
        progress = read_progress(store, RunLayout(name))
    except StorageError as error:
        return None, [f"the storage does not answer: {error.message}"]
    return (progress.tokens_per_second if progress is not None else None), []


def _ignored(job: FineTuneJob) -> list[str]:
    """What the job says and a run on this machine does not heed."""
    ignored, defaults = [], Resources()
    for part in ("training", "evaluation"):
        asked, default = getattr(job.spec.resources, part), getattr(defaults, part)
        ignored += [
            f"spec.resources.{part}.{field}"
            for field in ("gpus", "memory")
            if getattr(asked, field) != getattr(default, field)
        ]
    if job.spec.cluster is not None:
        ignored.append("spec.cluster")
    return ignored


def _warnings(job: FineTuneJob, rows: dict[str, TaskRows], lengths: dict[str, _Lengths]) -> list[str]:
    training, evaluation, found = job.spec.training, job.spec.evaluation, []
    for name, task_rows in rows.items():
        if task_rows.bad_count:
            found.append(f"task {name}: {task_rows.bad_count:,} bad rows are left out, e.g. {task_rows.bad[0]}")
        if name in lengths and lengths[name].cut > 0.05:
            found.append(
                f"task {name}: {lengths[name].cut:.0%} of the rows are cut: raise maxInputTokens or maxTargetTokens"
            )
    if _scored(job) == 1 and training.last_step > evaluation.every:
        found.append(
            f"no checkpoint but the last is scored: no step before it is a multiple of evaluation.every "
            f"({evaluation.every}) and of training.checkpointEvery ({training.checkpoint_every})"
        )
    if training.warmup_steps > training.last_step:
        found.append("training.warmupSteps is more than training.steps: the peak learning rate is never reached")
    if not any(task.probe for task in job.spec.tasks):
        found.append("no task is a probe: the report cannot show what was forgotten")
    return found
