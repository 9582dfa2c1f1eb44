"""The Sweep: many runs of one job that differ in some of its fields.

The models are the one definition of the file; its JSON Schema and reference page are generated from
them. What the fields of the job mean and allow is the job's matter (`raytrain.sweeps.fields`).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from raytrain_core.config.base import SpecModel

SWEEP_KIND = "Sweep"

SweepName = Annotated[str, StringConstraints(pattern=r"^[a-z][-a-z0-9]{0,25}$")]
"""Shorter than the name of a run, which adds the setting's number and the seed."""

RunSeed = Annotated[int, Field(ge=0, le=999_999)]
Objective = Literal["gained", "forgotten", "gained-minus-forgotten", "pareto"]
Method = Literal["grid", "one-at-a-time", "random", "optuna"]
DRAWN: tuple[Method, ...] = ("random", "optuna")
"""Methods that draw settings, as many as `samples`."""


class SweepMetadata(SpecModel):
    """Name of the sweep."""

    name: SweepName = Field(description="Name of the sweep; its runs are named NAME-NUMBER, or NAME-NUMBER-SEED.")


class Parameter(SpecModel):
    """What a sweep tries for one field of the job, or for several fields that change together."""

    values: list[Any] | None = Field(
        default=None, min_length=1, description="The values to try; null stands for a field that is not set."
    )
    low: float | None = Field(default=None, description="For random and optuna: the smallest value.")
    high: float | None = Field(
        default=None, description="For random and optuna: the largest value. An integer field gets integers."
    )
    log: bool = Field(
        default=False, description="Draw the logarithm uniformly: as many values from 1 to 10 as from 10 to 100."
    )
    alternatives: dict[str, dict[str, Any]] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Named alternatives, each of which sets several fields of the job, e.g. {none: {}, tenth: "
            "{mixture.replay: {share: 0.1, tasks: [flan]}, 'tasks[flan].probe': false}}. The parameter's own name is "
            "then only a label."
        ),
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ranged = self.low is not None or self.high is not None
        if sum((self.values is not None, ranged, self.alternatives is not None)) != 1:
            raise ValueError("give exactly one of values, low with high, and alternatives")
        if ranged and (self.low is None or self.high is None):
            raise ValueError("low and high belong together")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.log and not ranged:
            raise ValueError("log has no effect without low and high")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError("with log, low must be more than 0")
        return self

    @property
    def is_range(self) -> bool:
        """Whether it is a range, from which only random and optuna can draw."""
        return self.low is not None


class Stopping(SpecModel):
    """Ends runs early that are behind (asynchronous successive halving, ASHA).

    At each rung a run goes on only while its score is among the best 1/factor of all runs that have
    reached the rung (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").
    """

    method: Literal["asha"] = Field(default="asha", description="Always asha.")
    first_step: int = Field(
        ge=1, description="Step of the first rung; the next one is at factor times as many steps, and so on."
    )
    factor: int = Field(default=3, ge=2, le=100, description="One run of so many goes on at each rung.")


class SweepSpec(SpecModel):
    """Which job, which settings, how often, and what counts."""

    job: str = Field(min_length=1, description="The job file, relative to the sweep's file.", examples=["job.yaml"])
    parameters: dict[str, Parameter] = Field(
        min_length=1,
        description=(
            "The fields of the job to change, by their paths, e.g. training.learningRate, mixture.temperature, "
            "mixture.replay.share, mixture.weights.reviews or tasks[reviews].probe. Fields that would change which "
            "rows are scored, or how, are refused: scores could not be compared."
        ),
    )
    method: Method = Field(
        default="grid",
        description=(
            "grid: all combinations; one-at-a-time: each value alone, every other field as in the job; random: drawn "
            "independently; optuna: drawn where earlier runs promise most (tree-structured Parzen estimators)."
        ),
    )
    samples: int | None = Field(default=None, ge=1, description="For random and optuna: the number of settings.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="For random and optuna: seed of what is drawn.")
    seeds: list[RunSeed] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Every setting is run with each of these as training.seed and mixture.seed, and judged by the mean; by "
            "default once, with the job's own. A mixture.seed decides which templates rows get, so there is one shard "
            "set for each."
        ),
    )
    objective: Objective = Field(
        default="gained",
        description=(
            "What is ranked, on validation rows: gained, the mean gain of the trained tasks; forgotten, the mean loss "
            "of the probes; gained-minus-forgotten, one minus the other; pareto, both at once."
        ),
    )
    stopping: Stopping | None = Field(default=None, description="Ends runs early that are behind; by default none.")
    max_concurrent: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Most runs at once; by default as many as this machine's processors or GPUs hold, in a cluster 4. It may "
            "change while a sweep goes on."
        ),
    )
    limit: int = Field(
        default=200, ge=1, description="Most runs that the sweep may have; a sweep that needs more is refused."
    )

    @model_validator(mode="after")
    def _method_fits(self) -> Self:
        drawn = self.method in DRAWN
        if drawn and self.samples is None:
            raise ValueError(f"method {self.method} needs samples, the number of settings to try")
        if not drawn and self.samples is not None:
            raise ValueError(f"samples has no effect with method {self.method}; set method: random or optuna")
        if not drawn and (ranges := [name for name, one in self.parameters.items() if one.is_range]):
            raise ValueError(
                f"method {self.method} needs values, and {', '.join(ranges)} has a range; list values, or set method: "
                "random or optuna"
            )
        if self.stopping is not None and self.objective == "pareto":
            raise ValueError("stopping needs one number to go by; set objective to something else than pareto")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds names a seed twice")
        return self


class Sweep(SpecModel):
    """Many runs of one job that differ in some of its fields, with one leaderboard."""

    api_version: Literal["raytrain.dev/v1alpha1"] = Field(description="Version of the format.")
    kind: Literal["Sweep"] = Field(description="Always Sweep.")
    metadata: SweepMetadata = Field(description="Name of the sweep.")
    spec: SweepSpec = Field(description="Which job, which settings, how often, and what counts.")
