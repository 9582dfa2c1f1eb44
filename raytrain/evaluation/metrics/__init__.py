"""Metrics by name, and which of them a task gets.

`find(name).combine(sums)` returns the score of a sum of row statistics;
`evaluate_module.as_module(name)` returns the same metric as an `evaluate.Metric`. Other packages
add metrics with entry points of the group `raytrain.metrics`: each names a subclass of `Metric` (or
a function that returns an instance) whose `name` is the name of the entry point.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from data_prep.config import Task, TaskType
from raytrain.evaluation.metrics.base import Better, Floats, MeanMetric, Meta, Metric
from raytrain.evaluation.metrics.bootstrap import INTERVAL_PROTOCOL, Interval, Paired, interval, paired
from raytrain.evaluation.metrics.entities import EntityF1, EntityPrecision, EntityRecall, Unparsable
from raytrain.evaluation.metrics.harness import SUFFIX, HarnessMetric
from raytrain.evaluation.metrics.likelihood import ChoiceAccuracy, Perplexity
from raytrain.evaluation.metrics.match import ExactCode, ExactMatch, WordF1
from raytrain.evaluation.metrics.overlap import Bleu, Chrf
from raytrain.evaluation.metrics.rating import Accuracy, MacroF1, MeanAbsoluteError, NoLabel, Spearman, WithinOne
from raytrain.evaluation.metrics.rouge import HUGGING_FACE, KINDS, OURS, T5, Rouge
from raytrain.evaluation.metrics.squad import SquadExact, SquadF1
from raytrain.evaluation.metrics.syntax import Parses, language_of
from raytrain_core.errors import UsageError
from raytrain_core.text import did_you_mean

ENTRY_POINTS = "raytrain.metrics"

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            *(Rouge(kind, way) for way in (OURS, T5, HUGGING_FACE) for kind in KINDS),
            Accuracy(),
            MacroF1(),
            WithinOne(),
            MeanAbsoluteError(),
            Spearman(),
            NoLabel(),
            EntityF1(),
            EntityPrecision(),
            EntityRecall(),
            Unparsable(),
            Chrf(),
            Bleu(),
            Bleu("bleu@t5", tokenizer="intl"),
            ExactCode(),
            Parses(),
            ExactMatch(),
            WordF1(),
            SquadExact(),
            SquadF1(),
            ChoiceAccuracy(),
            Perplexity(),
        )
    }
)

PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rouge@t5": tuple(f"{kind}@t5" for kind in KINDS),
        "rouge@hf": tuple(f"{kind}@hf" for kind in KINDS),
        "squad": ("exact@squad", "f1@squad"),
    }
)
"""Names for several metrics: the protocols of others, to compare with published numbers."""

# The first is the primary metric. For code this is chrF rather than exact match: a translation with
# one renamed parameter is not worthless, and exact match stays at 0 until a model is nearly
# perfect, so it shows neither progress nor forgetting.
_BY_TYPE: Mapping[TaskType, tuple[str, ...]] = MappingProxyType(
    {
        "summarization": ("rougeL", "rouge1", "rouge2", "rougeLsum", "perplexity"),
        "rating": ("accuracy", "macro_f1", "within_one", "mae", "spearman", "no_label", "perplexity"),
        "sentiment": ("accuracy", "macro_f1", "no_label", "perplexity"),
        "ner": ("f1", "precision", "recall", "unparsable", "perplexity"),
        "translation": ("chrf", "bleu", "perplexity"),
        "code-translation": ("chrf", "exact_code", "bleu", "perplexity"),
        "multiple-choice": ("exact_match", "perplexity"),
        "question-answering": ("exact_match", "word_f1", "rougeL", "perplexity"),
        "text": ("rougeL", "rouge1", "exact_match", "perplexity"),
    }
)


def metrics_for(task: Task) -> tuple[Metric, ...]:
    """Returns the metrics of `task`, the primary one first; UsageError for an unknown name."""
    if task.metrics is None:
        return tuple(METRICS[name] for name in default_metrics(task))
    if not task.metrics:
        raise UsageError(f"task {task.name}: metrics is empty", hint="Name at least one metric, or omit the field.")
    names = dict.fromkeys(name for given in task.metrics for name in PRESETS.get(given, (given,)))
    return tuple(_require(task.name, name) for name in names)


def default_metrics(task: Task) -> tuple[str, ...]:
    """Returns the names of the metrics of a task whose `metrics` are not set."""
    names = _BY_TYPE[task.type]
    if task.type == "multiple-choice" and task.columns.choices is not None:
        names = ("choice_accuracy", *names)
    if task.type == "code-translation" and language_of(task.fields.get("to")):
        names = (*names[:-1], "parses", names[-1])
    return names


def find(name: str) -> Metric | None:
    """Returns the metric `name`: built in, of a benchmark, or from an entry point; None if none is.

    Raises UsageError where an entry point cannot be loaded.
    """
    if name.endswith(SUFFIX):
        return HarnessMetric(name)
    return METRICS.get(name) or _find_entry_point(name)


@cache
def _find_entry_point(name: str) -> Metric | None:
    point = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
    if point is None:
        return None
    try:
        metric = point.load()()
    except Exception as error:
        raise UsageError(
            f"cannot load metric {name!r} ({point.value}): {type(error).__name__}: {error}",
            hint="The entry point must name a subclass of raytrain.evaluation.metrics.Metric that takes no arguments.",
        ) from error
    if not isinstance(metric, Metric) or metric.name != name:
        raise UsageError(f"metric {name!r} ({point.value}) is not a raytrain Metric with that name")
    return metric


def _require(task: str, name: str) -> Metric:
    if (metric := find(name)) is not None:
        return metric
    known = [*METRICS, *PRESETS, *(point.name for point in entry_points(group=ENTRY_POINTS))]
    raise UsageError(
        f"task {task}: metrics: unknown metric {name!r}{did_you_mean(name, known)}",
        hint=f"Known metrics: {', '.join(known)}.",
    )


__all__ = [
    "ENTRY_POINTS",
    "INTERVAL_PROTOCOL",
    "METRICS",
    "PRESETS",
    "Better",
    "Floats",
    "Interval",
    "MeanMetric",
    "Meta",
    "Metric",
    "Paired",
    "find",
    "interval",
    "metrics_for",
    "paired",
]
