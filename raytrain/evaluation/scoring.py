"""From answers to a committed score card: one task at one stage.

`Scorer` holds what all stages share; it reads and writes the store but knows no model and no Ray.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.document.models import Split, Task
from data_prep.errors import DataError
from data_prep.storage import CorruptError, Store
from data_prep.storage.cache import Cache
from data_prep.storage.commit import read_manifest
from data_prep.task_types import AnswerFrame
from raytrain.evaluation.baselines import score_baselines
from raytrain.evaluation.examples import Example, from_rows
from raytrain.evaluation.metrics import INTERVAL_PROTOCOL, Floats, Metric, interval, metrics_for
from raytrain.evaluation.scores import MetricScore, ModelRef, Prediction, ScoreCard, card_of, write_scores
from raytrain.spec.layout import RunLayout

if TYPE_CHECKING:
    from data_prep.shards import ShardSet

BASELINE_TARGETS = 5000  # a keyed sample of training targets is enough to find the most frequent one


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote: the text, its length in tokens (end mark not counted), whether the limit cut it off."""

    text: str
    tokens: int
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """A point of a run at which a model is scored: before, step-000500, after."""

    name: str
    model: ModelRef
    split: Split


@dataclass(frozen=True, slots=True)
class Limits:
    """How a model is asked: tokens that it reads and writes at most, and examples in a batch."""

    max_input_tokens: int
    max_new_tokens: int
    batch_size: int = 32


@dataclass(slots=True)
class Scorer:
    """Scores of one run: its tasks, on the rows of one shard set."""

    store: Store
    layout: RunLayout
    shard_set: "ShardSet"
    tasks: Mapping[str, Task]
    cache: Cache
    limits: Limits
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

    def existing(self, stage: Stage, task: str) -> ScoreCard | None:
        """The card of an earlier scoring of the same model on the same rows by the same protocol, if it is there."""
        manifest = read_manifest(self.store, self.layout.scores(stage.name, task))
        if manifest is None or manifest.body.get("fingerprint") != self.fingerprint(stage, task):
            return None
        try:
            return card_of(self.store, manifest)
        except CorruptError:  # score it again
            return None

    def fingerprint(self, stage: Stage, task: str) -> str:
        """Digest of everything that the scores of a task depend on."""
        body = {
            "model": stage.model.digest,
            "shards": self.shard_set.task(task).digest,
            "split": stage.split,
            "rows": self.examples_per_task,
            "limits": [self.limits.max_input_tokens, self.limits.max_new_tokens],
            "metrics": {metric.name: metric.protocol for metric in self.metrics(task)},
            "interval": INTERVAL_PROTOCOL,
        }
        return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def finish(self, stage: Stage, task: str, answers: Sequence[Answer], seconds: float) -> ScoreCard:
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
        from data_prep.shards import read_rows

        if split not in self.shard_set.task(task).splits:
            return []
        rows = read_rows(self.shard_set, task, split, self.store, self.cache, limit)
        return from_rows(rows, self.tasks[task])

    def _baselines_of(self, task: str, split: Split) -> dict[str, float]:
        key = (task, split)
        if key not in self._baselines:
            # A probe has no training rows; the answers to its validation rows tell what is frequent.
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
    answers: Sequence[Answer],
    *,
    stage: Stage,
    baselines: Mapping[str, float],
    limits: Limits,
    seconds: float,
) -> tuple[ScoreCard, list[Prediction]]:
    """The score card and the predictions behind it; the first of `metrics` is the headline."""
    frame = AnswerFrame.of(task)
    texts = [frame.inside(answer.text) for answer in answers]
    targets = [example.targets for example in examples]
    metas = [example.meta for example in examples]
    stats = {metric.name: metric.stats_many(texts, targets, metas) for metric in metrics}
    headline = metrics[0]
    rows = headline.score_rows(stats[headline.name])
    predictions = [
        Prediction(
            e.id, e.template, e.input, e.targets, text, a.tokens, float(score), tuple(float(x) for x in row_stats)
        )
        for e, a, text, score, row_stats in zip(examples, answers, texts, rows, stats[headline.name], strict=True)
    ]
    card = _card(
        task,
        stage,
        rows=len(examples),
        scored=len(answers),
        headline=headline.name,
        metrics={metric.name: _scored(metric, stats[metric.name]) for metric in metrics},
        by_template=_by_template(headline, stats[headline.name], examples),
        baselines=dict(baselines),
        protocol={
            "metrics": {metric.name: metric.protocol for metric in metrics},
            "decoding": "greedy",
            "max_input_tokens": limits.max_input_tokens,
            "max_new_tokens": limits.max_new_tokens,
            "precision": "fp32",
            "references": "best of several",
            "interval": INTERVAL_PROTOCOL,
        },
        lengths={
            "prediction_tokens_mean": float(np.mean([answer.tokens for answer in answers])),
            "cut_off": float(np.mean([answer.cut_off for answer in answers])),
            "empty": float(np.mean([not answer.text.strip() for answer in answers])),
        },
        seconds=round(seconds, 3),
    )
    return card, predictions


def _scored(metric: Metric, stats: Floats) -> MetricScore:
    found = interval(metric, stats)
    return MetricScore(found.value, found.low, found.high, metric.better)


def _by_template(metric: Metric, stats: Floats, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    templates = np.array([example.template for example in examples])
    return {
        str(template): {"rows": int((templates == template).sum()), "value": metric.score(stats[templates == template])}
        for template in np.unique(templates)
    }


def _card(task: Task, stage: Stage, **values: Any) -> ScoreCard:
    model = stage.model
    described = {"kind": model.kind, "uri": model.uri, "digest": model.digest}
    return ScoreCard(stage.name, task.name, task.type, task.probe, stage.split, model.step, described, **values)
