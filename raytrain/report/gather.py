"""From what a run left in storage to the one object that every rendering is made of."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from data_prep.config import Task as JobTask
from data_prep.text.templates import templates_of
from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.baselines import REFERENCES
from raytrain.evaluation.forgetting import average_forgetting, backward_transfer, best_minus_now, compare
from raytrain.evaluation.metrics import Metric as AnyMetric
from raytrain.evaluation.metrics import find
from raytrain.evaluation.results import ScoreCard
from raytrain.report import cards, curves, samples
from raytrain.report import phrases as words
from raytrain.report.model import (
    Attempt,
    Baseline,
    CurvePoint,
    Difference,
    Event,
    Forgetting,
    Interval,
    Metric,
    ReportData,
    Slice,
    Task,
    TemplateScore,
    Training,
    Verdict,
)
from raytrain.report.safe_text import readable
from raytrain.report.stored import Stage, StoredRun, read_run
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store

_TROUBLE = ("Unusable", "Failed", "Restarted", "Superseded", "Interrupted", "Lost", "Error", "Skipped")
_EVENTS = 200
ONE_ANSWER = 0.1
_VERDICTS: dict[str, Verdict] = {"better": "better", "worse": "worse", "inside the noise": "noise"}


def gather(store: Store, layout: RunLayout) -> ReportData:
    """Everything the report says about the run `layout.name`, whatever phase it is in.

    Raises StorageError if there is no such run. What is missing or damaged is named in
    `ReportData.missing`.
    """
    run = read_run(store, layout)
    job, lines = run.record.job, run.metrics
    tasks = [_task(name, run, layout.name) for name in _names(run)]
    training = _training(run)
    data = cards.data(run)
    missing = [readable(x, 500) for x in [*run.troubles, *_missing(run, tasks)]]
    falls = {
        t.name: t.forgetting.best_minus_now
        for t in tasks
        if t.primary_metric.scale == "percent" and t.forgetting and t.forgetting.best_minus_now is not None
    }
    gains = [t.difference.gain for t in tasks if t.probe and t.primary_metric.scale == "percent" and t.difference]
    model = readable(job.spec.model, 300)
    times = [e["time"] for e in run.events if e.get("time")] or [x["time"] for x in lines if x.get("time")]
    return ReportData(
        run=layout.name,
        uri=f"{store.uri}/{layout.root}",
        model=model,
        model_digest=run.record.model_digest or _model(run).get("digest"),
        phase=run.progress.phase if run.progress else None,
        started=min(times, default=None),
        finished=max(times, default=None),
        summary=words.summary(model=model, tasks=tasks, training=training, leaks=data.leakage, missing=missing),
        tasks=tasks,
        average_forgetting=average_forgetting(falls),
        backward_transfer=backward_transfer(gains),
        training=training,
        data=data,
        versions=_versions(run),
        job_yaml=readable(run.job_yaml, 200_000),
        identity=run.record.identity,
        attempts=_attempts(run),
        events=[_event(e) for e in run.events[-_EVENTS:]],
        missing=missing,
    )


def _names(run: StoredRun) -> list[str]:
    """Tasks in the order of the job, then any others that have scores."""
    declared = [task.name for task in run.record.job.spec.tasks]
    return declared + sorted({task for tasks in run.stages.values() for task in tasks} - set(declared))


def _model(run: StoredRun) -> Mapping[str, str]:
    return next((s.card.model for s in run.stages.get("before", {}).values()), {})


def _missing(run: StoredRun, tasks: Sequence[Task]) -> list[str]:
    out = []
    for stage, words_for in (("before", "before training"), ("after", "after training")):
        absent = [t.name for t in tasks if t.name not in run.stages.get(stage, {})]
        if absent and len(absent) == len(tasks):
            out.append(f"Nothing has been scored {words_for} yet.")
        elif absent:
            out.append(f"Not scored {words_for}: {words.listing(absent)}.")
    if not run.metrics:
        out.append("No training step has been recorded yet.")
    return out


def _task(name: str, run: StoredRun, run_name: str) -> Task:
    before, after = (run.stages.get(stage, {}).get(name) for stage in ("before", "after"))
    checkpoints = [
        found[name].card for stage, found in sorted(run.stages.items()) if stage.startswith("step-") and name in found
    ]
    known = after or before
    card = known.card if known else checkpoints[-1] if checkpoints else None
    declared = next((t for t in run.record.job.spec.tasks if t.name == name), None)
    kind = card.type if card else declared.type if declared else "text"
    probe = card.probe if card else bool(declared and declared.probe)
    metrics = _metrics(before, after, card)
    primary_metric = metrics[0] if metrics else _unknown_primary_metric(card)
    diff = _difference(before, after, primary_metric)
    baselines = [
        Baseline(name=k, label=words.baseline_label(k), value=v, to_beat=k != REFERENCES)
        for k, v in (card.baselines if card else {}).items()
    ]
    curve = [p for c in checkpoints if (p := _point(c, primary_metric.name)) is not None]
    return Task(
        name=name,
        type=kind,
        type_label=words.type_label(kind),
        probe=probe,
        primary_metric=primary_metric,
        split=card.split if known and card else "test",
        rows=card.rows if known and card else 0,
        scored=card.scored if known and card else 0,
        difference=diff,
        sentence=words.task_sentence(primary_metric, diff, probe=probe),
        baselines=baselines,
        below_baseline=_below(primary_metric, baselines),
        one_answer=_one_answer(after.card.lengths) if after else False,
        metrics=metrics,
        templates=_templates(before, after, declared),
        by_length=_slices(before, after, "by_length"),
        by_label=_slices(before, after, "by_label"),
        validation=curve,
        validation_rows=max((c.scored for c in checkpoints), default=None),
        loss=[] if probe else curves.task_loss(run.metrics, name),
        forgetting=_forgetting(diff, curve, primary_metric),
        samples=samples.choose(
            before.answers if before else [],
            after.answers if after else [],
            run=run_name,
            task=name,
            better=primary_metric.better,
        ),
        protocol=_protocol(card),
        lengths={k: float(v) for k, v in card.lengths.items()} if card else {},
    )


def _interval(card: ScoreCard | None, metric: str) -> Interval | None:
    found = card.metrics.get(metric) if card else None
    return None if found is None or found.value is None else Interval(value=found.value, low=found.low, high=found.high)


def _metrics(before: Stage | None, after: Stage | None, card: ScoreCard | None) -> list[Metric]:
    """All metrics of the task, the headline first."""
    if card is None:
        return []
    protocols = card.protocol.get("metrics") or {}
    found = [
        Metric(
            name=name,
            label=words.metric_label(name),
            better=score.better,
            scale=score.scale,
            before=_interval(before.card if before else None, name),
            after=_interval(after.card if after else None, name),
            protocol=protocols.get(name),
            reference=score.reference,
            rows=score.rows,
            error=None if score.error is None else readable(score.error, 300),
        )
        for name, score in card.metrics.items()
    ]
    return sorted(found, key=lambda m: m.name != card.primary_metric)


def _unknown_primary_metric(card: ScoreCard | None) -> Metric:
    name = card.primary_metric if card and card.primary_metric else "score"
    return Metric(name=name, label=words.metric_label(name), better="higher", scale="percent")


def _difference(before: Stage | None, after: Stage | None, primary_metric: Metric) -> Difference | None:
    """After minus before over the rows that both answered; without a known metric there is no interval."""
    if before is None or after is None or primary_metric.before is None or primary_metric.after is None:
        return None
    sign = 1 if primary_metric.better == "higher" else -1
    metric = _known(primary_metric.name)
    found = None if metric is None else compare(metric, before.answers, after.answers)
    if found is None:
        plain = primary_metric.after.value - primary_metric.before.value
        return Difference(value=plain, gain=sign * plain, rows=0, verdict="unknown")
    return Difference(
        value=found.difference,
        low=found.low,
        high=found.high,
        gain=sign * found.difference,
        rows=found.rows,
        verdict=_VERDICTS[found.verdict],
    )


def _known(name: str) -> AnyMetric | None:
    """The metric of that name, None where it is not (or no longer) to be had."""
    try:
        return find(name)
    except UsageError:
        return None


def _point(card: ScoreCard, primary_metric: str) -> CurvePoint | None:
    found = _interval(card, primary_metric)
    return None if found is None else CurvePoint(step=card.step, value=found.value, low=found.low, high=found.high)


def _forgetting(diff: Difference | None, curve: Sequence[CurvePoint], primary_metric: Metric) -> Forgetting | None:
    metric = _known(primary_metric.name)
    fall = best_minus_now(metric, [p.value for p in curve]) if metric and len(curve) > 1 else None
    if diff is None and fall is None:
        return None
    return Forgetting(before_minus_after=None if diff is None else -diff.gain + 0.0, best_minus_now=fall)


def _below(primary_metric: Metric, baselines: Sequence[Baseline]) -> str | None:
    """The name of the strongest baseline, if the score after training is known and does not reach it."""
    score = primary_metric.after
    hurdles = [b for b in baselines if b.to_beat]
    if score is None or not hurdles:
        return None
    sign = 1 if primary_metric.better == "higher" else -1
    best = max(hurdles, key=lambda b: sign * b.value)
    return best.name if sign * score.value < sign * best.value else None


def _one_answer(lengths: Mapping[str, float]) -> bool:
    """Whether the most frequent answer is far more frequent than the most frequent reference."""
    return lengths.get("same_answer", 0.0) >= lengths.get("same_reference", 1.0) + ONE_ANSWER


def _templates(before: Stage | None, after: Stage | None, task: JobTask | None) -> list[TemplateScore]:
    old, new = (s.card.by_template if s else {} for s in (before, after))
    texts = [t.render("{input}") for t in templates_of(task)] if task else []
    out = []
    for index in sorted(int(key) for key in old.keys() | new.keys()):
        first, second = old.get(str(index)), new.get(str(index))
        out.append(
            TemplateScore(
                template=index,
                text=readable(texts[index], 300) if index < len(texts) else None,
                rows=int((second or first or {}).get("rows", 0)),
                before=first.get("value") if first else None,
                after=second.get("value") if second else None,
            )
        )
    return out


def _slices(before: Stage | None, after: Stage | None, which: Literal["by_length", "by_label"]) -> list[Slice]:
    """Parts of the rows, those of before and after together, in the order in which the cards have them."""
    old, new = (getattr(s.card, which) if s else {} for s in (before, after))
    return [
        Slice(
            name=readable(name, 80),
            rows=int((new.get(name) or old[name])["rows"]),
            before=old[name]["value"] if name in old else None,
            after=new[name]["value"] if name in new else None,
        )
        for name in dict.fromkeys([*new, *old])
    ]


def _protocol(card: ScoreCard | None) -> dict[str, str]:
    found = {k: v for k, v in (card.protocol if card else {}).items() if k != "metrics"}
    return {str(k).replace("_", " "): readable(str(v), 500) for k, v in found.items()}


def _training(run: StoredRun) -> Training:
    lines = run.metrics
    seconds = sum(float(x.get("seconds") or 0) for x in lines)
    source, target, examples = (
        int(sum(x.get(k) or 0 for x in lines)) for k in ("source_tokens", "target_tokens", "examples")
    )
    after = next((s.card.step for s in run.stages.get("after", {}).values()), None)
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
    """Versions as the latest attempt recorded them, and the platform."""
    latest = run.attempts[-1] if run.attempts else {}
    versions = latest.get("versions")
    found = {**versions} if isinstance(versions, dict) else {}
    found |= {"platform": latest["platform"]} if "platform" in latest else {}
    return {str(k): readable(str(v), 200) for k, v in found.items()}


def _attempts(run: StoredRun) -> list[Attempt]:
    out = []
    for record in run.attempts:
        number = int(record["attempt"])
        times = [str(e["time"]) for e in run.events if e.get("attempt") == number and e.get("time")]
        steps = [int(x["step"]) for x in run.metrics if x.get("attempt") == number]
        out.append(
            Attempt(
                number=number,
                started=record.get("started") or min(times, default=None),
                ended=max(times, default=None),
                first_step=min(steps, default=None),
                last_step=max(steps, default=None),
                host=readable(str(record["host"]), 200) if "host" in record else None,
            )
        )
    return out


def _event(event: Mapping[str, Any]) -> Event:
    kind = readable(str(event.get("kind", "Event")), 80)
    return Event(
        time=event.get("time"),
        attempt=event.get("attempt"),
        kind=kind,
        message=readable(str(event.get("message", "")), 500),
        trouble=any(word in kind for word in _TROUBLE),
    )
