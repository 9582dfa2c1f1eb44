"""Rows are compared as bags: how often each is there counts, their order does not."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raytrain.datasets.diff import _only

KEYS = st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1), max_size=30).map(lambda keys: np.array(keys, np.uint64))


@given(rows=KEYS, others=KEYS)
def test_rows_that_the_others_lack(rows, others):
    lacking = Counter(rows[_only(rows, others)].tolist())
    assert lacking == Counter(rows.tolist()) - Counter(others.tolist())


@given(rows=KEYS, seed=st.integers(0, 2**32 - 1))
def test_the_order_does_not_matter(rows, seed):
    assert len(_only(rows, np.random.default_rng(seed).permutation(rows))) == 0
