"""The job of each run of a sweep: the job as written with other values of some fields."""

from raytrain.config.job import FineTuneJob
from raytrain.config.sweep import Sweep, SweepSpec
from raytrain.sweeps.fields import Plain, locate, with_values
from raytrain.sweeps.settings import Chosen, overrides
from raytrain_core.config.loader import from_mapping

_SEEDED = (("spec", "training", "seed"), ("spec", "mixture", "seed"))


def as_written(document: FineTuneJob | Sweep) -> Plain:
    """Returns a job or a sweep as plain data, without the defaults that its file leaves out."""
    return document.model_dump(mode="json", by_alias=True, exclude_unset=True)


def job_with(spec: SweepSpec, plain: Plain, chosen: Chosen, seed: int | None) -> FineTuneJob:
    """Returns the validated job of a setting; raises ConfigError where its fields do not fit."""
    values = {locate(path, plain): value for path, value in overrides(spec, chosen).items()}
    if seed is not None:
        values |= dict.fromkeys(_SEEDED, seed)
    return from_mapping(with_values(plain, values), FineTuneJob)
