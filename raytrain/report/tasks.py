"""The tasks of a report: scores, differences, baselines, curves, breakdowns and samples."""

from collections.abc import Mapping, Sequence
from typing import Literal

from data_prep.config import Task as JobTask
from data_prep.text.templates import templates_of
from raytrain.evaluation.baselines import REFERENCES
from raytrain.evaluation.forgetting import best_minus_now
from raytrain.evaluation.results import ScoreCard
from raytrain.report import curves
from raytrain.report.differences import find_metric, paired_difference
from raytrain.report.metric_names import baseline_label, metric_label, type_label
from raytrain.report.model import (
    Baseline,
    CurvePoint,
    Difference,
    Forgetting,
    Interval,
    Metric,
    Slice,
    Task,
    TemplateScore,
)
from raytrain.report.samples import choose_samples
from raytrain.report.stored import Stage, StoredRun
from raytrain.report.verdicts import task_sentence

ONE_ANSWER = 0.1
"""Excess of the most frequent answer's share over the most frequent reference's."""


def describe_tasks(run: StoredRun, run_name: str) -> list[Task]:
    """Describes the job's tasks in their order, then any others that have scores."""
    declared = [task.name for task in run.record.job.spec.tasks]
    others = sorted({task for tasks in run.stages.values() for task in tasks} - set(declared))
    return [_task(name, run, run_name) for name in [*declared, *others]]


def _task(name: str, run: StoredRun, run_name: str) -> Task:
    before, after = (run.stages.get(stage, {}).get(name) for stage in ("before", "after"))
    checkpoints = _checkpoint_cards(name, run)
    scored = after or before
    card = scored.card if scored else checkpoints[-1] if checkpoints else None
    declared = next((task for task in run.record.job.spec.tasks if task.name == name), None)
    kind = card.type if card else declared.type if declared else "text"
    probe = card.probe if card else bool(declared and declared.probe)
    metrics = _metrics(before, after, card)
    primary_metric = metrics[0] if metrics else _unknown_metric(card)
    difference = _difference(before, after, primary_metric)
    baselines = _baselines(card)
    curve = [point for c in checkpoints if (point := _curve_point(c, primary_metric.name)) is not None]
    return Task(
        name=name,
        type=kind,
        type_label=type_label(kind),
        probe=probe,
        primary_metric=primary_metric,
        split=card.split if scored and card else "test",
        rows=card.rows if scored and card else 0,
        scored=card.scored if scored and card else 0,
        difference=difference,
        sentence=task_sentence(primary_metric, difference, probe=probe),
        baselines=baselines,
        below_baseline=_unreached_baseline(primary_metric, baselines),
        one_answer=_has_one_answer(after.card.lengths) if after else False,
        metrics=metrics,
        templates=_templates(before, after, declared),
        by_length=_slices(before, after, "by_length"),
        by_label=_slices(before, after, "by_label"),
        validation=curve,
        validation_rows=max((c.scored for c in checkpoints), default=None),
        loss=[] if probe else curves.task_loss(run.metrics, name),
        forgetting=_forgetting(difference, curve, primary_metric),
        samples=choose_samples(
            before.answers if before else [],
            after.answers if after else [],
            run=run_name,
            task=name,
            better=primary_metric.better,
        ),
        protocol=_protocol(card),
        lengths={key: float(value) for key, value in card.lengths.items()} if card else {},
    )


def _checkpoint_cards(name: str, run: StoredRun) -> list[ScoreCard]:
    stages = sorted((stage, tasks) for stage, tasks in run.stages.items() if stage.startswith("step-"))
    return [tasks[name].card for _, tasks in stages if name in tasks]


def _interval(card: ScoreCard | None, metric: str) -> Interval | None:
    score = card.metrics.get(metric) if card else None
    return None if score is None or score.value is None else Interval(value=score.value, low=score.low, high=score.high)


def _metrics(before: Stage | None, after: Stage | None, card: ScoreCard | None) -> list[Metric]:
    """Returns all metrics of a task, the primary metric first."""
    if card is None:
        return []
    protocols = card.protocol.get("metrics") or {}
    metrics = [
        Metric(
            name=name,
            label=metric_label(name),
            better=score.better,
            scale=score.scale,
            before=_interval(before.card if before else None, name),
            after=_interval(after.card if after else None, name),
            protocol=protocols.get(name),
            reference=score.reference,
            rows=score.rows,
            error=score.error,
        )
        for name, score in card.metrics.items()
    ]
    return sorted(metrics, key=lambda metric: metric.name != card.primary_metric)


def _unknown_metric(card: ScoreCard | None) -> Metric:
    name = card.primary_metric if card and card.primary_metric else "score"
    return Metric(name=name, label=metric_label(name), better="higher", scale="percent")


def _baselines(card: ScoreCard | None) -> list[Baseline]:
    return [
        Baseline(name=name, label=baseline_label(name), value=value, to_beat=name != REFERENCES)
        for name, value in (card.baselines if card else {}).items()
    ]


def _difference(before: Stage | None, after: Stage | None, metric: Metric) -> Difference | None:
    """Returns after minus before; without an interval if it cannot be paired."""
    if before is None or after is None or metric.before is None or metric.after is None:
        return None
    paired = paired_difference(metric.name, before.answers, after.answers)
    if paired is not None:
        return paired
    plain = metric.after.value - metric.before.value
    return Difference(value=plain, gain=plain if metric.better == "higher" else -plain, rows=0, verdict="unknown")


def _curve_point(card: ScoreCard, metric: str) -> CurvePoint | None:
    score = _interval(card, metric)
    return None if score is None else CurvePoint(step=card.step, value=score.value, low=score.low, high=score.high)


def _forgetting(
    difference: Difference | None, curve: Sequence[CurvePoint], primary_metric: Metric
) -> Forgetting | None:
    metric = find_metric(primary_metric.name)
    fall = best_minus_now(metric, [point.value for point in curve]) if metric and len(curve) > 1 else None
    if difference is None and fall is None:
        return None
    return Forgetting(before_minus_after=None if difference is None else -difference.gain + 0.0, best_minus_now=fall)


def _unreached_baseline(metric: Metric, baselines: Sequence[Baseline]) -> str | None:
    """Returns the name of the strongest baseline if it scores higher than the trained model."""
    score = metric.after
    to_beat = [baseline for baseline in baselines if baseline.to_beat]
    if score is None or not to_beat:
        return None
    sign = 1 if metric.better == "higher" else -1
    best = max(to_beat, key=lambda baseline: sign * baseline.value)
    return best.name if sign * score.value < sign * best.value else None


def _has_one_answer(lengths: Mapping[str, float]) -> bool:
    """Whether the most frequent answer is far more frequent than the most frequent reference."""
    return lengths.get("same_prediction", 0.0) >= lengths.get("same_reference", 1.0) + ONE_ANSWER


def _templates(before: Stage | None, after: Stage | None, task: JobTask | None) -> list[TemplateScore]:
    old, new = (stage.card.by_template if stage else {} for stage in (before, after))
    texts = [template.render("{input}") for template in templates_of(task)] if task else []
    scores = []
    for index in sorted(int(key) for key in old.keys() | new.keys()):
        first, second = old.get(str(index)), new.get(str(index))
        scores.append(
            TemplateScore(
                template=index,
                text=texts[index] if index < len(texts) else None,
                rows=int((second or first or {}).get("rows", 0)),
                before=first.get("value") if first else None,
                after=second.get("value") if second else None,
            )
        )
    return scores


def _slices(before: Stage | None, after: Stage | None, which: Literal["by_length", "by_label"]) -> list[Slice]:
    """Joins the slices of before and after, in the order of the score cards."""
    old, new = (getattr(stage.card, which) if stage else {} for stage in (before, after))
    return [
        Slice(
            name=name,
            rows=int((new.get(name) or old[name])["rows"]),
            before=old[name]["value"] if name in old else None,
            after=new[name]["value"] if name in new else None,
        )
        for name in dict.fromkeys([*new, *old])
    ]


def _protocol(card: ScoreCard | None) -> dict[str, str]:
    entries = {key: value for key, value in (card.protocol if card else {}).items() if key != "metrics"}
    return {str(key).replace("_", " "): str(value) for key, value in entries.items()}
