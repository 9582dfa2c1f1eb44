"""Flex attention gives what the groups give: the loss here, the gradients on a GPU."""

import pytest
import torch

from benchmarks.flex import FlexT5
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5
from tests.support.packed_rows import KINDS, examples, gradients, row_of
from tests.support.tiny_t5 import tiny_model


@KINDS
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_loss_is_that_of_the_groups(tied, feed_forward, dtype, off):
    model = tiny_model(tied=tied, feed_forward=feed_forward, layers=3).to(dtype)
    batch = DeviceBatch.of(row_of(examples()), dtype=dtype)
    with torch.no_grad():
        (one, by_task), (other, theirs) = FlexT5(model)(batch, tasks=3), PackedT5(model)(batch, tasks=3)
    assert abs(one.item() - other.item()) <= off * other.item()
    assert torch.allclose(by_task, theirs, rtol=off)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@KINDS
def test_the_gradients_are_those_of_the_groups(tied, feed_forward):
    """Tensor cores would round to TF32: off.

    A head of 16, the least that flex attention's kernels take.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    model = tiny_model(tied=tied, feed_forward=feed_forward, layers=3, head=16).cuda()
    batch = DeviceBatch.of(row_of(examples()), device="cuda")
    found = []
    for forward in (FlexT5(model), PackedT5(model)):
        model.zero_grad()
        loss, _ = forward(batch, tasks=3)
        loss.backward()
        found.append((loss.item(), gradients(model)))
    (one, ours), (other, theirs) = found
    assert abs(one - other) <= 1e-5 * other
    for name, reference in theirs.items():
        assert (ours[name] - reference).norm() <= 1e-4 * reference.norm(), name
