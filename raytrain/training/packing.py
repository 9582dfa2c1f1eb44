"""Packing: the plan's examples into rows of fixed capacity, none split, in independent blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from raytrain.spec.document import RowShape
from raytrain.training.plan import Plan


class Placed(NamedTuple):
    """One example of the plan: index of its task's stream, of the example in the task, of its wording."""

    task: int
    example: int
    wording: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Source and target tokens of every example in every wording: task by task, wording by wording, one flat array."""

    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    first: npt.NDArray[np.int64]
    examples: npt.NDArray[np.int64]

    @classmethod
    def of(cls, tasks: Sequence[tuple[Sequence[npt.NDArray[np.int32]], Sequence[npt.NDArray[np.int32]]]]) -> Self:
        """From (source lengths by wording, target lengths by wording) of each task."""
        raise NotImplementedError


class RowPlan:
    """Global rows of a plan: (plan, lengths, shape) and nothing else determine row k."""

    def __init__(self, plan: Plan, lengths: Lengths, shape: RowShape) -> None:
        self.shape = shape

    def rows(self, k: int, n: int) -> list[list[Placed]]:
        """The global rows k .. k+n-1."""
        raise NotImplementedError


def rows_per_step(batch_tokens: int, shape: RowShape) -> int:
    """Rows of one step over all workers."""
    return max(1, batch_tokens // (shape.source + shape.target))
