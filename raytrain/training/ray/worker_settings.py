"""What the driver gives to every training worker."""

from dataclasses import dataclass
from pathlib import Path

from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.attempts import Attempt
from raytrain.training.ray.channel import DriverChannel
from raytrain_core.storage import Store
from raytrain_core.storage.cache import Cache


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the driver gives to every worker; pickles."""

    job: FineTuneJob
    store: Store
    layout: RunLayout
    attempt: Attempt
    identity: str
    """The digest of the run's identity, which every checkpoint carries."""
    shard_set: str
    model_folder: Path
    cache: Cache
    channel: DriverChannel
    model_uri: str | None = None
    """Where a node without `model_folder` reads the base model; by default as the job says."""
