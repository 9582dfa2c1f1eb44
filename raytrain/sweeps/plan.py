"""A sweep with its job: which settings there are, and the job of each run."""

from dataclasses import dataclass
from pathlib import Path

from raytrain.config.identity import digest, identity
from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain.config.sweep import Sweep, SweepSpec
from raytrain.sweeps.check import check_sweep
from raytrain.sweeps.jobs import as_written, job_with
from raytrain.sweeps.settings import AS_WRITTEN, Chosen, Setting, candidates, fields_set, label_of
from raytrain_core.config.loader import load_config


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A checked sweep.

    `base_folder` is where relative paths in the job start; `integers` are the parameters whose
    field holds integers.
    """

    sweep: Sweep
    job: FineTuneJob
    base_folder: Path
    integers: frozenset[str]

    @property
    def spec(self) -> SweepSpec:
        """The sweep's content."""
        return self.sweep.spec

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.sweep.metadata.name

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The seeds of every setting; None stands for those in the job."""
        return (None,) if self.spec.seeds is None else tuple(self.spec.seeds)

    @property
    def searches(self) -> bool:
        """Whether a setting depends on the results of earlier ones."""
        return self.spec.method == "optuna"

    @property
    def trained(self) -> tuple[str, ...]:
        """The tasks whose gain counts: trained by the job as written, and not replayed ones."""
        replay = self.job.spec.mixture.replay
        replayed = set() if replay is None else set(replay.tasks)
        return tuple(task.name for task in self.job.spec.trained_tasks if task.name not in replayed)

    @property
    def probes(self) -> tuple[str, ...]:
        """The tasks whose loss counts: those that no run trains."""
        swept = fields_set(self.spec)
        return tuple(t.name for t in self.job.spec.tasks if t.probe and f"tasks[{t.name}].probe" not in swept)

    def run_name(self, setting: Setting, seed: int | None) -> str:
        """Returns the name of a run: NAME-NUMBER, with seeds NAME-NUMBER-SEED."""
        return f"{self.name}-{setting.number}" + ("" if seed is None else f"-{seed}")

    def job_of(self, setting: Setting, seed: int | None) -> FineTuneJob:
        """Returns the job of one run; raises ConfigError where its fields do not fit."""
        job = job_with(self.spec, as_written(self.job), setting.chosen, seed)
        named = job.metadata.model_copy(update={"name": self.run_name(setting, seed)})
        return job.model_copy(update={"metadata": named})

    def result_key(self, chosen: Chosen) -> str:
        """Returns a digest of all that decides the result of a setting."""
        return digest(identity(job_with(self.spec, as_written(self.job), chosen, None)))

    def settings(self) -> tuple[list[Setting], list[str]]:
        """Returns the settings that are known from the start, the job as written first.

        Those that are the same job as an earlier one are left out, with a sentence for each.
        """
        known = {self.result_key({}): AS_WRITTEN}
        merged = []
        for chosen in [] if self.searches else candidates(self.spec, self.integers):
            same = known.setdefault(self.result_key(chosen), Setting(len(known), chosen))
            if same.chosen is not chosen:
                run = self.run_name(same, self.seeds[0])
                merged.append(f"{label_of(chosen)} is the same job as {run} ({same.label}): it is run once")
        return list(known.values()), merged


def load_sweep(path: str | Path) -> SweepPlan:
    """Reads a sweep's file and the job that it names, and checks both.

    Raises ConfigError with every problem by line and column: fields that the job does not have or
    that must not be swept, values that they cannot have, combinations that are no valid job, too
    many runs.
    """
    sweep = load_config(path, Sweep)
    loaded = load_job(Path(path).parent / Path(sweep.spec.job).expanduser())
    integers = check_sweep(Path(path), sweep, as_written(loaded.job))
    return SweepPlan(sweep, loaded.job, loaded.base_folder, integers)
