"""How many prompts are accepted and not answered yet, and when it pays to come again."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from raytrain.serving.errors import overloaded

_REMEMBERED = 64
_LONGEST_WAIT = 60


class Queue:
    """Admits prompts until `most` are in it."""

    def __init__(self, most: int) -> None:
        self.most, self.inside = most, 0
        self._ended: deque[float] = deque(maxlen=_REMEMBERED)

    @contextmanager
    def admitted(self, prompts: int) -> Iterator[None]:
        """Holds so many places, all or none; raises RequestError 429 where there are too few."""
        if self.inside + prompts > self.most:
            raise overloaded(self.retry_after(prompts), self.inside)
        self.inside += prompts
        try:
            yield
        finally:
            self.inside -= prompts
            now = time.monotonic()
            self._ended.extend([now] * min(prompts, _REMEMBERED))

    def retry_after(self, prompts: int) -> int:
        """Returns the seconds, 1 to 60, until so many places are free at the present pace."""
        if len(self._ended) < 2:
            return 1
        per_second = len(self._ended) / max(1e-3, time.monotonic() - self._ended[0])
        return max(1, min(_LONGEST_WAIT, math.ceil((self.inside + prompts - self.most) / per_second)))
