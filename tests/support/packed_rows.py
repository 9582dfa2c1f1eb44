"""Packed rows of made-up examples, and the gradients that a forward pass over them leaves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raytrain.config.training import PackingShape
from raytrain.training.data.batch import PackedBatch, collate
from raytrain.training.data.packing import SampleRef
from tests.support.tiny_t5 import VOCABULARY

KINDS = pytest.mark.parametrize(("tied", "feed_forward"), [(True, "relu"), (False, "gated-gelu")])
IdPair = tuple[NDArray[np.uint16], NDArray[np.uint16]]
SHAPE = PackingShape(source=4096, target=1024)


def examples(n: int = 17, seed: int = 3, longest: int = 150) -> list[IdPair]:
    """Returns n pairs of source and target ids of very different lengths, all ending in EOS."""
    random = np.random.default_rng(seed)
    lengths = [(int(random.integers(2, longest)), int(random.integers(2, longest // 4))) for _ in range(n)]
    pairs = []
    for length, target_length in lengths:
        source = random.integers(3, VOCABULARY, length).astype(np.uint16)
        target = random.integers(3, VOCABULARY, target_length).astype(np.uint16)
        source[-1] = target[-1] = 1
        pairs.append((source, target))
    return pairs


def row_of(ids: Sequence[IdPair], *, tasks: int = 3, index: int = 0, **options: Any) -> PackedBatch:
    placed = [SampleRef(i % tasks, i, 0) for i in range(len(ids))]
    return collate(placed, lambda p: ids[p.example], SHAPE, index=index, **options)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        found[name] = parameter.grad.detach().double().clone()
    return found
