"""A prepared task and a random model, made on the spot, for the benchmark of actors."""

import json
import random
from pathlib import Path

from benchmarks import workload
from data_prep.config import Mixture, Task
from data_prep.prepare import PrepLimits, prepare
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.actor import ActorSettings
from raytrain.evaluation.evaluator import Evaluator
from raytrain.generation.requests import GenerationLimits, ModelRef
from raytrain.model.source import digest
from raytrain_core.storage import open_store
from raytrain_core.storage.cache import Cache

ROWS = 256
NAMES = "abide acorn adobe agile album amber angle apple arrow aspen atlas audio award bacon badge beach"
WORDS = NAMES.split()
LIMITS = GenerationLimits(max_input_tokens=256, max_new_tokens=24, batch_size=32)


class World:
    """Everything that a pool of evaluation actors needs."""

    def __init__(self, folder: Path) -> None:
        from tests.support.tiny_t5 import tiny_tokenizer

        draw = random.Random(3)
        for split in ("train", "validation", "test"):
            with (folder / f"{split}.jsonl").open("w") as file:
                for _ in range(ROWS):
                    words = draw.choices(WORDS, k=draw.randint(5, 60))
                    file.write(json.dumps({"input": " ".join(words), "target": words[0]}) + "\n")
        workload.random_model(vocab_size=96, num_layers=4).save_pretrained(folder / "model")
        config = json.loads((folder / "model/config.json").read_text())
        (folder / "model/config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
        tiny_tokenizer(folder / "model")
        splits = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
        task = Task.model_validate({"name": "words", "type": "text", "source": {"splits": splits}})
        self.tasks = {task.name: task}
        self.store = open_store(str(folder / "store"))
        self.shards = prepare(
            [task],
            Mixture(),
            store=self.store,
            tokenizer=read_tokenizer(folder / "model"),
            limits=PrepLimits(LIMITS.max_input_tokens, LIMITS.max_new_tokens),
            base_folder=folder,
        )
        self.cache = Cache(folder / "cache", 1 << 30)
        self.base = ModelRef("base", str(folder / "model"), digest(folder / "model"))

    def settings(self) -> ActorSettings:
        """Returns the settings of the actors."""
        return ActorSettings(self.store, self.shards.digest, self.base, self.cache.folder, LIMITS)

    def evaluator(self, run: str) -> Evaluator:
        """Returns the evaluator of a run of this name, which has no scores yet."""
        return Evaluator(
            self.store, RunLayout(run), self.shards, self.tasks, self.cache, LIMITS, examples_per_task=ROWS
        )
