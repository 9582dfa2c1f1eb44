"""A standard benchmark as a task of the evaluator: its rows as examples, its scores as metrics."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from data_prep.config import Source, Task
from raytrain.benchmarks.loaded import LoadedBenchmark, load
from raytrain.config.job import FineTuneJob
from raytrain.evaluation.baselines import Yardsticks
from raytrain.evaluation.chunks import Chunk, split_into_chunks
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import INTERVAL_PROTOCOL, Metric
from raytrain.evaluation.metrics.harness import SCORES, SUFFIX
from raytrain.evaluation.results import Prediction, ScoreCard, Stage
from raytrain.evaluation.scoring import score_task
from raytrain.generation.requests import Generation, GenerationLimits, ModelRef
from raytrain_core.storage import Store

_DEFAULT_PROMPT = 2048
_UNLIMITED = 1 << 30


@dataclass(frozen=True)
class BenchmarkRows:
    """A benchmark with the rows that were drawn."""

    benchmark: LoadedBenchmark

    @cached_property
    def task(self) -> Task:
        """The probe, in the terms of the tasks of a job."""
        choices = any(row.request.pairs for row in self.benchmark.rows)
        return Task(
            name=self.benchmark.name,
            type="multiple-choice" if choices else "text",
            source=Source(uri=f"hf://{self.benchmark.spec.benchmark}"),
            templates=["{input}"],
            probe=True,
            metrics=[f"{metric}{SUFFIX}" for metric in self.benchmark.metrics],
        )

    @cached_property
    def examples(self) -> list[Example]:
        """The rows to score, the same at every stage."""
        return [Example(row.id, 0, row.prompt, (row.target,), {}) for row in self.benchmark.rows]

    @property
    def positions(self) -> int:
        """Longest text in tokens that the model may have to read or write."""
        return self.benchmark.max_input_tokens + max(row.request.max_new_tokens for row in self.benchmark.rows)

    @property
    def in_words(self) -> str:
        """What is scored, in a line."""
        protocol = self.benchmark.protocol([])
        return f"{protocol['benchmark']}; {protocol['rows']}; {protocol['few_shot']} solved examples in a prompt"

    def chunks(self, size: int) -> list[Chunk]:
        """Returns the requests for all rows, in chunks of `size`."""
        rows = self.benchmark.rows
        return [
            Chunk(tuple(indices), tuple(rows[i].request for i in indices))
            for indices in split_into_chunks(self.examples, size)
        ]

    def fingerprint(self, model: ModelRef, metrics: Sequence[Metric]) -> str:
        """Returns a digest of everything that the scores depend on.

        A base model has a tokenizer of its own, so its kind counts.
        """
        body = {
            "model": [model.kind, model.digest],
            "rows": self.benchmark.digest,
            "metrics": {metric.name: metric.protocol for metric in metrics},
            "interval": INTERVAL_PROTOCOL,
        }
        return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def score(
        self, metrics: Sequence[Metric], generations: Sequence[Generation], stage: Stage, seconds: float
    ) -> tuple[ScoreCard, list[Prediction]]:
        """Returns the score card and its predictions; the first of `metrics` is the primary one."""
        protocol = self.benchmark.protocol(generations)
        scores = self.benchmark.scores(generations)
        card, predictions = score_task(
            self.task,
            metrics,
            [replace(example, meta={SCORES: row}) for example, row in zip(self.examples, scores, strict=True)],
            generations,
            stage=stage,
            yardsticks=Yardsticks(),
            limits=GenerationLimits(self.benchmark.max_input_tokens, protocol["max_new_tokens"]),
            seconds=seconds,
        )
        return replace(card, protocol={**card.protocol, **protocol}), predictions


def load_benchmarks(
    job: FineTuneJob, model_folder: Path, *, base_folder: Path, store: Store, scratch: Path, names: Collection[str]
) -> dict[str, BenchmarkRows]:
    """Loads the rows of a job's benchmarks; `names` are those of the probes wanted.

    Prompts are as long as the model in `model_folder` allows. Raises UsageError or DataError.
    """
    limit = longest_prompt(model_folder)
    return {
        benchmark.probe: BenchmarkRows(
            load(
                benchmark,
                f"spec.probes[{number}]",
                examples=job.spec.evaluation.examples_per_task,
                max_input_tokens=limit,
                base_folder=base_folder,
                store=store,
                scratch=scratch / benchmark.probe,
            )
        )
        for number, benchmark in enumerate(job.spec.probes)
        if benchmark.probe in names
    }


def longest_prompt(model_folder: Path) -> int:
    """Longest prompt in tokens, where the harness's runner finds it."""
    config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        if isinstance(config.get(name), int):
            return int(config[name])
    file = model_folder / "tokenizer_config.json"
    stated = json.loads(file.read_text(encoding="utf-8")).get("model_max_length") if file.is_file() else None
    return int(stated) if isinstance(stated, int | float) and stated < _UNLIMITED else _DEFAULT_PROMPT
