"""The model card of an export: README.md with the hub's metadata, written from the run's report.

A score is never given without its interval; one without a known interval is named, not numbered. No
row of the data appears, and no place from which rows were read other than a hub's data set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_prep.config import Task as JobTask
from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.export.card_usage import usage
from raytrain.report.formatting import format_count, format_interval, format_score, join_names
from raytrain.report.gather import gather
from raytrain.report.markdown_text import escape, fence, table
from raytrain.report.model import Interval, Metric, ReportData, Task
from raytrain.report.verdicts import FATE_LABELS, probe_fate, verdict_label
from raytrain.runs.record import read_record
from raytrain_core.errors import DataError
from raytrain_core.storage import Store

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_DATASET = re.compile(r"hf://(?:datasets/)?([\w.-]+(?:/[\w.-]+)?)")
_HUB_TASKS = {
    "summarization": "summarization",
    "rating": "text-classification",
    "sentiment": "text-classification",
    "ner": "token-classification",
    "translation": "translation",
    "multiple-choice": "question-answering",
    "question-answering": "question-answering",
}
_LIBRARIES = {"transformers": "transformers", "adapter": "peft", "ctranslate2": "ctranslate2"}
_LEFT_OUT = {"device", "keep_checkpoints", "hang_timeout_seconds", "trackers", "register_model", "checkpoint_every"}
"""Training settings that do not change the result, or that say something about a machine."""


def model_card(store: Store, layout: RunLayout, form: str, findings: Sequence[str] = ()) -> str:
    """Returns the card of a run's model; `findings` are sentences about its conversion."""
    record = read_record(store, layout)
    if record is None:
        raise DataError(f"run {layout.name}: its record is missing")
    data, job = gather(store, layout), record.job
    base, revision = base_model(job, record.model_revision)
    parts = [
        f"# {escape(data.run)}",
        f"**{escape(data.summary.lead)}**",
        _origin(data, job, revision),
        *(["## This conversion", "\n".join(f"- {escape(one)}" for one in findings)] if findings else []),
        "## Use",
        usage(form),
        "## What training changed",
        _scores(data.trained),
        "## What was kept or forgotten",
        _scores(data.probes) if data.probes else "No probe was scored, so nothing is known about forgetting.",
        "## How it was scored",
        _protocol(data),
        "## Data",
        _data(data, job.spec.tasks),
        "## How it was trained",
        _recipe(job),
        _cost(data),
        "## Limits",
        _limits(data),
    ]
    return f"---\n{_metadata(data, job, form, base).to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def base_model(job: FineTuneJob, revision: str | None) -> tuple[str | None, str | None]:
    """Returns the hub id and the revision of the model that a job started from.

    The id is None if it was no model of the hub: its place says nothing to others.
    """
    name, _, asked = job.spec.model.removeprefix("hf://").partition("@")
    if "://" in name or not HUB_ID.fullmatch(name):
        return None, None
    return name, revision or asked or None


def _metadata(data: ReportData, job: FineTuneJob, form: str, base: str | None) -> ModelCardData:
    from huggingface_hub import ModelCardData

    datasets = sorted({name for task in job.spec.tasks for name in _hub_datasets(task)})
    relation = "adapter" if form == "adapter" else "finetune"
    options: dict[str, Any] = {"base_model_relation": relation} if base else {}
    return ModelCardData(
        model_name=data.run,
        base_model=base,
        datasets=datasets or None,
        library_name=_LIBRARIES[form],
        tags=["raytrain", "t5", *sorted({task.type for task in data.trained})],
        eval_results=[one for task in data.tasks for one in _eval_results(task)] or None,
        **options,
    )


def _eval_results(task: Task) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    results = []
    for metric in task.metrics:
        found = metric.after
        if found is None or found.low is None or found.high is None:
            continue
        factor = 100 if metric.scale == "percent" else 1
        low, high = round(factor * found.low, 3), round(factor * found.high, 3)
        results.append(
            EvalResult(
                task_type=_HUB_TASKS.get(task.type, "text2text-generation"),
                task_name=task.type_label,
                dataset_type=task.name,
                dataset_name=task.name + (" (probe, not trained)" if task.probe else ""),
                dataset_split=task.split,
                metric_type=metric.name,
                metric_name=f"{metric.label}, 95 % interval {low:g} to {high:g}, {task.scored} rows",
                metric_value=round(factor * found.value, 3),
                metric_args={"interval": [low, high], "level": 0.95, "rows": task.scored},
            )
        )
    return results


def _origin(data: ReportData, job: FineTuneJob, revision: str | None) -> str:
    base, _ = base_model(job, revision)
    named = f"[{base}](https://huggingface.co/{base})" if base else "a model that is not on a hub"
    at = f" at revision `{revision}`" if base and revision else ""
    digest = f" (sha256 of its files `{data.model_digest[:16]}…`)" if data.model_digest else ""
    step = f"step {data.training.chosen_step:,} of {data.training.steps:,}" if data.training.chosen_step else "no step"
    return (
        f"Fine-tuned with [raytrain](https://pypi.org/project/raytrain/) from {named}{at}{digest}; exported is {step}. "
        f"Tasks: {escape(join_names([f'{t.name} ({t.type_label})' for t in data.trained]))}."
    )


def _scores(tasks: Sequence[Task]) -> str:
    rows = []
    for task in tasks:
        metric, change = task.primary_metric, task.difference
        known = change is not None and change.low is not None and change.high is not None
        paired = Interval(value=change.value, low=change.low, high=change.high) if change and known else None
        rows.append(
            [
                escape(task.name),
                escape(metric.label) + (", lower is better" if metric.better == "lower" else ""),
                f"{task.scored:,}",
                with_interval(metric.before, metric),
                with_interval(metric.after, metric),
                with_interval(paired, metric, sign=True),
                FATE_LABELS[probe_fate(task)] if task.probe and probe_fate(task) != "unknown" else verdict_label(task),
            ]
        )
    head = ["Task", "Metric", "Rows", "Before", "After", "Change", "Verdict"]
    note = "All intervals are 95 %; those of changes are paired over the same rows. Test rows, unless stated below."
    return f"{table(head, rows, numbers_from=2)}\n\n{note}"


def with_interval(found: Interval | None, metric: Metric, *, sign: bool = False) -> str:
    """Formats a score with its interval; without an interval no number is given."""
    if found is None:
        return "not scored"
    if found.low is None or found.high is None:
        return "no interval known"
    value = format_score(found.value, metric.scale, sign=sign)
    return f"{value} {format_interval(found.low, found.high, metric.scale, sign=sign)}".replace("[", "\\[")


def _protocol(data: ReportData) -> str:
    lines = []
    for task in data.tasks:
        protocol = "; ".join(f"{key}: {value}" for key, value in task.protocol.items())
        metric = f"{task.primary_metric.label}: {task.primary_metric.protocol or 'as defined'}"
        lines.append(f"- **{escape(task.name)}** ({escape(task.split)} rows): {escape('; '.join([metric, protocol]))}")
    return "\n".join(lines) or "Nothing was scored."


def _data(data: ReportData, tasks: Sequence[JobTask]) -> str:
    splits = {card.task: {one.split: one.examples for one in card.splits} for card in data.data.tasks}
    rows = []
    for task in tasks:
        found = splits.get(task.name, {})
        hub = ", ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in _hub_datasets(task))
        counts = [f"{found.get(split, 0):,}" for split in ("train", "validation", "test")]
        licence = escape(task.source.licence) if task.source.licence else "not stated"
        rows.append([escape(task.name) + (" (probe)" if task.probe else ""), hub or "own files", licence, *counts])
    text = table(["Task", "Source", "Licence as given", "Train", "Validation", "Test"], rows, numbers_from=3)
    events = [  # without the places, which would name files of the owner
        f"- {escape(card.task)}: {escape(one.what)}: {one.count:,} ({escape(one.effect)})"
        for card in data.data.tasks
        for one in card.happened
    ]
    note = [f"> {escape(data.data.note)}"] if data.data.note else []
    return "\n\n".join([text, *note, *(["What happened to the rows:", "\n".join(events)] if events else [])])


def _hub_datasets(task: JobTask) -> list[str]:
    uris = [task.source.uri] if task.source.uri else list((task.source.splits or {}).values())
    return sorted({match[1] for uri in uris if (match := _HUB_DATASET.match(uri))})


def _recipe(job: FineTuneJob) -> str:
    import io

    from ruamel.yaml import YAML

    training = job.spec.training.model_dump(mode="json", by_alias=True, exclude=_LEFT_OUT, exclude_none=True)
    document = {"mixture": job.spec.mixture.model_dump(mode="json", by_alias=True, exclude_none=True)}
    document["training"] = training
    text, yaml = io.StringIO(), YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(document, text)
    return fence(text.getvalue(), "yaml")


def _cost(data: ReportData) -> str:
    training = data.training
    tokens = f"{training.source_tokens + training.target_tokens:,} tokens"
    workers = f", with {format_count(len(data.attempts), 'attempt')}" if data.attempts else ""
    versions = "; ".join(f"{name} {value}" for name, value in data.versions.items())
    return (
        f"{format_count(training.steps, 'step')} on {tokens} ({format_count(training.examples, 'example')}) took "
        f"{training.seconds:,.0f} s of training{workers}. Energy was not measured. {escape(versions)}".rstrip()
    )


def _limits(data: ReportData) -> str:
    limits = [f"{name}: {value:,}" for name, value in data.data.limits.items()]
    lines = [f"Longer texts were cut to these lengths in tokens: {', '.join(limits)}."] if limits else []
    unknown = [f"{t.name}: {m.label}" for t in data.tasks for m in t.metrics if m.after and m.after.low is None]
    lines += [f"Scored without a known interval, and so not given here: {join_names(unknown)}."] if unknown else []
    unread = _unread(data)
    lines += [f"Parts of the run that could not be read for this card: {len(unread)}."] if unread else []
    lines += [one for one in data.summary.warnings if one not in {*_left_out(data), *unread}]
    lines += [
        "Scores hold for rows like the test rows; other languages, domains and prompts were not tried.",
        "The licence of this model is for its owner to state; those of base model and data are named above as given.",
    ]
    return "\n".join(f"- {escape(line)}" for line in lines)


def _left_out(data: ReportData) -> set[str]:
    """Returns warnings with scores without intervals or places of rows; the report has them."""
    twins = {f"{task.name}: {task.without_twins.sentence}" for task in data.tasks if task.without_twins}
    return twins | {f"{card.task}: {card.warning}." for card in data.data.tasks if card.warning}


def _unread(data: ReportData) -> list[str]:
    """Returns what the report says of damaged parts, with their places in the owner's storage."""
    storage = data.uri.removesuffix(f"/{RunLayout(data.run).root}")
    return [one for one in data.missing if storage in one]
