"""The tasks of a report: scores, differences, baselines, curves, breakdowns and samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from data_prep.config import Task as JobTask
from data_prep.text.templates import templates_of
from raytrain.evaluation.forgetting import best_minus_now
from raytrain.evaluation.results import ScoreCard
from raytrain.report import curves
from raytrain.report.differences import corrected, find_metric, paired_difference
from raytrain.report.metric_names import metric_label, type_label
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
from raytrain.report.readings import confusion_of, entity_types_of
from raytrain.report.samples import choose_samples
from raytrain.report.split_gap import split_gap
from raytrain.report.stored import Stage, StoredRun
from raytrain.report.verdicts import task_sentence, task_verdict
from raytrain.report.without_twins import without_twins
from raytrain.report.yardsticks import (
    agreement_of,
    baseline_sentence,
    baseline_verdict,
    baselines_of,
    best_of,
    with_lead,
)

ONE_ANSWER = 0.1
"""Excess of the most frequent answer's share over the most frequent reference's."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """What a run stored about one task."""

    name: str
    declared: JobTask | None
    before: Stage | None
    after: Stage | None
    checkpoints: list[ScoreCard]

    @classmethod
    def of(cls, name: str, run: StoredRun) -> "_Scored":
        declared = next((task for task in run.record.job.spec.tasks if task.name == name), None)
        before, after = (run.stages.get(stage, {}).get(name) for stage in ("before", "after"))
        return cls(name, declared, before, after, _checkpoint_cards(name, run))

    @property
    def test(self) -> ScoreCard | None:
        """The card of the test rows, after training where there is one."""
        stage = self.after or self.before
        return stage.card if stage else None

    @property
    def card(self) -> ScoreCard | None:
        """Any card of the task."""
        return self.test or (self.checkpoints[-1] if self.checkpoints else None)

    @property
    def metrics(self) -> list[Metric]:
        """All metrics, the primary one first."""
        return _metrics(self.before, self.after, self.card) or [_unknown_metric(self.card)]


def describe_tasks(run: StoredRun, run_name: str) -> list[Task]:
    """Describes the job's tasks in their order, then any others that have scores.

    Two questions are asked of each task: is it better than before, and is it better than its best
    trivial baseline? The answers to each are corrected for the number of tasks.
    """
    declared = [task.name for task in run.record.job.spec.tasks]
    others = sorted({task for tasks in run.stages.values() for task in tasks} - set(declared))
    scored = [_Scored.of(name, run) for name in [*declared, *others]]
    changes = corrected([_difference(s.before, s.after, s.metrics[0]) for s in scored])
    best = [best_of(baselines_of(s.test), s.metrics[0]) if s.after else None for s in scored]
    leads = corrected([baseline.difference if baseline else None for baseline in best])
    return [_task(*one, run, run_name) for one in zip(scored, changes, leads, strict=True)]


def _task(
    scored: _Scored, difference: Difference | None, lead: Difference | None, run: StoredRun, run_name: str
) -> Task:
    before, after, card, declared = scored.before, scored.after, scored.card, scored.declared
    test, primary_metric = scored.test, scored.metrics[0]
    kind = card.type if card else declared.type if declared else "text"
    probe = card.probe if card else bool(declared and declared.probe)
    baselines = baselines_of(test)
    best = best_of(baselines, primary_metric)
    against = baseline_verdict(best, lead, scored=after is not None)
    sentence = task_sentence(primary_metric, difference, probe=probe)
    curve = [point for c in scored.checkpoints if (point := _curve_point(c, primary_metric.name)) is not None]
    return Task(
        name=scored.name,
        type=kind,
        type_label=type_label(kind),
        probe=probe,
        primary_metric=primary_metric,
        split=test.split if test else "test",
        rows=test.rows if test else 0,
        scored=test.scored if test else 0,
        difference=difference,
        sentence=" ".join(filter(None, [sentence, "" if probe else baseline_sentence(best, against, primary_metric)])),
        verdict=task_verdict(difference, against),
        baselines=with_lead(baselines, best, lead) if after else _without_leads(baselines),
        best_baseline=best.name if best else None,
        baseline_verdict=against,
        agreement=agreement_of(test, primary_metric),
        without_twins=without_twins(run, scored.name, before, after, primary_metric),
        one_answer=_has_one_answer(after.card.lengths) if after else False,
        metrics=scored.metrics if card else [],
        templates=_templates(before, after, declared),
        by_length=_slices(before, after, "by_length"),
        by_label=_slices(before, after, "by_label"),
        unmade=_unmade(before, after),
        confusion=confusion_of(test),
        entity_types=entity_types_of(test),
        split_gap=split_gap(after.card, scored.checkpoints) if after else None,
        validation=curve,
        validation_rows=max((c.scored for c in scored.checkpoints), default=None),
        loss=[] if probe else curves.task_loss(run.metrics, scored.name),
        forgetting=_forgetting(difference, curve, primary_metric),
        samples=choose_samples(
            before.answers if before else [],
            after.answers if after else [],
            run=run_name,
            task=scored.name,
            better=primary_metric.better,
        ),
        protocol=_protocol(card),
        lengths={key: float(value) for key, value in card.lengths.items()} if card else {},
    )


def _without_leads(baselines: Sequence[Baseline]) -> list[Baseline]:
    """The model before training is not held against a baseline."""
    return [baseline.model_copy(update={"difference": None}) for baseline in baselines]


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
            unparsable=score.unparsable,
        )
        for name, score in card.metrics.items()
    ]
    return sorted(metrics, key=lambda metric: metric.name != card.primary_metric)


def _unknown_metric(card: ScoreCard | None) -> Metric:
    name = card.primary_metric if card and card.primary_metric else "score"
    return Metric(name=name, label=metric_label(name), better="higher", scale="percent")


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


def _unmade(before: Stage | None, after: Stage | None) -> list[str]:
    """Returns a sentence for each breakdown that failed before or after training, once."""
    found = [item for stage in (before, after) if stage for item in stage.card.unmade.items()]
    return [f"the scores {name.replace('_', ' ')} could not be made: {reason}" for name, reason in dict.fromkeys(found)]


def _protocol(card: ScoreCard | None) -> dict[str, str]:
    entries = {key: value for key, value in (card.protocol if card else {}).items() if key != "metrics"}
    return {str(key).replace("_", " "): str(value) for key, value in entries.items()}
