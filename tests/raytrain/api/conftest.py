"""A prepared run for the tests of this folder."""

from tests.support.prepared_run import prepared_world, score_locally, world

__all__ = ["prepared_world", "score_locally", "world"]
