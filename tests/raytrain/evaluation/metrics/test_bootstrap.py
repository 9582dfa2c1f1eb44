"""Intervals and paired tests; `benchmarks.verdicts` measures level and coverage over many cells."""

from math import comb

import numpy as np
import pytest

from raytrain.evaluation.holm import adjust
from raytrain.evaluation.metrics import METRICS, interval, paired
from raytrain.evaluation.metrics.bootstrap import weights

ACCURACY = METRICS["accuracy"]


def shares(values):
    return np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)


def pairs(gains, losses, same=0):
    before = [0] * gains + [1] * losses + [1] * same
    after = [1] * gains + [0] * losses + [1] * same
    return shares(before), shares(after)


def test_the_interval_of_a_share_is_close_to_the_normal_one():
    generator = np.random.default_rng(3)
    stats = shares(generator.random(400) < 0.6)
    found = interval(ACCURACY, stats)
    p = found.value
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    assert p == stats[:, 0].mean()
    assert found.low == pytest.approx(p - half, abs=0.01)
    assert found.high == pytest.approx(p + half, abs=0.01)


# Clopper and Pearson's bounds, from scipy.stats.binomtest(k, n).proportion_ci()
@pytest.mark.parametrize(
    ("correct", "rows", "low", "high"),
    [(2, 2, 0.1581, 1.0), (0, 3, 0.0, 0.7076), (50, 50, 0.9289, 1.0), (19, 22, 0.6509, 0.9709),
     (198, 200, 0.9643, 0.9988)],
)  # fmt: skip
def test_the_interval_of_a_share_is_clopper_and_pearsons(correct, rows, low, high):
    found = interval(ACCURACY, shares([1] * correct + [0] * (rows - correct)), draws=40_000)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.006), pytest.approx(high, abs=0.006))


def test_an_interval_of_only_correct_rows_has_a_width():
    found = interval(ACCURACY, shares([1] * 22))
    assert 0.8 < found.low < 0.9
    assert found.high == 1.0


@pytest.mark.parametrize(("rows", "share"), [(2, 0.5), (5, 0.95), (22, 0.9), (200, 0.99)])
def test_the_interval_covers_the_truth_as_often_as_stated(rows, share):
    """With 300 trials the coverage is known to about 0.013; 0.855 was measured at (200, 0.99)."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        found = interval(ACCURACY, shares(generator.random(rows) < share), draws=400)
        hits += found.low <= share <= found.high
    assert hits / 300 >= 0.93


@pytest.mark.parametrize("rows", [2, 3, 5, 6, 10, 22])
def test_two_equal_models_are_rarely_called_different(rows):
    """48 % of the pairs were at 2 rows, 26 % at 3, 18 % at 5, 8.5 % at 22."""
    generator = np.random.default_rng(1)
    rouge, different = METRICS["rougeL"], 0
    for _ in range(200):
        found = paired(rouge, shares(generator.random(rows)), shares(generator.random(rows)), draws=400)
        different += found.verdict in ("better", "worse")
    assert different / 200 <= 0.08


@pytest.mark.parametrize(("gains", "losses", "same"), [(6, 0, 0), (6, 0, 40), (9, 1, 5), (12, 3, 0), (30, 14, 100)])
def test_for_right_and_wrong_the_test_is_mcnemars_exact_one(gains, losses, same):
    found = paired(ACCURACY, *pairs(gains, losses, same))
    discordant = gains + losses
    exact = 2 * sum(comb(discordant, k) for k in range(gains, discordant + 1)) / 2**discordant
    assert found.p == pytest.approx(exact, rel=0.15)
    assert found.verdict == "better"
    assert found.low > 0


@pytest.mark.parametrize("rows", [6, 15, 29])
def test_few_rows_give_no_p_value_that_no_exact_test_could_give(rows):
    """All rows gain: 2 / 2^n, the sign test's and the permutation test's smallest."""
    assert paired(ACCURACY, *pairs(rows, 0, 0)).p == pytest.approx(2 / 2**rows, rel=0.15)


def test_with_many_rows_and_many_tasks_what_is_certain_stays_more_than_chance():
    """Of 10,000 rows there are 2,000 draws: p would be 0.001, and 51 times that is noise."""
    found = paired(ACCURACY, *pairs(10_000, 0, 1))
    assert adjust([found.p] * 1000)[0] < 0.001
    assert paired(ACCURACY, *pairs(0, 10_000, 1)).p == pytest.approx(found.p, abs=1e-9)
    # Where the draws tell, they decide.
    assert paired(ACCURACY, *pairs(60, 40, 9_901)).verdict == "noise"


def test_five_rows_are_too_few_whatever_they_say():
    found = paired(ACCURACY, *pairs(5, 0))
    assert found.verdict == "few"
    assert found.low <= 0
    assert paired(ACCURACY, *pairs(6, 0)).verdict == "better"


def test_the_interval_depends_on_the_seed_and_not_on_memory_limits():
    stats = shares(np.random.default_rng(1).random(50))
    assert interval(ACCURACY, stats) == interval(ACCURACY, stats)
    assert interval(ACCURACY, stats, seed=1) != interval(ACCURACY, stats, seed=2)
    portions = list(weights(9000, 1000, 17))
    assert len(portions) > 1
    seen, unseen = (np.concatenate(part) for part in zip(*portions, strict=True))
    assert (seen.shape, unseen.shape) == ((1000, 9000), (1000, 1))
    assert seen.sum(axis=1) + unseen[:, 0] == pytest.approx(9000)


def test_the_paired_test_detects_what_two_intervals_miss():
    """Rows differ a lot, the two models differ little but consistently."""
    rouge = METRICS["rougeL"]
    base = np.random.default_rng(5).random(200) * 0.8
    before, after = shares(base), shares(base + 0.05)
    first, second = interval(rouge, before), interval(rouge, after)
    assert first.high > second.low
    found = paired(rouge, before, after)
    assert found.difference == pytest.approx(0.05)
    assert 0.02 < found.low < 0.05 <= found.high < 0.1
    assert found.p < 0.01
    assert found.verdict == "better"


def test_noise_is_reported_as_noise():
    generator = np.random.default_rng(6)
    found = paired(ACCURACY, shares(generator.random(80) < 0.5), shares(generator.random(80) < 0.5))
    assert found.low < 0 < found.high
    assert found.verdict == "noise"
    same = paired(ACCURACY, shares([0, 1, 1] * 10), shares([0, 1, 1] * 10))
    assert (same.difference, same.p, same.verdict) == (0, 1.0, "noise")
    assert -0.15 < same.low < 0 < same.high < 0.15  # rows that were not seen may differ


def test_lower_errors_are_better():
    mae = METRICS["mae"]

    def distances(values):
        return np.stack([np.asarray(values), np.ones(len(values)), np.full(len(values), 4.0)], axis=1)

    found = paired(mae, distances([2.0] * 30 + [1.0] * 10), distances([0.0] * 30 + [1.0] * 10))
    assert found.difference == -1.5
    assert found.verdict == "better"
    assert -4 <= found.low < -1.5 < found.high < 0


@pytest.mark.parametrize(
    "name", ["chrf", "bleu", "f1", "precision", "recall", "unparsable", "mae", "macro_f1", "spearman"]
)
def test_the_unseen_row_is_at_the_ends_of_the_scale(name):
    metric = METRICS[name]
    texts = {"mae": ["4", "1", "2"], "macro_f1": ["4", "1", "2"], "spearman": ["4", "1", "2"]}
    predictions = texts.get(name, ["PER: Ann; ORG: Pi", "none", "LOC: Rome is big"])
    targets = [[p] for p in texts.get(name, ["PER: Ann; ORG: Pi", "PER: Bob", "LOC: Rome"])[::-1]]
    stats = metric.stats_many(predictions, targets, [{}] * 3)
    lowest, highest = metric.extremes(stats)
    assert lowest.shape == highest.shape == stats[0].shape
    total = stats.sum(axis=0)
    assert metric.combine(total + lowest) <= metric.combine(total) <= metric.combine(total + highest)
    found = interval(metric, stats)
    assert found.low <= found.value <= found.high
    assert found.low < found.high


def test_bleu_of_weighted_counts_lies_between_those_of_whole_ones():
    bleu = METRICS["bleu"]
    stats = bleu.stats_many(["a b c d e", "a b x d e f"], [["a b c d e"], ["a b c d e f"]], [{}] * 2)
    half = bleu.combine(stats[0] + 0.5 * stats[1])
    assert bleu.combine(stats[0] + stats[1]) < half < bleu.combine(stats[0])


def test_different_rows_are_refused():
    with pytest.raises(ValueError, match="not the same rows"):
        paired(ACCURACY, shares([1]), shares([1, 0]))
    with pytest.raises(ValueError, match="no rows"):
        interval(ACCURACY, shares([]))
