"""Workers as processes over gloo have the same losses and weights as one worker alone."""

import pytest
import torch
from torch import multiprocessing

from raytrain.training.data.batch import collate
from tests.support import gloo_worker
from tests.support.gloo_worker import STEPS
from tests.support.tiny_loader import off, same, settings, tiny_loader, train, trainer_of, weights


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_as_one_worker(tmp_path, workers):
    """Dropout included: it is keyed by the row.

    The sums of gradients differ in their order alone.
    """
    multiprocessing.spawn(gloo_worker.work, (workers, str(tmp_path), {}), nprocs=workers)
    alone = trainer_of(settings(steps=STEPS, optimizer="adamw"))
    records, _, _ = train(tiny_loader(), alone)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(workers)]
    assert all(same(found[0]["weights"], other["weights"]) for other in found[1:])
    assert [loss for loss, _ in found[0]["losses"]] == pytest.approx([r.loss for r in records], rel=1e-5)
    assert [norm for _, norm in found[0]["losses"]] == pytest.approx([r.gradient_norm for r in records], rel=1e-4)
    assert off(weights(alone), found[0]["weights"]) < 1e-4


@pytest.mark.parametrize("micro", [24, 48])
def test_accumulation_equals_one_pass(micro):
    """The same step in one pass and in many, without dropout: it differs within a row."""
    whole, parts = (trainer_of(settings(steps=STEPS, dropout=0.0, micro_batch_tokens=m)) for m in (None, micro))
    (one, _, _), (many, _, _) = train(tiny_loader(), whole), train(tiny_loader(), parts)
    assert [r.loss for r in many] == pytest.approx([r.loss for r in one], rel=1e-5)
    assert off(weights(whole), weights(parts)) < 1e-4


def test_one_large_row_equals_many_small_ones():
    """16 examples in one row or in four: the gradient of a step is the same."""
    small, large = tiny_loader(row=(64, 32), rows_per_step=4), tiny_loader(row=(256, 128), rows_per_step=1)
    placed = sorted(p for row in small.packed_order.rows(0, 4) for p in row)
    one, other = (trainer_of(settings(steps=1, dropout=0.0)) for _ in range(2))
    (first,), _, _ = train(small, one)

    whole = collate(placed, small.read_tokens, large.packed_order.shape)
    result = other.step(0, [whole])
    assert float(result.sums.losses.sum()) / float(result.sums.tokens.sum()) == pytest.approx(first.loss, rel=1e-6)
    assert result.gradient_norm == pytest.approx(first.gradient_norm, rel=1e-5)
    assert off(weights(one), weights(other)) < 1e-5
