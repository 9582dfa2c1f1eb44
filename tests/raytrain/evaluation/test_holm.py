import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrain.evaluation.holm import adjust


def test_the_example_of_the_literature():
    """Holm 1979: the smallest is multiplied by 4, the next by 3, and never falls below it."""
    assert adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_what_was_not_tested_does_not_count():
    assert adjust([None, 0.03, None]) == [None, 0.03, None]
    assert adjust([]) == []


@given(st.lists(st.floats(0, 1), max_size=30))
def test_adjusted_values_keep_the_order_and_are_between_the_value_and_bonferronis(values):
    found = adjust(values)
    assert all(p <= q <= min(1.0, len(values) * p) + 1e-12 for p, q in zip(values, found, strict=True))
    assert [q for _, q in sorted(zip(values, found, strict=True))] == sorted(found)
