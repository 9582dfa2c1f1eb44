"""The plan: which example in which wording comes at which place of training, as a pure function of place and seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class TaskStream:
    """One trained task: how many examples it has, in how many wordings each, and its share of the mixture."""

    name: str
    examples: int
    wordings: int
    rate: float


class Plan:
    """Endless order of examples over all tasks."""

    def __init__(self, streams: Sequence[TaskStream], seed: int) -> None:
        self.streams = tuple(streams)
        self.seed = seed

    def examples(self, start: int, stop: int) -> npt.NDArray[np.void]:
        """Examples start .. stop-1 of the plan: structured array (task int16, example int64, wording int16)."""
        raise NotImplementedError
