"""Our Adafactor is transformers' with FLAN's settings."""

import pytest
import torch
from transformers.optimization import Adafactor as Stock

from raytrain.training.optim.adafactor import Adafactor


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((7, 5), (5,), (40, 3))]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_moves_as_the_stock_one_does(decay):
    ours, theirs = parameters(), parameters()
    stock = Stock(
        [{"params": theirs, "weight_decay": decay}],
        lr=0.01,
        clip_threshold=1.0,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )
    optimizer = Adafactor([{"params": ours, "weight_decay": decay}], lr=0.01)
    generator = torch.Generator().manual_seed(1)
    for step in range(20):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator) * 10 ** (step % 3 - 1)
            other.grad = one.grad.clone()
        optimizer.step()
        stock.step()
        for one, other in zip(ours, theirs, strict=True):
            assert torch.allclose(one, other, rtol=1e-6, atol=1e-7), step
    for one, other in zip(ours, theirs, strict=True):
        mine, its = optimizer.state[one], stock.state[other]
        assert its.keys() - mine.keys() == {"RMS"}  # of the parameter, which nobody needs
        for name, value in mine.items():
            assert torch.allclose(torch.as_tensor(value), torch.as_tensor(its[name]), rtol=1e-6), name
