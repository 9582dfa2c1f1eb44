"""The evaluator of a run: which rows are scored, what is requested for them, and stored scores.

It reads and writes the store, and knows neither models nor Ray.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from data_prep.config import Split, Task
from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.baselines import Yardsticks, make_yardsticks
from raytrain.evaluation.benchmark_rows import BenchmarkRows
from raytrain.evaluation.chunks import CHUNK_BATCHES, Chunk, split_into_chunks
from raytrain.evaluation.examples import Example, examples_from_rows, generation_request
from raytrain.evaluation.metrics import INTERVAL_PROTOCOL, Metric, metrics_for
from raytrain.evaluation.results import ScoreCard, Stage, read_manifest_card, write_scores
from raytrain.evaluation.scoring import new_card, score_task
from raytrain.generation.requests import Generation, GenerationLimits
from raytrain_core.errors import DataError
from raytrain_core.storage import CorruptError, Store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.commit import read_manifest

if TYPE_CHECKING:
    from data_prep.shards.manifest import ShardSet

BASELINE_TARGETS = 5000
"""Training targets that are sampled to find the most frequent one."""


@dataclass(slots=True)
class Evaluator:
    """Computes and commits the scores of one run: its tasks, on the rows of one shard set.

    `benchmarks` are the tasks whose rows are not in the shard set: the same at every stage.

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
    benchmarks: Mapping[str, BenchmarkRows] = field(default_factory=dict)
    _examples: dict[tuple[str, str], list[Example]] = field(default_factory=dict)
    _yardsticks: dict[tuple[str, str], Yardsticks] = field(default_factory=dict)

    def metrics(self, task: str) -> tuple[Metric, ...]:
        """Returns the task's metrics, the primary one first."""
        return metrics_for(self.tasks[task])

    def examples(self, task: str, split: Split) -> list[Example]:
        """Returns the rows to score, the same ones at every stage.

        Raises DataError where the split has none.
        """
        if task in self.benchmarks:
            return self.benchmarks[task].examples
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
        if task in self.benchmarks:
            return self.benchmarks[task].chunks(CHUNK_BATCHES * self.limits.batch_size)
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
        if task in self.benchmarks:
            return self.benchmarks[task].fingerprint(stage.model, self.metrics(task))
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
        if task in self.benchmarks:
            card, predictions = self.benchmarks[task].score(self.metrics(task), generations, stage, seconds)
        else:
            card, predictions = score_task(
                self.tasks[task],
                self.metrics(task),
                self.examples(task, stage.split),
                generations,
                stage=stage,
                yardsticks=self._yardsticks_of(task, stage.split),
                limits=self.limits,
                seconds=seconds,
            )
        fingerprint = self.fingerprint(stage, task)
        write_scores(self.store, self.layout, card, predictions, fingerprint=fingerprint, guard=self.guard)
        return card

    def failed_card(self, stage: Stage, task: str, reason: str) -> ScoreCard:
        """Returns the card of a task that could not be scored; it is not stored."""
        return new_card(self.tasks[task], stage, error=reason)

    def _read(self, task: str, split: Split, limit: int) -> list[Example]:
        from data_prep.shards.text_reader import read_rows

        if split not in self.shard_set.task(task).splits:
            return []
        rows = read_rows(self.shard_set, task, split, self.store, self.cache, limit)
        return examples_from_rows(rows, self.tasks[task])

    def _yardsticks_of(self, task: str, split: Split) -> Yardsticks:
        key = (task, split)
        if key not in self._yardsticks:
            self._yardsticks[key] = make_yardsticks(
                self.metrics(task),
                self.tasks[task].type,
                self.examples(task, split),
                [example.targets[0] for example in self._known_examples(task, split) if example.targets],
            )
        return self._yardsticks[key]

    def _known_examples(self, task: str, split: Split) -> list[Example]:
        """Returns examples of another split, whose targets a baseline may know.

        They are training rows; a probe has none, so its validation rows are used.
        """
        sources: tuple[Split, Split] = ("train", "validation")
        for source in sources:
            if source != split and (known := self._read(task, source, BASELINE_TARGETS)):
                return known
        return []
