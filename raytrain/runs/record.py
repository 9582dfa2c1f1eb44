"""The record of a run (`runs/<name>/job.yaml`): its job, with facts about the run as annotations.

It remains a FineTuneJob that can be run again. The annotations hold the digest of the identity, the
folder at which relative paths start and, once they are known, the shard set, the digest of the base
model, its commit on the hub, and the number of steps.
"""

from dataclasses import dataclass
from pathlib import Path

from raytrain.config.identity import digest, identity
from raytrain.config.job import FineTuneJob
from raytrain.config.load import to_yaml
from raytrain.config.run_layout import RunLayout
from raytrain_core.errors import StorageError
from raytrain_core.storage import NotFoundError, Store

_PREFIX = "raytrain.dev/"
_IDENTITY, _FOLDER, _SHARDS, _MODEL, _REVISION, _STEPS = _FACTS = tuple(
    f"{_PREFIX}{name}"
    for name in ("identity", "base-folder", "shard-set", "base-model-digest", "base-model-revision", "steps")
)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The job of a run, and what its preparation found out."""

    written: FineTuneJob
    """The job as the user wrote it."""
    base_folder: Path
    shard_set: str | None = None
    model_digest: str | None = None
    steps: int | None = None
    """The number of steps that `epochs` or `tokens` amount to, once known."""
    model_revision: str | None = None
    """The commit of the base model that the run started with, if it came from the hub."""
    recorded_identity: str | None = None
    """The digest of the identity that the run started with, once its data was prepared."""

    @property
    def model_uri(self) -> str:
        """The base model as every process must read it: a hub's at its recorded commit."""
        uri = self.written.spec.model
        return uri if self.model_revision is None else f"{uri.partition('@')[0]}@{self.model_revision}"

    @property
    def job(self) -> FineTuneJob:
        """The job with its number of steps filled in, if known."""
        spec = self.written.spec
        if self.steps is None or spec.training.steps is not None:
            return self.written
        training = spec.training.model_copy(update={"steps": self.steps})
        return self.written.model_copy(update={"spec": spec.model_copy(update={"training": training})})

    @property
    def identity(self) -> str:
        """The digest of the job's identity.

        As recorded when the run started: another version of this package, with a field more, would
        compute another one of the same job, and find the run's checkpoints to be a stranger's.
        """
        return self.recorded_identity or digest(identity(self.job))

    def to_yaml(self) -> str:
        """Returns the record as a job file."""
        annotations = {
            _IDENTITY: self.identity,
            _FOLDER: str(self.base_folder),
            _SHARDS: self.shard_set,
            _MODEL: self.model_digest,
            _REVISION: self.model_revision,
            _STEPS: None if self.steps is None else str(self.steps),
        }
        written = self.written.model_dump(mode="json", by_alias=True)
        written["metadata"]["annotations"] |= {key: value for key, value in annotations.items() if value is not None}
        return to_yaml(written)


def write_record(store: Store, layout: RunLayout, record: RunRecord) -> None:
    """Stores the record of a run, replacing the existing one."""
    store.put(layout.job, record.to_yaml().encode())


def read_record(store: Store, layout: RunLayout) -> RunRecord | None:
    """Reads the record of a run; returns None if there is no such run.

    Raises StorageError if the record is invalid.
    """
    from pydantic import ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = store.get(layout.job).decode(errors="replace")
    except NotFoundError:
        return None
    try:
        job = FineTuneJob.model_validate(YAML(typ="safe", pure=True).load(text))
    except (ValidationError, YAMLError) as error:
        raise StorageError(
            f"{store.uri}/{layout.job}: not a job file that this version can read ({str(error).splitlines()[0]})",
            hint="it was written by another version or by hand; start the run over with --fresh",
        ) from None
    notes = job.metadata.annotations
    own = {key: value for key, value in notes.items() if key not in _FACTS}
    job = job.model_copy(update={"metadata": job.metadata.model_copy(update={"annotations": own})})
    steps = notes.get(_STEPS)
    return RunRecord(
        job,
        Path(notes.get(_FOLDER, ".")),
        notes.get(_SHARDS),
        notes.get(_MODEL),
        int(steps) if steps is not None and steps.isdigit() else None,
        notes.get(_REVISION),
        notes.get(_IDENTITY) if _SHARDS in notes else None,
    )
