import numpy as np
import pytest

from raytrain.evaluation.metrics import METRICS, interval, paired
from raytrain.evaluation.metrics.bootstrap import _resampled

ACCURACY = METRICS["accuracy"]


def shares(values):
    return np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)


def test_the_interval_of_a_share_is_close_to_the_normal_one():
    generator = np.random.default_rng(3)
    stats = shares(generator.random(400) < 0.6)
    found = interval(ACCURACY, stats)
    p = found.value
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    assert p == stats[:, 0].mean()
    assert found.low == pytest.approx(p - half, abs=0.01)
    assert found.high == pytest.approx(p + half, abs=0.01)


def test_the_interval_covers_the_truth_about_as_often_as_stated():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        found = interval(ACCURACY, shares(generator.random(150) < 0.3), resamples=300)
        hits += found.low <= 0.3 <= found.high
    assert 0.90 <= hits / 200 <= 0.99


def test_the_interval_depends_on_the_seed_and_not_on_memory_limits(monkeypatch):
    stats = shares(np.random.default_rng(1).random(50))
    assert interval(ACCURACY, stats) == interval(ACCURACY, stats)
    assert interval(ACCURACY, stats, seed=1) != interval(ACCURACY, stats, seed=2)
    big = shares(np.random.default_rng(1).random(9000))
    assert len(list(_resampled(big, 1000, 17))) > 1
    whole = np.concatenate(list(_resampled(big, 1000, 17)))
    assert whole.shape == (1000, 2)
    assert (whole[:, 1] == 9000).all()


def test_vectorised_resampling_equals_drawing_rows_one_by_one():
    metric = METRICS["chrf"]
    predictions = ["int a = 1;", "int b;", "", "return a + b;"]
    targets = [["int a = 2;"], ["int b;"], ["x"], ["return b;"]]
    stats = metric.stats_many(predictions, targets, [{}] * 4)
    counts = np.random.default_rng(17).multinomial(4, np.full(4, 0.25), size=200)
    slow = [metric.score(np.repeat(stats, row, axis=0)) for row in counts]
    fast = metric.combine_many(np.concatenate(list(_resampled(stats, 200, 17))))
    assert fast == pytest.approx(slow, abs=1e-12)


def test_the_paired_test_detects_what_two_intervals_miss():
    """Rows differ a lot, the two models differ little but consistently."""
    rouge = METRICS["rougeL"]
    base = np.random.default_rng(5).random(100) * 0.8
    before, after = shares(base), shares(base + 0.03)
    first, second = interval(rouge, before), interval(rouge, after)
    assert first.high > second.low
    found = paired(rouge, before, after)
    assert found.difference == pytest.approx(0.03)
    assert found.low == pytest.approx(0.03)
    assert found.below_zero == 0
    assert found.verdict == "better"


def test_noise_is_reported_as_noise():
    generator = np.random.default_rng(6)
    found = paired(ACCURACY, shares(generator.random(80) < 0.5), shares(generator.random(80) < 0.5))
    assert found.low < 0 < found.high
    assert found.verdict == "noise"
    assert 0 < found.below_zero < 1
    same = paired(ACCURACY, shares([0, 1, 1]), shares([0, 1, 1]))
    assert (same.difference, same.low, same.high, same.below_zero, same.verdict) == (0, 0, 0, 0.5, "noise")


def test_lower_errors_are_better():
    mae = METRICS["mae"]
    found = paired(mae, shares([2.0] * 30 + [1.0] * 10), shares([0.0] * 30 + [1.0] * 10))
    assert found.difference == -1.5
    assert found.verdict == "better"
    assert found.below_zero == 1


def test_different_rows_are_refused():
    with pytest.raises(ValueError, match="not the same rows"):
        paired(ACCURACY, shares([1]), shares([1, 0]))
    with pytest.raises(ValueError, match="no rows"):
        interval(ACCURACY, shares([]))
