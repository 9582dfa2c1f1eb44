"""A small prepared run, and a hub."""

from tests.support.model_hub import hub
from tests.support.prepared_run import prepared_world, world

__all__ = ["hub", "prepared_world", "world"]
