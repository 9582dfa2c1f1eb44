"""From generations to a score card and predictions: one task at one stage. Pure."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np

from data_prep.config import Task
from data_prep.tasks.task_types import TargetFormat
from raytrain.evaluation.baselines import Yardsticks, compare_with_baselines, with_own_answer
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import INTERVAL_PROTOCOL, Meta, Metric, interval
from raytrain.evaluation.metrics.entities import EntityF1, EntityPrecision, EntityRecall, counts_by_type
from raytrain.evaluation.metrics.rating import confusion_matrix
from raytrain.evaluation.results import MetricScore, Prediction, ScoreCard, Stage
from raytrain.evaluation.row_stats import RowStats, compute_row_stats, reason_of
from raytrain.generation.requests import Generation, GenerationLimits

MAX_LABELS = 30
"""Labels in the breakdown of a score card."""

Breakdown = dict[str, dict[str, float]]
"""Rows and score of each group of rows."""


def score_task(
    task: Task,
    metrics: Sequence[Metric],
    examples: Sequence[Example],
    generations: Sequence[Generation],
    *,
    stage: Stage,
    yardsticks: Yardsticks,
    limits: GenerationLimits,
    seconds: float,
) -> tuple[ScoreCard, list[Prediction]]:
    """Returns the score card and its predictions; the first of `metrics` is the primary one.

    Metrics whose losses were not measured are left out, unless that would leave none.
    """
    target_format = TargetFormat.of(task)
    texts = [target_format.unwrap(generation.text) for generation in generations]
    targets = [example.targets for example in examples]
    metas = [{**e.meta, **g.measured()} for e, g in zip(examples, generations, strict=True)]
    known = set.intersection(*(set(meta) for meta in metas)) if metas else set()
    metrics = [metric for metric in metrics if known.issuperset(metric.measured)] or list(metrics)
    stats = {metric.name: compute_row_stats(metric, texts, targets, metas) for metric in metrics}
    primary, primary_stats = metrics[0], stats[metrics[0].name]
    breakdowns, unmade = _breakdowns(
        by_template=lambda: _by_group(primary, primary_stats, [str(example.template) for example in examples]),
        by_length=lambda: _by_group(primary, primary_stats, length_ranges([g.prompt_tokens for g in generations])),
        by_label=lambda: _by_label(primary, primary_stats, texts, targets, metas),
    )
    card = new_card(
        task,
        stage,
        rows=len(examples),
        scored=int(primary_stats.scored.sum()),
        primary_metric=primary.name,
        metrics={
            m.name: replace(
                _metric_score(m, stats[m.name], yardsticks.references.get(m.name)),
                unparsable=unparsable_share(m, texts, metas),
            )
            for m in metrics
        },
        **breakdowns,
        confusion=tabulate_labels(texts, targets, metas),
        entity_types=tabulate_entities(task, texts, targets, metas),
        baselines=compare_with_baselines(
            primary,
            primary_stats,
            with_own_answer(yardsticks.baselines, primary, texts, targets, [example.meta for example in examples]),
        ),
        agreement=yardsticks.agreement,
        protocol=_protocol(metrics, limits),
        lengths=_lengths(generations, texts, targets, limits),
        seconds=round(seconds, 3),
        rows_digest=rows_digest(examples),
        prompts_digest=prompts_digest(examples),
        unmade=unmade,
    )
    return card, _predictions(primary, primary_stats, examples, generations, texts)


def _predictions(
    primary: Metric,
    stats: RowStats,
    examples: Sequence[Example],
    generations: Sequence[Generation],
    texts: Sequence[str],
) -> list[Prediction]:
    scores = iter(primary.score_rows(stats.stats).tolist() if len(stats.stats) else [])
    return [
        Prediction(e.id, e.template, e.input, e.targets, text, g.tokens, next(scores) if row else None, row)
        for e, g, text, row in zip(examples, generations, texts, stats.per_row(), strict=True)
    ]


def _protocol(metrics: Sequence[Metric], limits: GenerationLimits) -> dict[str, Any]:
    """Everything that another implementation needs to reproduce the scores."""
    return {
        "metrics": {metric.name: metric.protocol for metric in metrics},
        "decoding": limits.decoding,
        "max_input_tokens": limits.max_input_tokens,
        "max_new_tokens": limits.max_new_tokens,
        "precision": "fp32",
        "references": "best of several",
        "interval": INTERVAL_PROTOCOL,
    }


def _lengths(
    generations: Sequence[Generation],
    texts: Sequence[str],
    targets: Sequence[Sequence[str]],
    limits: GenerationLimits,
) -> dict[str, float]:
    """Lengths in tokens, and shares of generations that were cut off, empty, or all the same.

    `prompt_at_limit` is the share of prompts that fill the limit: all that were cut are among them.
    """
    return {
        **_distribution("prompt_tokens", [g.prompt_tokens for g in generations]),
        **_distribution("prediction_tokens", [g.tokens for g in generations]),
        "prompt_at_limit": float(np.mean([g.prompt_tokens >= limits.max_input_tokens for g in generations])),
        "cut_off": float(np.mean([g.cut_off for g in generations])),
        "empty": float(np.mean([not g.text.strip() for g in generations])),
        "same_prediction": _share_of_most_frequent(texts),
        "same_reference": _share_of_most_frequent([row[0] for row in targets]),
    }


def _distribution(name: str, lengths: Sequence[int]) -> dict[str, float]:
    return {
        f"{name}_mean": float(np.mean(lengths)),
        f"{name}_median": float(np.median(lengths)),
        f"{name}_p95": float(np.quantile(lengths, 0.95)),
        f"{name}_max": float(max(lengths)),
    }


def _share_of_most_frequent(texts: Sequence[str]) -> float:
    return max(Counter(texts).values(), default=0) / max(1, len(texts))


def rows_digest(examples: Sequence[Example]) -> str:
    """Identifies the rows by all that a score depends on, whatever their order and template."""
    known = ("choices", "labels", "label", "language")
    return _digest([e.id, e.raw_input, e.targets, {k: e.meta[k] for k in known if k in e.meta}] for e in examples)


def prompts_digest(examples: Sequence[Example]) -> str:
    """Identifies the prompts, whatever their order."""
    return _digest([e.id, e.template, e.input] for e in examples)


def _digest(rows: Iterable[object]) -> str:
    lines = sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
    return sha256("\n".join(lines).encode()).hexdigest()


def _metric_score(metric: Metric, stats: RowStats, reference: float | None) -> MetricScore:
    rows, reason = len(stats.stats), stats.reason
    if rows:
        try:
            score = interval(metric, stats.stats)
            if np.isfinite([score.value, score.low, score.high]).all():
                return MetricScore(
                    score.value, score.low, score.high, metric.better, metric.scale, rows, reference, reason
                )
            reason = f"the score is {score.value}"
        except Exception as error:
            reason = reason_of(error)
    return MetricScore(None, None, None, metric.better, metric.scale, 0, reference, reason or "there are no rows")


def length_ranges(lengths: Sequence[int], parts: int = 4) -> list[str]:
    """Returns for every length the name of its range, such as `1-40`.

    Ranges are cut at the quantiles; there is a single one where all lengths are the same.
    """
    edges = sorted({int(np.quantile(lengths, share / parts, method="lower")) for share in range(1, parts + 1)})
    places = np.searchsorted(edges, lengths)
    first = [min(lengths), *(edge + 1 for edge in edges[:-1])]
    return [f"{first[place]}-{edges[place]}" for place in places]


def _breakdowns(**make: Callable[[], Breakdown]) -> tuple[dict[str, Breakdown], dict[str, str]]:
    """Returns the breakdowns by name, and why some could not be made.

    Metrics may be a user's, and a breakdown that fails is no reason to lose the score.
    """
    made: dict[str, Breakdown] = {}
    unmade: dict[str, str] = {}
    for name, one in make.items():
        try:
            made[name] = one()
        except Exception as error:
            unmade[name] = reason_of(error)
    return made, unmade


def _by_group(metric: Metric, stats: RowStats, names: Sequence[str]) -> Breakdown:
    """Rows and score of each group of rows with the same name, sorted by the number in the name."""
    groups = np.array(names, dtype=object)[stats.scored]
    return {
        str(name): {"rows": int((groups == name).sum()), "value": metric.score(stats.stats[groups == name])}
        for name in sorted(set(groups), key=lambda name: int(str(name).partition("-")[0]))
    }


def unparsable_share(metric: Metric, texts: Sequence[str], metas: Sequence[Meta]) -> float | None:
    """Share of the answers that the metric could not read; None where every text is an answer."""
    found = [metric.unreadable(text, meta) for text, meta in zip(texts, metas, strict=True)]
    judged = [unreadable for unreadable in found if unreadable is not None]
    return sum(judged) / len(judged) if judged else None


def tabulate_labels(texts: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> dict[str, Any]:
    """Rows by correct and by predicted label; empty where targets are not labels."""
    if not metas or not all(meta.get("labels") for meta in metas):
        return {}
    labels, counts = confusion_matrix(texts, targets, metas)
    return {"labels": labels, "counts": counts}


def tabulate_entities(
    task: Task, texts: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]
) -> dict[str, dict[str, float]]:
    """Counts and scores of each type of entity; empty for other tasks."""
    if task.type != "ner":
        return {}
    table = {}
    for kind, (rows, sums) in counts_by_type(texts, targets, metas).items():
        scores = {metric.name: metric.combine(sums) for metric in (EntityPrecision(), EntityRecall(), EntityF1())}
        correct, predicted, expected = map(int, sums[:3])
        table[kind] = {"rows": rows, "correct": correct, "predicted": predicted, "expected": expected, **scores}
    return table


def _by_label(
    metric: Metric,
    stats: RowStats,
    texts: Sequence[str],
    targets: Sequence[Sequence[str]],
    metas: Sequence[Mapping[str, Any]],
) -> Breakdown:
    """Rows and score of each label; at most MAX_LABELS of them, those with the most rows."""
    rows = [i for i, scored in enumerate(stats.scored) if scored]
    labels = metric.by_label(
        [texts[i] for i in rows], [targets[i] for i in rows], [metas[i] for i in rows], stats.stats
    )
    kept = sorted(sorted(labels, key=lambda label: -labels[label][0])[:MAX_LABELS])
    return {label: {"rows": labels[label][0], "value": labels[label][1]} for label in kept}


def new_card(task: Task, stage: Stage, **values: Any) -> ScoreCard:
    """Returns a card of the task at the stage with the given fields."""
    model = stage.model
    described = {"kind": model.kind, "uri": model.uri, "digest": model.digest}
    return ScoreCard(stage.name, task.name, task.type, task.probe, stage.split, model.step, described, **values)
