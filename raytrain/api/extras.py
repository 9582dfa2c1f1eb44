"""Names the command that installs a library which is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from raytrain_core.extras import missing_extra


@contextmanager
def missing_extras_named() -> Iterator[None]:
    """Turns the ModuleNotFoundError of an extra's library into a UsageError that says so."""
    try:
        yield
    except ImportError as error:
        known = missing_extra(error)
        if known is None:
            raise
        raise known from None
