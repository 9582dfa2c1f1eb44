"""The models of a run, the base model and the one that it trained, loaded on first use."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_prep.config import Task
from raytrain.config.locations import cache_folder
from raytrain.config.run_layout import RunLayout
from raytrain.config.serving import ServingPrecision
from raytrain.generation.requests import GenerationLimits, ModelRef
from raytrain.runs.record import read_record
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import read_manifest

if TYPE_CHECKING:
    from data_prep.text.tokenizer import Tokenizer
    from raytrain.generation.generator import Generator
    from raytrain.generation.live_batching import LiveBatcher

Which = Literal["before", "after"]
"""The base model of a run, or the model that it trained."""


class RunModels:
    """Loads and keeps the generators of one run's models.

    Downloaded files are kept under `cache`, by default this machine's cache folder. `precision` is
    that of products and attention; runs are scored in fp32. Raises UsageError where the run does
    not exist.
    """

    def __init__(
        self, store: Store, layout: RunLayout, *, cache: Path | None = None, precision: ServingPrecision = "fp32"
    ) -> None:
        record = read_record(store, layout)
        if record is None:
            raise UsageError(f"{store.uri}: there is no run {layout.name}", hint="Check its name and --storage.")
        self._store, self._layout, self._record = store, layout, record
        self._precision = precision
        self._cache = (cache or cache_folder()) / "models"
        self._generators: dict[Which, Generator] = {}

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the run's job."""
        return self._record.job.spec.tasks

    def is_tuned(self) -> bool:
        """Returns whether the run has exported its model yet."""
        return read_manifest(self._store, self._layout.model) is not None

    def generator(self, which: Which) -> "Generator":
        """Returns the generator of a model; raises DataError where the run has none yet."""
        if which not in self._generators:
            self._generators[which] = self._load(which)
        return self._generators[which]

    def load(self, which: Which) -> "Generator":
        """Loads a model where requests are answered later; raises DataError if there is none."""
        from raytrain.generation.model_thread import model_thread

        return model_thread().call(lambda: self.generator(which))

    def live(self, which: Which) -> "LiveBatcher":
        """A model that answers requests as they arrive; raises DataError if there is none."""
        from raytrain.generation.model_thread import model_thread

        return model_thread().call(lambda: self.generator(which).live())

    @property
    def limits(self) -> GenerationLimits:
        """Lengths and decoding of the run's job."""
        return GenerationLimits.from_job(self._record.job)

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer of the run's shards; raises DataError where they are not prepared yet."""
        from data_prep.shards.manifest import ShardSet
        from data_prep.shards.tokenizer_files import load_tokenizer

        if self._record.shard_set is None:
            raise DataError(
                f"run {self._layout.name}: its data is not prepared yet", hint="Wait until the run has prepared it."
            )
        return load_tokenizer(ShardSet.load(self._store, self._record.shard_set), self._store)

    def _load(self, which: Which) -> "Generator":
        tokenizer = self.tokenizer
        ref = self._reference(which)
        import torch

        from raytrain.generation.generator import Generator, load_model

        dtype = torch.bfloat16 if self._precision == "bf16" else torch.float32
        model = load_model(ref, ref, store=self._store, cache_folder=self._cache, tokenizer_size=tokenizer.size)
        return Generator(model, tokenizer, self.limits, dtype=dtype)

    def _reference(self, which: Which) -> ModelRef:
        from raytrain.model.source import resolve

        record = self._record
        if which == "before":
            base = resolve(record.model_uri, store=self._store, base_folder=record.base_folder, cache=self._cache)
            return ModelRef("base", str(base), record.model_digest or "")
        if not self.is_tuned():
            raise DataError(
                f"run {self._layout.name} has no tuned model yet",
                hint="Wait until the run has finished, or use the base model with --before.",
            )
        return ModelRef("export", self._layout.model, "")
