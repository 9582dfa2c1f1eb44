"""The exact binomial distribution: intervals and tests of a share, without approximation."""

from collections.abc import Callable
from math import exp, lgamma, log

LEVEL = 0.05


def share_interval(hits: int, trials: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Returns the interval of a share by Clopper and Pearson (1934).

    It covers the true share with a probability of at least 1 - `level`, at any number of trials;
    without trials it is 0 to 1.
    """
    low = 0.0 if hits == 0 else _solve(lambda p: _at_least(hits, trials, p) < level / 2)
    high = 1.0 if hits == trials else _solve(lambda p: _at_least(hits + 1, trials, p) < 1 - level / 2)
    return low, high


def sign_test(hits: int, trials: int) -> float:
    """Returns the two-sided p-value of the exact sign test against a fair coin."""
    extreme = max(hits, trials - hits)
    return min(1.0, 2 * _at_least(extreme, trials, 0.5))


def _at_least(hits: int, trials: int, p: float) -> float:
    """Returns the probability of `hits` or more."""
    if hits <= 0:
        return 1.0
    return min(1.0, sum(_exactly(k, trials, p) for k in range(hits, trials + 1)))


def _exactly(hits: int, trials: int, p: float) -> float:
    ways = lgamma(trials + 1) - lgamma(hits + 1) - lgamma(trials - hits + 1)
    return exp(ways + hits * log(p) + (trials - hits) * log(1 - p))


def _solve(too_small: Callable[[float], bool]) -> float:
    """Returns the p in 0..1 from which on `too_small` is false, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return (low + high) / 2
