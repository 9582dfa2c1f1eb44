"""Metrics by name, and which of them a task gets.

`METRICS[name].combine(sums)` is the score of a sum of row statistics; `evaluate_module.as_module(name)` gives
the same metric as an `evaluate.Metric`.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from data_prep.document.models import Task, TaskType
from data_prep.errors import UsageError
from raytrain.evaluation.metrics.base import Better, Floats, MeanMetric, Meta, Metric
from raytrain.evaluation.metrics.bootstrap import INTERVAL_PROTOCOL, Interval, Paired, interval, paired
from raytrain.evaluation.metrics.entities import EntityF1, EntityPrecision, EntityRecall, Unparsable
from raytrain.evaluation.metrics.match import ExactCode, ExactMatch
from raytrain.evaluation.metrics.overlap import Bleu, Chrf
from raytrain.evaluation.metrics.rating import Accuracy, MeanAbsoluteError, WithinOne
from raytrain.evaluation.metrics.rouge import Rouge

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            *(Rouge(kind) for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")),
            Accuracy(),
            WithinOne(),
            MeanAbsoluteError(),
            EntityF1(),
            EntityPrecision(),
            EntityRecall(),
            Unparsable(),
            Chrf(),
            Bleu(),
            ExactCode(),
            ExactMatch(),
        )
    }
)

# The first is the headline. Code is headed by chrF, not by exact match: a translation with one parameter renamed
# is not worth nothing, and exact match stays at 0 until a model is nearly perfect, so that it shows neither
# progress nor forgetting. Exact match stands beside it.
_BY_TYPE: Mapping[TaskType, tuple[str, ...]] = MappingProxyType(
    {
        "summarization": ("rougeL", "rouge1", "rouge2", "rougeLsum"),
        "rating": ("accuracy", "within_one", "mae"),
        "sentiment": ("accuracy",),
        "ner": ("f1", "precision", "recall", "unparsable"),
        "translation": ("chrf", "bleu"),
        "code-translation": ("chrf", "exact_code", "bleu"),
        "multiple-choice": ("exact_match",),
        "question-answering": ("exact_match", "rougeL"),
        "text": ("rougeL", "rouge1", "exact_match"),
    }
)


def metrics_for(task: Task) -> tuple[Metric, ...]:
    """The metrics of `task`, the headline first; UsageError for a name that is none."""
    names = list(dict.fromkeys(task.metrics)) if task.metrics else list(_BY_TYPE[task.type])
    if task.metrics is not None and not task.metrics:
        raise UsageError(f"task {task.name}: metrics is empty", hint="Name at least one metric or leave the field out.")
    for name in names:
        if name not in METRICS:
            close = get_close_matches(name, METRICS, n=1, cutoff=0.5)
            raise UsageError(
                f"task {task.name}: metrics: unknown metric {name!r}"
                + (f", did you mean {close[0]}?" if close else ""),
                hint=f"There are {', '.join(METRICS)}.",
            )
    return tuple(METRICS[name] for name in names)


__all__ = [
    "INTERVAL_PROTOCOL",
    "METRICS",
    "Better",
    "Floats",
    "Interval",
    "MeanMetric",
    "Meta",
    "Metric",
    "Paired",
    "interval",
    "metrics_for",
    "paired",
]
