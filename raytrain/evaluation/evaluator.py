"""From answers to a committed score card: one task at one stage.

`Scorer` holds what all stages share; it reads and writes the store but knows no model and no Ray.
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
from raytrain.evaluation.examples import CHUNK_BATCHES, Example, chunks, from_rows, question
from raytrain.evaluation.metrics import INTERVAL_PROTOCOL, Metric, interval, metrics_for
from raytrain.evaluation.results import MetricScore, Prediction, ScoreCard, card_of, write_scores
from raytrain.evaluation.row_stats import RowStats, reason_of, row_stats
from raytrain.generation.requests import Generation, GenerationLimits, GenerationRequest, ModelRef
from raytrain_core.errors import DataError
from raytrain_core.storage import CorruptError, Store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.commit import read_manifest

if TYPE_CHECKING:
    from data_prep.shards.manifest import ShardSet

LABELS = 30
BASELINE_TARGETS = 5000  # a keyed sample of training targets is enough to find the most frequent one


@dataclass(frozen=True, slots=True)
class Stage:
    """A point of a run at which a model is scored: before, step-000500, after."""

    name: str
    model: ModelRef
    split: Split


@dataclass(slots=True)
class Evaluator:
    """Scores of one run: its tasks, on the rows of one shard set."""

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
        """The task's metrics, the headline first."""
        return metrics_for(self.tasks[task])

    def examples(self, task: str, split: Split) -> list[Example]:
        """The rows that are scored, the same ones at every stage; DataError where the split has none."""
        key = (task, split)
        if key not in self._examples:
            self._examples[key] = self._read(task, split, self.examples_per_task)
        if not self._examples[key]:
            raise DataError(
                f"task {task}: no {split} rows to score", hint="Give it some, or a larger share of the split by hash."
            )
        return self._examples[key]

    def chunks(self, task: str, split: Split) -> list[tuple[tuple[int, ...], tuple[GenerationRequest, ...]]]:
        """The rows as pieces of work: places in `examples(task, split)`, and what the model is asked for each.

        How likely a reference is costs about a quarter of an answer's time, so only what a metric
        takes is asked.
        """
        examples = self.examples(task, split)
        measured = {what for metric in self.metrics(task) for what in metric.measured}
        found = chunks(examples, CHUNK_BATCHES * self.limits.batch_size)
        return [(tuple(indices), tuple(question(examples[i], measured) for i in indices)) for indices in found]

    def existing(self, stage: Stage, task: str) -> ScoreCard | None:
        """The card of an earlier scoring of the same model on the same rows by the same protocol, if it is there."""
        manifest = read_manifest(self.store, self.layout.scores(stage.name, task))
        if manifest is None or manifest.body.get("fingerprint") != self.fingerprint(stage, task):
            return None
        try:
            card = card_of(self.store, manifest)
        except CorruptError:  # score it again
            return None
        return None if card.value is None else card

    def fingerprint(self, stage: Stage, task: str) -> str:
        """Digest of everything that the scores of a task depend on."""
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

    def finish(self, stage: Stage, task: str, answers: Sequence[Generation], seconds: float) -> ScoreCard:
        """Score the answers to `examples(task, stage.split)` and commit the card."""
        card, predictions = score_task(
            self.tasks[task],
            self.metrics(task),
            self.examples(task, stage.split),
            answers,
            stage=stage,
            baselines=self._baselines_of(task, stage.split),
            limits=self.limits,
            seconds=seconds,
        )
        fingerprint = self.fingerprint(stage, task)
        write_scores(self.store, self.layout, card, predictions, fingerprint=fingerprint, guard=self.guard)
        return card

    def failed(self, stage: Stage, task: str, reason: str) -> ScoreCard:
        """The card of a scoring that failed; it is not stored."""
        return _card(self.tasks[task], stage, error=reason)

    def _read(self, task: str, split: Split, limit: int) -> list[Example]:
        from data_prep.shards.reader import read_rows

        if split not in self.shard_set.task(task).splits:
            return []
        rows = read_rows(self.shard_set, task, split, self.store, self.cache, limit)
        return from_rows(rows, self.tasks[task])

    def _baselines_of(self, task: str, split: Split) -> dict[str, float]:
        key = (task, split)
        if key not in self._baselines:
            # A probe has no training rows; the answers to its validation rows tell what is
            # frequent.
            known: list[Example] = []
            sources: tuple[Split, Split] = ("train", "validation")
            for source in sources:
                if source != split and not known:
                    known = self._read(task, source, BASELINE_TARGETS)
            self._baselines[key] = score_baselines(
                self.metrics(task)[0],
                self.tasks[task].type,
                self.examples(task, split),
                [example.targets[0] for example in known if example.targets],
            )
        return self._baselines[key]


def score_task(
    task: Task,
    metrics: Sequence[Metric],
    examples: Sequence[Example],
    answers: Sequence[Generation],
    *,
    stage: Stage,
    baselines: Mapping[str, float],
    limits: GenerationLimits,
    seconds: float,
) -> tuple[ScoreCard, list[Prediction]]:
    """The score card and the predictions behind it; the first of `metrics` is the headline."""
    frame = TargetFormat.of(task)
    texts = [frame.unwrap(answer.text) for answer in answers]
    targets = [example.targets for example in examples]
    metas = [{**e.meta, **a.measured()} for e, a in zip(examples, answers, strict=True)]
    known = set.intersection(*(set(meta) for meta in metas)) if metas else set()
    metrics = [metric for metric in metrics if known.issuperset(metric.measured)] or list(metrics)
    stats = {metric.name: row_stats(metric, texts, targets, metas) for metric in metrics}
    primary_metric, found = metrics[0], stats[metrics[0].name]
    scores = iter(primary_metric.score_rows(found.stats).tolist() if len(found.stats) else [])
    predictions = [
        Prediction(e.id, e.template, e.input, e.targets, text, a.tokens, next(scores) if of_row else None, of_row)
        for e, a, text, of_row in zip(examples, answers, texts, found.of_all(), strict=True)
    ]
    card = _card(
        task,
        stage,
        rows=len(examples),
        scored=int(found.scored.sum()),
        primary_metric=primary_metric.name,
        metrics={m.name: _scored(m, stats[m.name], m.of_references(targets, metas)) for m in metrics},
        by_template=_by(primary_metric, found, [str(example.template) for example in examples]),
        by_length=_by(primary_metric, found, length_names([answer.prompt_tokens for answer in answers])),
        by_label=_by_label(primary_metric, found, texts, targets, metas),
        baselines=dict(baselines),
        protocol={
            "metrics": {metric.name: metric.protocol for metric in metrics},
            "decoding": limits.decoding,
            "max_input_tokens": limits.max_input_tokens,
            "max_new_tokens": limits.max_new_tokens,
            "precision": "fp32",
            "references": "best of several",
            "interval": INTERVAL_PROTOCOL,
        },
        lengths={
            "prompt_tokens_mean": float(np.mean([answer.prompt_tokens for answer in answers])),
            "prediction_tokens_mean": float(np.mean([answer.tokens for answer in answers])),
            "cut_off": float(np.mean([answer.cut_off for answer in answers])),
            "empty": float(np.mean([not answer.text.strip() for answer in answers])),
            "same_answer": _most_frequent(texts),
            "same_reference": _most_frequent([row[0] for row in targets]),
        },
        seconds=round(seconds, 3),
        rows_digest=_digest(examples),
    )
    return card, predictions


def _most_frequent(texts: Sequence[str]) -> float:
    """The share of the text that is there most often."""
    return max(Counter(texts).values(), default=0) / max(1, len(texts))


def _digest(examples: Sequence[Example]) -> str:
    """Which rows these are, in any order and wording."""
    rows = sorted((example.id, *example.targets) for example in examples)
    return sha256(json.dumps(rows).encode()).hexdigest()


def _scored(metric: Metric, found: RowStats, reference: float | None) -> MetricScore:
    rows, reason = len(found.stats), found.reason
    if rows:
        try:
            score = interval(metric, found.stats)
            if np.isfinite([score.value, score.low, score.high]).all():
                return MetricScore(
                    score.value, score.low, score.high, metric.better, metric.scale, rows, reference, reason
                )
            reason = f"the score is {score.value}"
        except Exception as error:
            reason = reason_of(error)
    return MetricScore(None, None, None, metric.better, metric.scale, 0, reference, reason or "there are no rows")


def length_names(lengths: Sequence[int], parts: int = 4) -> list[str]:
    """For every length the name of its part, `1-40` and so on, cut at the quartiles; one part where all are alike."""
    edges = sorted({int(np.quantile(lengths, share / parts, method="lower")) for share in range(1, parts + 1)})
    places = np.searchsorted(edges, lengths)
    first = [min(lengths), *(edge + 1 for edge in edges[:-1])]
    return [f"{first[place]}-{edges[place]}" for place in places]


def _by(metric: Metric, found: RowStats, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Rows and headline of the rows of each name; numbers in the order of numbers."""
    parts = np.array(names, dtype=object)[found.scored]
    return {
        str(name): {"rows": int((parts == name).sum()), "value": metric.score(found.stats[parts == name])}
        for name in sorted(set(parts), key=lambda name: int(str(name).partition("-")[0]))
    }


def _by_label(
    metric: Metric,
    found: RowStats,
    texts: Sequence[str],
    targets: Sequence[Sequence[str]],
    metas: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, float]]:
    """Rows and headline of each label, at most LABELS of them, those with most rows."""
    rows = [i for i, scored in enumerate(found.scored) if scored]
    try:
        labels = metric.by_label(
            [texts[i] for i in rows], [targets[i] for i in rows], [metas[i] for i in rows], found.stats
        )
    except Exception:  # a breakdown is no reason to lose the score
        return {}
    kept = sorted(sorted(labels, key=lambda label: -labels[label][0])[:LABELS])
    return {label: {"rows": labels[label][0], "value": labels[label][1]} for label in kept}


def _card(task: Task, stage: Stage, **values: Any) -> ScoreCard:
    model = stage.model
    described = {"kind": model.kind, "uri": model.uri, "digest": model.digest}
    return ScoreCard(stage.name, task.name, task.type, task.probe, stage.split, model.step, described, **values)
