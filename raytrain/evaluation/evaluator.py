"""From generations to a committed score card: one task at one stage.

`Evaluator` holds what all stages of a run share. It reads and writes the store, and knows neither
models nor Ray.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.config import Split, Task
from data_prep.tasks.task_types import TargetFormat
from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.baselines import score_baselines
from raytrain.evaluation.chunks import CHUNK_BATCHES, Chunk, split_into_chunks
from raytrain.evaluation.examples import Example, examples_from_rows, generation_request
from raytrain.evaluation.metrics import INTERVAL_PROTOCOL, Metric, interval, metrics_for
from raytrain.evaluation.results import MetricScore, Prediction, ScoreCard, read_manifest_card, write_scores
from raytrain.evaluation.row_stats import RowStats, compute_row_stats, reason_of
from raytrain.generation.requests import Generation, GenerationLimits, ModelRef
from raytrain_core.errors import DataError
from raytrain_core.storage import CorruptError, Store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.commit import read_manifest

if TYPE_CHECKING:
    from data_prep.shards.manifest import ShardSet

MAX_LABELS = 30
"""Labels in the breakdown of a score card."""
BASELINE_TARGETS = 5000
"""Training targets that are sampled to find the most frequent one."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A point of a run at which a model is scored: before, step-000500, after."""

    name: str
    model: ModelRef
    split: Split


@dataclass(slots=True)
class Evaluator:
    """Computes and commits the scores of one run: its tasks, on the rows of one shard set.

    `guard` is called before each commit and raises where this attempt may not write any more.
    """

    store: Store
    layout: RunLayout
    shard_set: "ShardSet"
    tasks: Mapping[str, Task]
    cache: Cache
    limits: GenerationLimits
    examples_per_task: int
    guard: Callable[[], None] | None = None
    _examples: dict[tuple[str, str], list[Example]] = field(default_factory=dict)
    _baselines: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)

    def metrics(self, task: str) -> tuple[Metric, ...]:
        """Returns the task's metrics, the primary one first."""
        return metrics_for(self.tasks[task])

    def examples(self, task: str, split: Split) -> list[Example]:
        """Returns the rows to score, the same ones at every stage.

        Raises DataError where the split has none.
        """
        key = (task, split)
        if key not in self._examples:
            self._examples[key] = self._read(task, split, self.examples_per_task)
        if not self._examples[key]:
            raise DataError(
                f"task {task}: no {split} rows to score",
                hint=f"Add {split} rows, or give {split} a larger share of the split by hash.",
            )
        return self._examples[key]

    def chunks(self, task: str, split: Split) -> list[Chunk]:
        """Returns the requests for all examples, in chunks; indices are places in `examples`.

        Measuring a loss costs about a quarter of the time of generating, so a request only asks for
        those that some metric of the task needs.
        """
        examples = self.examples(task, split)
        measured = {name for metric in self.metrics(task) for name in metric.measured}
        size = CHUNK_BATCHES * self.limits.batch_size
        return [
            Chunk(tuple(indices), tuple(generation_request(examples[i], measured) for i in indices))
            for indices in split_into_chunks(examples, size)
        ]

    def stored_card(self, stage: Stage, task: str) -> ScoreCard | None:
        """Returns the stored card of the same model, rows and protocol, or None."""
        manifest = read_manifest(self.store, self.layout.scores(stage.name, task))
        if manifest is None or manifest.body.get("fingerprint") != self.fingerprint(stage, task):
            return None
        try:
            card = read_manifest_card(self.store, manifest)
        except CorruptError:  # score it again
            return None
        return None if card.value is None else card

    def fingerprint(self, stage: Stage, task: str) -> str:
        """Returns a digest of everything that the scores of a task depend on."""
        body = {
            "model": stage.model.digest,
            "shards": self.shard_set.task(task).digest,
            "split": stage.split,
            "rows": self.examples_per_task,
            "limits": [self.limits.max_input_tokens, self.limits.max_new_tokens, self.limits.decoding],
            "metrics": {metric.name: metric.protocol for metric in self.metrics(task)},
            "interval": INTERVAL_PROTOCOL,
        }
        return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def score(self, stage: Stage, task: str, generations: Sequence[Generation], seconds: float) -> ScoreCard:
        """Scores the generations for `examples(task, stage.split)` and commits the card."""
        card, predictions = score_task(
            self.tasks[task],
            self.metrics(task),
            self.examples(task, stage.split),
            generations,
            stage=stage,
            baselines=self._baselines_of(task, stage.split),
            limits=self.limits,
            seconds=seconds,
        )
        fingerprint = self.fingerprint(stage, task)
        write_scores(self.store, self.layout, card, predictions, fingerprint=fingerprint, guard=self.guard)
        return card

    def failed_card(self, stage: Stage, task: str, reason: str) -> ScoreCard:
        """Returns the card of a task that could not be scored; it is not stored."""
        return _card(self.tasks[task], stage, error=reason)

    def _read(self, task: str, split: Split, limit: int) -> list[Example]:
        from data_prep.shards.text_reader import read_rows

        if split not in self.shard_set.task(task).splits:
            return []
        rows = read_rows(self.shard_set, task, split, self.store, self.cache, limit)
        return examples_from_rows(rows, self.tasks[task])

    def _baselines_of(self, task: str, split: Split) -> dict[str, float]:
        key = (task, split)
        if key not in self._baselines:
            self._baselines[key] = score_baselines(
                self.metrics(task)[0],
                self.tasks[task].type,
                self.examples(task, split),
                [example.targets[0] for example in self._known_examples(task, split) if example.targets],
            )
        return self._baselines[key]

    def _known_examples(self, task: str, split: Split) -> list[Example]:
        """Returns examples of another split, whose targets a baseline may know.

        They are training rows; a probe has none, so its validation rows are used.
        """
        sources: tuple[Split, Split] = ("train", "validation")
        for source in sources:
            if source != split and (known := self._read(task, source, BASELINE_TARGETS)):
                return known
        return []


def score_task(
    task: Task,
    metrics: Sequence[Metric],
    examples: Sequence[Example],
    generations: Sequence[Generation],
    *,
    stage: Stage,
    baselines: Mapping[str, float],
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
    card = _card(
        task,
        stage,
        rows=len(examples),
        scored=int(primary_stats.scored.sum()),
        primary_metric=primary.name,
        metrics={m.name: _metric_score(m, stats[m.name], m.of_references(targets, metas)) for m in metrics},
        by_template=_by_group(primary, primary_stats, [str(example.template) for example in examples]),
        by_length=_by_group(primary, primary_stats, length_ranges([g.prompt_tokens for g in generations])),
        by_label=_by_label(primary, primary_stats, texts, targets, metas),
        baselines=dict(baselines),
        protocol=_protocol(metrics, limits),
        lengths=_lengths(generations, texts, targets),
        seconds=round(seconds, 3),
        rows_digest=_digest(examples),
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
    generations: Sequence[Generation], texts: Sequence[str], targets: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Mean lengths, and shares of generations that were cut off, empty, or all the same."""
    return {
        "prompt_tokens_mean": float(np.mean([g.prompt_tokens for g in generations])),
        "prediction_tokens_mean": float(np.mean([g.tokens for g in generations])),
        "cut_off": float(np.mean([g.cut_off for g in generations])),
        "empty": float(np.mean([not g.text.strip() for g in generations])),
        "same_prediction": _share_of_most_frequent(texts),
        "same_reference": _share_of_most_frequent([row[0] for row in targets]),
    }


def _share_of_most_frequent(texts: Sequence[str]) -> float:
    return max(Counter(texts).values(), default=0) / max(1, len(texts))


def _digest(examples: Sequence[Example]) -> str:
    """Identifies the rows, whatever their order and template."""
    rows = sorted((example.id, *example.targets) for example in examples)
    return sha256(json.dumps(rows).encode()).hexdigest()


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


def _by_group(metric: Metric, stats: RowStats, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Rows and score of each group of rows with the same name, sorted by the number in the name."""
    groups = np.array(names, dtype=object)[stats.scored]
    return {
        str(name): {"rows": int((groups == name).sum()), "value": metric.score(stats.stats[groups == name])}
        for name in sorted(set(groups), key=lambda name: int(str(name).partition("-")[0]))
    }


def _by_label(
    metric: Metric,
    stats: RowStats,
    texts: Sequence[str],
    targets: Sequence[Sequence[str]],
    metas: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, float]]:
    """Rows and score of each label; at most MAX_LABELS of them, those with the most rows."""
    rows = [i for i, scored in enumerate(stats.scored) if scored]
    try:
        labels = metric.by_label(
            [texts[i] for i in rows], [targets[i] for i in rows], [metas[i] for i in rows], stats.stats
        )
    except Exception:  # a breakdown is no reason to lose the score
        return {}
    kept = sorted(sorted(labels, key=lambda label: -labels[label][0])[:MAX_LABELS])
    return {label: {"rows": labels[label][0], "value": labels[label][1]} for label in kept}


def _card(task: Task, stage: Stage, **values: Any) -> ScoreCard:
    model = stage.model
    described = {"kind": model.kind, "uri": model.uri, "digest": model.digest}
    return ScoreCard(stage.name, task.name, task.type, task.probe, stage.split, model.step, described, **values)
