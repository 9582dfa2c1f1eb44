"""A small fine-tuning from start to end: rows, a tiny base model, a prepared shard set, a job."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.prepare import PrepLimits, prepare
from data_prep.shards.manifest import ShardSet
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.attempts import Attempt
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.cache import Cache
from tests.support.tiny_t5 import save_tiny


@dataclass(frozen=True)
class TinyRun:
    job: FineTuneJob
    store: Store
    shard_set: ShardSet
    model_folder: Path
    cache: Cache

    @property
    def layout(self) -> RunLayout:
        return RunLayout(self.job.metadata.name)

    def attempt(self) -> Attempt:
        return Attempt.begin(self.store, self.layout)

    def named(self, name: str, **training: Any) -> "TinyRun":
        """Returns the same run under another name, with changed training settings."""
        job = self.job.model_copy(
            update={
                "metadata": self.job.metadata.model_copy(update={"name": name}),
                "spec": self.job.spec.model_copy(
                    update={"training": self.job.spec.training.model_copy(update=training)}
                ),
            }
        )
        return TinyRun(job, self.store, self.shard_set, self.model_folder, self.cache)


def _rows(path: Path, n: int, seed: int) -> str:
    rng = random.Random(seed)
    words = ["".join(rng.choice("abcdefghij") for _ in range(rng.randint(1, 6))) for _ in range(60)]
    with path.open("w") as file:
        for _ in range(n):
            text = rng.choices(words, k=rng.randint(2, 12))
            row = {"input": " ".join(text), "target": " ".join(reversed(text[:3]))}
            file.write(json.dumps(row) + "\n")
    return path.name


def tiny_run(folder: Path, *, workers: int = 1, **training: Any) -> TinyRun:
    """Returns a run on two tasks of 120 and 60 rows; a step is a few packed rows."""
    folder.mkdir(parents=True, exist_ok=True)
    model = save_tiny(folder / "base")
    settings = {
        "steps": 6,
        "batch_tokens": 960,
        "packing": {"source": 160, "target": 80},
        "max_input_tokens": 150,
        "max_target_tokens": 40,
        "learning_rate": 3e-3,
        "dropout": 0.1,
        "checkpoint_every": 2,
        **training,
    }
    tasks = [
        {"name": name, "type": "text", "source": {"uri": _rows(folder / f"{name}.jsonl", n, seed)}}
        for name, n, seed in (("first", 120, 1), ("second", 60, 2))
    ]
    job = FineTuneJob.model_validate(
        {
            "apiVersion": "raytrain.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "tiny"},
            "spec": {
                "model": str(model),
                "tasks": tasks,
                "training": settings,
                "resources": {"training": {"workers": workers}},
            },
        }
    )
    store = open_store(str(folder / "storage"))
    shard_set = prepare(
        job.spec.tasks,
        job.spec.mixture,
        store=store,
        tokenizer=read_tokenizer(model),
        limits=PrepLimits(job.spec.training.max_input_tokens, job.spec.training.max_target_tokens),
        base_folder=folder,
    )
    return TinyRun(job, store, shard_set, model, Cache(folder / "cache", 1 << 30))
