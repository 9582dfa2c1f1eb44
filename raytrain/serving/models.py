"""The two models of a run, loaded when they are first asked: the one that it started from and the one that it left."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_prep.config import Task
from raytrain.config.locations import cache_folder
from raytrain.config.run_layout import RunLayout
from raytrain.generation.requests import Limits, ModelRef
from raytrain.runs.record import read_record
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import read_manifest

if TYPE_CHECKING:
    from data_prep.text.tokenizer import Tokenizer
    from raytrain.generation.generator import Decoder

Which = Literal["before", "after"]


class RunModels:
    """Decoders of a run's models. UsageError for a run that there is not, DataError where it has not got that far.

    What has to be fetched is kept under `cache`, by default the cache folder of this machine.
    """

    def __init__(self, store: Store, layout: RunLayout, *, cache: Path | None = None) -> None:
        record = read_record(store, layout)
        if record is None:
            raise UsageError(f"{store.uri}: there is no run {layout.name}", hint="Check its name and --storage.")
        self._store, self._layout, self._record = store, layout, record
        self._cache = (cache or cache_folder()) / "models"
        self._decoders: dict[Which, Decoder] = {}

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the run's job."""
        return self._record.job.spec.tasks

    def tuned(self) -> bool:
        """Whether the run has left a model yet."""
        return read_manifest(self._store, self._layout.model) is not None

    def decoder(self, which: Which) -> "Decoder":
        """The model that the run left (`after`) or the one that it started from (`before`)."""
        if which not in self._decoders:
            self._decoders[which] = self._load(which)
        return self._decoders[which]

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from data_prep.shards.manifest import ShardSet
        from data_prep.shards.reader import load_tokenizer

        if self._record.shard_set is None:
            raise DataError(
                f"run {self._layout.name}: its data is not prepared yet", hint="Let the run get further first."
            )
        return load_tokenizer(ShardSet.load(self._store, self._record.shard_set), self._store)

    def _load(self, which: Which) -> "Decoder":
        tokenizer = self._tokenizer
        model = self._reference(which)
        from raytrain.generation.generator import Decoder, load_model

        spec = self._record.job.spec
        limits = Limits(
            spec.training.max_input_tokens,
            spec.evaluation.max_new_tokens or spec.training.max_target_tokens,
            spec.evaluation.batch_size,
            spec.evaluation.beams,
        )
        loaded = load_model(model, model, store=self._store, cache_folder=self._cache, tokenizer_size=tokenizer.size)
        return Decoder(loaded, tokenizer, limits)

    def _reference(self, which: Which) -> ModelRef:
        from raytrain.model.source import resolve

        record = self._record
        if which == "before":
            base = resolve(record.job.spec.model, store=self._store, base_folder=record.base_folder, cache=self._cache)
            return ModelRef("base", str(base), record.model_digest or "")
        if not self.tuned():
            raise DataError(
                f"run {self._layout.name} has no tuned model yet", hint="Let it finish, or ask the one --before."
            )
        return ModelRef("export", self._layout.model, "")
