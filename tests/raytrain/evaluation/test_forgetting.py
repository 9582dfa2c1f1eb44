from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrain.evaluation.forgetting import (
    average_forgetting,
    backward_transfer,
    best_minus_now,
    compare,
)
from raytrain.evaluation.metrics import METRICS
from raytrain.evaluation.results import Prediction

ACCURACY, MAE = METRICS["accuracy"], METRICS["mae"]


def rows(values, start=0, template=0):
    return [
        Prediction(f"r{i}", template, "", ("x",), "y", 1, v, (v, 1.0)) for i, v in enumerate(map(float, values), start)
    ]


def distances(values):
    return [replace(row, stats=(*row.stats, 4.0)) for row in rows(values)]


def test_after_is_compared_with_before():
    found = compare(ACCURACY, rows([1] * 80 + [0] * 20), rows([1] * 20 + [0] * 80))
    assert (found.before, found.after, found.rows) == (0.8, 0.2, 100)
    assert found.difference == pytest.approx(-0.6)
    assert -0.8 < found.low < -0.6 < found.high < -0.4
    assert found.verdict == "worse"


def test_for_errors_a_rise_is_a_loss():
    found = compare(MAE, distances([0.5] * 30 + [0] * 30), distances([2.0] * 30 + [1] * 30))
    assert found.difference == pytest.approx(1.25)
    assert found.low <= found.difference <= found.high
    assert found.verdict == "worse"
    assert compare(MAE, distances([3.0] * 20), distances([1.0] * 20)).verdict == "better"
    assert compare(MAE, distances([3.0] * 5), distances([1.0] * 5)).verdict == "few"


def test_rows_are_matched_by_id_and_template_not_by_position():
    before, after = rows([1, 0, 1, 0, 1]), rows([1, 0, 1, 0, 1])[::-1]
    assert compare(ACCURACY, before, after).difference == 0
    found = compare(ACCURACY, before, rows([0, 0, 0], start=3))
    assert found.rows == 2
    assert found.difference == pytest.approx(-0.5)
    assert compare(ACCURACY, before, rows([1], start=99)) is None
    assert compare(ACCURACY, before, rows([1, 1], template=1)) is None
    assert compare(ACCURACY, before, []) is None


def test_rows_with_the_same_id_are_paired_in_their_order():
    before = rows([1]) + rows([0]) + rows([1, 1], start=5)
    after = rows([0], start=5) + rows([1]) + rows([0]) + rows([1], start=6)
    found = compare(ACCURACY, before, after)
    assert found.rows == 4
    assert (found.before, found.after) == (0.75, 0.5)
    assert found.difference == pytest.approx(-0.25)
    fewer = compare(ACCURACY, before, rows([0]))  # the second one has no counterpart
    assert (fewer.rows, fewer.before, fewer.after) == (1, 1.0, 0.0)


def test_no_change_is_noise():
    found = compare(ACCURACY, rows([1, 0] * 20), rows([1, 0] * 20))
    assert (found.difference, found.verdict) == (0, "noise")
    assert -0.1 < found.low < 0 < found.high < 0.1


def test_best_minus_now():
    assert best_minus_now(ACCURACY, [0.5, 0.9, 0.7]) == pytest.approx(0.2)
    assert best_minus_now(ACCURACY, [0.5, 0.6]) == 0
    assert best_minus_now(MAE, [0.5, 0.2, 0.4]) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no scores"):
        best_minus_now(ACCURACY, [])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_best_minus_now_is_a_distance_from_the_best(scores):
    lost = best_minus_now(ACCURACY, scores)
    assert lost >= 0
    assert (lost == 0) == (scores[-1] == max(scores))


def test_averages():
    assert backward_transfer([-1.0, 0.5]) == pytest.approx(-0.25)
    assert backward_transfer([]) is None
    assert average_forgetting({"a": 0.2, "b": 0.0}) == pytest.approx(0.1)
    assert average_forgetting({}) is None
