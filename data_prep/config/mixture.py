"""Fields of a mixture: how the trained tasks share the examples."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.config.task import Name
from data_prep.config.unused_settings import refuse_unused
from raytrain_core.config.base import SpecModel


class MixtureStrategy(SpecModel):
    """How a group of tasks divides its share of the examples."""

    strategy: Literal["proportional", "temperature", "weights", "equal"] = Field(
        default="proportional",
        description=(
            "proportional: by number of training examples, capped at `cap`; temperature: proportional, raised to "
            "the power 1/`temperature`; weights: as given; equal: the same for every task."
        ),
    )
    cap: int | None = Field(default=None, ge=1, description="Maximum number of examples counted per task (T5's K).")
    temperature: float = Field(
        default=2.0, gt=0, description="For temperature: 1 is proportional; the larger, the closer to equal."
    )
    weights: dict[str, float] | None = Field(default=None, description="For weights: a positive weight for every task.")

    @model_validator(mode="after")
    def _weights_where_asked(self) -> Self:
        if (self.strategy == "weights") != (self.weights is not None):
            raise ValueError("weights must be given exactly when strategy is weights")
        if self.weights is not None and any(not w > 0 for w in self.weights.values()):
            raise ValueError("every weight must be positive; leave the task out or make it a probe instead")
        refuse_unused(self, "MixtureStrategy")
        return self


class MixtureGroup(MixtureStrategy):
    """A mixture within the mixture: one rate, divided among its tasks by a strategy."""

    name: Name = Field(description="Name of the group, unique in the mixture.")
    rate: float = Field(gt=0, description="Rate of the group, relative to the other groups.")
    tasks: list[Name] = Field(min_length=1, description="Names of its tasks; a task belongs to one group.")


class Replay(MixtureStrategy):
    """Earlier tasks, mixed back in against forgetting."""

    share: float = Field(
        gt=0, lt=1, description="Share of all examples that the replayed tasks get together, e.g. 0.2."
    )
    tasks: list[Name] = Field(
        min_length=1, description="Names of trained tasks; the other tasks divide the rest according to the mixture."
    )


class Mixture(MixtureStrategy):
    """Sampling rates of the trained tasks. Probes have none."""

    groups: list[MixtureGroup] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Nested mixtures, e.g. [{name: chats, rate: 3, tasks: [a, b]}, {name: code, rate: 1, tasks: [c], "
            "strategy: equal}]. Every trained task that is not replayed belongs to one group; strategy, cap, "
            "temperature and weights are then set in each group instead of here."
        ),
    )
    replay: Replay | None = Field(
        default=None,
        description=(
            "Mixes earlier tasks back in, a standard remedy against forgetting, e.g. {share: 0.2, tasks: [flan]}."
        ),
    )
    seed: int = Field(default=17, ge=0, lt=2**63, description="Seed of the order of examples and of their templates.")

    @model_validator(mode="after")
    def _groups_share_themselves(self) -> Self:
        if self.groups is None:
            return self
        names = [group.name for group in self.groups]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two groups are named {', '.join(double)}")
        fields = ("strategy", "cap", "temperature", "weights")
        if any(getattr(self, field) != MixtureStrategy.model_fields[field].default for field in fields):
            raise ValueError("with groups, set strategy, cap, temperature and weights in each group")
        return self
