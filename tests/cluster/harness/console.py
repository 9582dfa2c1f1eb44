"""Progress lines, and the one error that needs no traceback."""

import time
from collections.abc import Callable

Echo = Callable[[str], None]


class HarnessError(Exception):
    """Something that a person can mend; its text says what and how."""


def timed_echo() -> Echo:
    """Prints lines with the seconds since it was made."""
    start = time.monotonic()
    return lambda text: print(f"[{time.monotonic() - start:4.0f} s] {text}", flush=True)
