"""Builds the report's data from what a run left in storage."""

from collections.abc import Mapping, Sequence
from typing import Any

from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.forgetting import average_forgetting, backward_transfer
from raytrain.report import curves
from raytrain.report.data_card import describe_data, leaks
from raytrain.report.formatting import join_names
from raytrain.report.model import Attempt, Data, Event, ReportData, ReviewResult, Task, Training
from raytrain.report.published import beside
from raytrain.report.review_choices import read_choices
from raytrain.report.stored import StoredRun, read_run
from raytrain.report.summary import summarize
from raytrain.report.tasks import describe_tasks
from raytrain_core.errors import UserError
from raytrain_core.storage import Store

_WARNINGS = (
    *("Unusable", "Failed", "Restarted", "Superseded", "Interrupted", "Lost", "Error", "Skipped", "Changed", "Moved"),
)
"""Parts of the kinds of events that a reader should notice."""
_EVENTS = 200


def gather(store: Store, layout: RunLayout) -> ReportData:
    """Returns everything the report says about a run, in whatever phase the run is.

    Parts that are missing or damaged are listed in `ReportData.missing`. Raises StorageError if
    there is no such run.
    """
    run = read_run(store, layout)
    tasks, data, training = describe_tasks(run, layout.name), describe_data(run), _training(run)
    model, missing = run.record.job.spec.model, [*run.problems, *_missing(run, tasks)]
    reviews, unusable = _reviews(run, layout.name)
    missing += unusable
    times = [e["time"] for e in run.events if e.get("time")] or [m["time"] for m in run.metrics if m.get("time")]
    return ReportData(
        run=layout.name,
        uri=f"{store.uri}/{layout.root}",
        model=model,
        model_digest=run.record.model_digest or _scored_model(run).get("digest"),
        phase=run.progress.phase if run.progress else None,
        started=min(times, default=None),
        finished=max(times, default=None),
        summary=summarize(
            model=model,
            tasks=tasks,
            training=training,
            leaks=_leaks(run, tasks),
            changed=_changed(data),
            missing=missing,
        ),
        tasks=tasks,
        average_forgetting=average_forgetting(_forgetting_by_task(tasks)),
        backward_transfer=backward_transfer(_gains_on_probes(tasks)),
        published=beside(run.record.job, tasks),
        reviews=reviews,
        training=training,
        data=data,
        versions=_versions(run),
        job_yaml=run.job_yaml,
        identity=run.record.identity,
        attempts=[_attempt(record, run) for record in run.attempts],
        events=[_event(event) for event in run.events[-_EVENTS:]],
        missing=missing,
    )


def _scored_model(run: StoredRun) -> Mapping[str, str]:
    return next((stage.card.model for stage in run.stages.get("before", {}).values()), {})


def _changed(data: Data) -> list[str]:
    """A sentence for each task of which much was lost, changed or cut."""
    return [f"{card.task}: {card.warning}." for card in data.tasks if card.warning]


def _leaks(run: StoredRun, tasks: Sequence[Task]) -> list[str]:
    """What training saw of held-out rows, but for what is said with the score without them."""
    if run.shards is None:
        return []
    return list(leaks(run.shards, but={task.name for task in tasks if task.without_twins}))


def _missing(run: StoredRun, tasks: Sequence[Task]) -> list[str]:
    sentences = []
    for stage, when in (("before", "before training"), ("after", "after training")):
        absent = [task.name for task in tasks if task.name not in run.stages.get(stage, {})]
        if absent and len(absent) == len(tasks):
            sentences.append(f"Nothing has been scored {when} yet.")
        elif absent:
            sentences.append(f"Not scored {when}: {join_names(absent)}.")
    if not run.metrics:
        sentences.append("No training step has been recorded yet.")
    return sentences


def _reviews(run: StoredRun, name: str) -> tuple[list[ReviewResult], list[str]]:
    """Returns the reviews by people, and a sentence for each that does not fit the run any more."""
    results, unusable = [], []
    for key, text in run.reviews.items():
        try:
            results.append(read_choices(text, run, name, where=key))
        except UserError as error:
            unusable.append(f"{error.message}; it is left out of this report.")
    return results, unusable


def _forgetting_by_task(tasks: Sequence[Task]) -> dict[str, float]:
    return {
        task.name: task.forgetting.best_minus_now
        for task in tasks
        if task.probe
        and task.primary_metric.scale == "percent"
        and task.forgetting
        and task.forgetting.best_minus_now is not None
    }


def _gains_on_probes(tasks: Sequence[Task]) -> list[float]:
    return [t.difference.gain for t in tasks if t.probe and t.primary_metric.scale == "percent" and t.difference]


def _training(run: StoredRun) -> Training:
    lines = run.metrics
    seconds = sum(float(line.get("seconds") or 0) for line in lines)
    source, target, examples = (
        int(sum(line.get(key) or 0 for line in lines)) for key in ("source_tokens", "target_tokens", "examples")
    )
    after = next((stage.card.step for stage in run.stages.get("after", {}).values()), None)
    return Training(
        steps=int(lines[-1]["step"]) if lines else 0,
        planned_steps=run.record.job.spec.training.steps,
        source_tokens=source,
        target_tokens=target,
        examples=examples,
        seconds=seconds,
        tokens_per_second=(source + target) / seconds if seconds else None,
        loss=curves.total_loss(lines),
        chosen_step=run.model_step if run.model_step is not None else after,
    )


def _versions(run: StoredRun) -> dict[str, str]:
    """Returns the versions that the latest attempt recorded, and its platform."""
    latest = run.attempts[-1] if run.attempts else {}
    versions = latest.get("versions")
    known = {**versions} if isinstance(versions, dict) else {}
    known |= {"platform": latest["platform"]} if "platform" in latest else {}
    return {str(name): str(value) for name, value in known.items()}


def _attempt(record: Mapping[str, Any], run: StoredRun) -> Attempt:
    number = int(record["attempt"])
    times = [str(e["time"]) for e in run.events if e.get("attempt") == number and e.get("time")]
    steps = [int(line["step"]) for line in run.metrics if line.get("attempt") == number]
    return Attempt(
        number=number,
        started=record.get("started") or min(times, default=None),
        ended=max(times, default=None),
        first_step=min(steps, default=None),
        last_step=max(steps, default=None),
        host=str(record["host"]) if "host" in record else None,
    )


def _event(event: Mapping[str, Any]) -> Event:
    kind = str(event.get("kind", "Event"))
    return Event(
        time=event.get("time"),
        attempt=event.get("attempt"),
        kind=kind,
        message=str(event.get("message", "")),
        warning=any(word in kind for word in _WARNINGS),
    )
