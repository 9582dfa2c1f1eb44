"""Gained and forgotten as numbers, the front, and which runs are behind."""

import pytest

from raytrain.config.sweep import Stopping
from raytrain.sweeps.measures import Measures, mean, measure, on_front
from raytrain.sweeps.stopping import behind, rungs


def test_gained_is_the_mean_gain_and_forgotten_the_mean_loss():
    before = {"a": 0.2, "b": 0.4, "p": 0.9, "q": 0.5}
    found = measure(before, {"a": 0.6, "b": 0.4, "p": 0.6, "q": 0.7}, ["a", "b"], ["p", "q"])
    assert found.gained == pytest.approx(0.2)
    assert found.forgotten == pytest.approx(0.05)


def test_an_error_counts_as_the_share_of_it_that_is_gone():
    found = measure({"a": -40.0, "b": 0.5}, {"a": -10.0, "b": 0.5}, ["a", "b"], [])
    assert found == Measures(0.375, None)


def test_a_checkpoint_without_every_score_has_no_measures():
    assert measure({"a": 0.1}, {"a": 0.2}, ["a"], ["p"]) is None
    assert measure({}, {"a": 0.2}, ["a"], []) is None


def test_objectives():
    one = Measures(0.3, 0.1)
    assert one.value("gained") == 0.3
    assert one.value("forgotten") == -0.1
    assert one.value("gained-minus-forgotten") == pytest.approx(0.2)
    assert mean([one, Measures(0.5, 0.3)]) == Measures(0.4, 0.2)


def test_the_front_holds_what_no_other_beats():
    points = [Measures(0.5, 0.4), Measures(0.4, 0.1), Measures(0.3, 0.2), Measures(0.5, 0.4), Measures(0.1, 0.05)]
    assert on_front(points) == [True, True, False, True, True]


def test_rungs_are_scored_steps_before_the_last():
    stopping = Stopping(first_step=30, factor=2)
    assert rungs(stopping, every=50, last_step=500) == [50, 100, 150, 250]
    assert rungs(Stopping(first_step=600), every=50, last_step=500) == []


def test_a_run_goes_on_while_it_is_among_the_best_share():
    stopping = Stopping(first_step=10, factor=3)
    scores = {f"r{i}": {10: i / 10} for i in range(6)}
    kept = [name for name in scores if behind(name, scores, [10, 30], stopping) is None]
    assert kept == ["r4", "r5"]
    assert behind("r0", scores, [10, 30], stopping).reason.startswith("stopped by the sweep at step 10: ")
    assert behind("r0", scores, [10, 30], stopping).place == 6


def test_nobody_is_stopped_at_a_rung_that_few_have_reached():
    stopping = Stopping(first_step=10, factor=3)
    scores = {"a": {10: 0.1}, "b": {10: 0.9}, "c": {}}
    assert all(behind(name, scores, [10], stopping) is None for name in scores)


def test_equal_scores_are_equally_good():
    scores = {name: {10: 0.5} for name in "abcd"}
    assert all(behind(name, scores, [10], Stopping(first_step=10, factor=2)) is None for name in scores)
