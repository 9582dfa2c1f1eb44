"""Model checking: the real controller against every order of refusals, reactions and restarts."""

import logging
import random

import pytest

from raytrain.operator.settings import Settings
from tests.support.operator_model import REFUSALS, World

SETTINGS = Settings.model_validate({"retry": {"firstSeconds": 10, "maxInterruptions": 3}})


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def explore(depth):
    """Breadth first from a new job; of the moves that lead into the same state, one is followed."""
    frontier, seen = [((), World(SETTINGS))], set()
    for _ in range(depth):
        following = []
        for path, world in frontier:
            for move in world.moves():
                after = world.copy()
                after.make(move)
                assert after.violations == [], (*path, move)
                if (state := after.state()) not in seen:
                    seen.add(state)
                    following.append(((*path, move), after))
        yield from following
        frontier = following


def assert_settles(path, world):
    """If nothing fails any more: suspended without pods, or one attempt at work, or the end."""
    world.settle()
    assert world.violations == [], path
    if world.phase in ("Complete", "Failed", "Cancelled"):
        assert world.job["status"]["message"], path
    elif world.job["spec"]["cluster"].get("suspend"):
        assert (world.phase, world.ray_jobs, world.pods) == ("Suspended", {}, {}), path
    else:
        assert world.running in world.ray_jobs, (path, world.phase, world.job["status"])


def test_every_order_of_four_moves_keeps_the_invariants_and_settles():
    for path, world in explore(4):
        assert_settles(path, world)


@pytest.mark.slow
def test_every_order_of_eight_moves_keeps_the_invariants():
    states = sum(1 for _ in explore(8))
    assert states > 2000


@pytest.mark.parametrize("code", REFUSALS)
def test_long_random_walks_with_every_refusal_settle(code):
    chance = random.Random(code)
    for _ in range(25):
        world, path = World(SETTINGS), []
        for _ in range(24):
            path.append(chance.choice(world.moves()))
            world.make(path[-1], code)
            assert world.violations == [], path
        assert_settles(path, world)


def test_a_refused_delete_is_asked_for_again_until_it_is_done():
    """Once told Suspended after a refused DELETE, the RayJob ran for ever."""
    world = World(SETTINGS)
    for move in ("operator", "kuberay starts assistant-a01", "suspend", "fault delete RayJob refused"):
        world.make(move)
    for code in REFUSALS:
        world.fault = ("delete RayJob", code)
        world.operator()
        assert world.phase == "Suspending"
        assert f"refused with {code}" in world.job["status"]["message"]
        assert world.wake == pytest.approx(15, abs=1)
    world.operator()
    assert "deletionTimestamp" in world.ray_jobs["assistant-a01"]["metadata"]
    world.settle()
    assert (world.phase, world.pods) == ("Suspended", {})


def test_the_next_attempt_waits_for_pods_that_outlive_their_rayjob():
    world = World(SETTINGS)
    crash = ("kuberay starts assistant-a01", "operator", "crash assistant-a01", "operator", "time", "operator")
    gone = ("kuberay lets assistant-a01 go", "operator", "collect assistant-a01", "operator")
    for move in ("operator", *crash, *gone):
        world.make(move)
        assert world.running in (None, "assistant-a01")
    assert (world.phase, world.pods) == ("Retrying", {"assistant-a01": "leaving"})
    assert "1 pods (assistant-a01-pod)" in world.job["status"]["message"]
    world.make("kubelet stops assistant-a01")
    world.operator()
    assert world.running == "assistant-a02"
