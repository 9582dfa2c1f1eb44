"""Macro F1 and rank correlation against scikit-learn and SciPy, and predictions without label."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from raytrain.evaluation.metrics import METRICS, paired

LABELS = list("12345")
META = {"labels": LABELS}
RATINGS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=2, max_size=40)


def score(name, predictions, targets, meta=META):
    metric = METRICS[name]
    return metric.score(metric.stats_many(predictions, [[t] for t in targets], [meta] * len(predictions)))


@settings(max_examples=80)
@given(RATINGS)
def test_macro_f1_is_scikit_learns(pairs):
    predictions, targets = zip(*pairs, strict=True)
    expected = f1_score(targets, predictions, average="macro", zero_division=0)
    assert score("macro_f1", predictions, targets) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=80)
@given(RATINGS)
def test_spearman_is_scipys(pairs):
    predictions, targets = zip(*pairs, strict=True)
    assume(len(set(predictions)) > 1 and len(set(targets)) > 1)
    expected = spearmanr([int(a) for a in predictions], [int(t) for t in targets]).statistic
    assert score("spearman", predictions, targets) == pytest.approx(expected, abs=1e-9)


def test_the_order_of_numeric_labels_does_not_matter():
    predictions, targets = ["1", "2", "3", "5"], ["1", "3", "2", "5"]
    for name in ("spearman", "macro_f1"):
        assert score(name, predictions, targets, {"labels": list("53124")}) == score(name, predictions, targets)


def test_words_are_ranked_by_their_position():
    meta = {"labels": ["bad", "fair", "good"]}
    assert score("spearman", ["bad", "fair", "good"], ["bad", "fair", "good"], meta) == pytest.approx(1)
    assert score("spearman", ["good", "fair", "bad"], ["bad", "fair", "good"], meta) == pytest.approx(-1)


def test_predictions_that_are_not_a_label():
    predictions, targets = ["1", "?", "5", ""], ["1", "2", "5", "4"]
    assert score("no_label", predictions, targets) == 0.5
    assert score("spearman", predictions, targets) == pytest.approx(1)  # over predictions that have a rank
    assert score("macro_f1", predictions, targets) == pytest.approx((1 + 0 + 0 + 1) / 4)
    assert score("spearman", ["3", "3"], ["1", "2"]) == 0  # the same prediction always: no correlation
    assert score("spearman", ["?"], ["2"]) == 0


def test_intervals_and_paired_tests_work_on_confusion_matrices():
    generator = np.random.default_rng(3)
    targets = generator.choice(LABELS, 200)
    good = np.where(generator.random(200) < 0.8, targets, generator.choice(LABELS, 200))
    bad = generator.choice(LABELS, 200)
    for name in ("macro_f1", "spearman"):
        metric = METRICS[name]
        before, after = (metric.stats_many(list(a), [[t] for t in targets], [META] * 200) for a in (bad, good))
        found = paired(metric, before, after)
        assert found.verdict == "better"
        assert found.after == pytest.approx(score(name, good, targets))
