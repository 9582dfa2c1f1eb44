"""Progress lines, and the error that is shown without a traceback."""

import time
from collections.abc import Callable

Echo = Callable[[str], None]


class HarnessError(Exception):
    """A problem that the user can fix; the message says what and how."""


def timed_echo() -> Echo:
    """Returns a function that prints lines prefixed with the seconds since this call."""
    start = time.monotonic()
    return lambda text: print(f"[{time.monotonic() - start:4.0f} s] {text}", flush=True)
