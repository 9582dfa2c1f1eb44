"""Packed rows of made-up examples, and the gradients that a forward pass over them leaves."""

import numpy as np
import pytest

from raytrain.config.job import PackingShape
from raytrain.training.data.batch import collate
from raytrain.training.data.packing import SampleRef
from tests.support.tiny_t5 import VOCABULARY

KINDS = pytest.mark.parametrize(("tied", "feed_forward"), [(True, "relu"), (False, "gated-gelu")])
SHAPE = PackingShape(source=4096, target=1024)


def examples(n=17, seed=3, longest=150):
    """(source, target) ids of very different lengths, ending in EOS."""
    random = np.random.default_rng(seed)
    lengths = [(int(random.integers(2, longest)), int(random.integers(2, longest // 4))) for _ in range(n)]
    ids = [tuple(random.integers(3, VOCABULARY, k).astype(np.uint16) for k in pair) for pair in lengths]
    for source, target in ids:
        source[-1] = target[-1] = 1
    return ids


def row_of(ids, *, tasks=3, index=0, **options):
    placed = [SampleRef(i % tasks, i, 0) for i in range(len(ids))]
    return collate(placed, lambda p: ids[p.example], SHAPE, index=index, **options)


def gradients(model):
    return {name: p.grad.detach().double().clone() for name, p in model.named_parameters()}
