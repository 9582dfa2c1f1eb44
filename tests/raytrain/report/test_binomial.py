import pytest
from scipy.stats import binomtest

from raytrain.report.binomial import share_interval, sign_test


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (1, 1), (2, 2), (3, 7), (19, 20), (28, 40), (0, 60), (250, 500)])
def test_interval_and_test_are_those_of_scipy(hits, trials):
    expected = binomtest(hits, trials)
    span = expected.proportion_ci(0.95, method="exact")
    assert share_interval(hits, trials) == pytest.approx((span.low, span.high), abs=1e-9)
    assert sign_test(hits, trials) == pytest.approx(expected.pvalue, rel=1e-9)


def test_without_trials_nothing_is_known():
    assert share_interval(0, 0) == (0.0, 1.0)
    assert sign_test(0, 0) == 1.0
