"""A small prepared run and scoring in this process."""

from tests.support.prepared_run import prepared_world, score_locally, world

__all__ = ["prepared_world", "score_locally", "world"]
