"""Norm, gated activation and joined layers equal the modules that they stand for, gradients too."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.models.t5.modeling_t5 import T5LayerNorm

from raytrain.training.model.fused import gated_gelu, joined_linear, norm


def with_gradients(function, *inputs):
    """Output of `function`, and the gradients of its weighted sum for each input."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    (out * weights).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def near(found, expected, **tolerances):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, **tolerances)


def stock_norm(x, weight):
    return torch.func.functional_call(T5LayerNorm(len(weight)), {"weight": weight}, (x,))


def our_norm(x, weight):
    return norm(SimpleNamespace(weight=weight, variance_epsilon=1e-6), x)


def test_norm_is_the_module_s():
    torch.manual_seed(0)
    x, weight = torch.randn(7, 16), torch.rand(16) + 0.5
    near(with_gradients(our_norm, x, weight), with_gradients(stock_norm, x, weight), rtol=1e-5, atol=1e-6)


def test_gradients_of_the_norm_are_its_derivatives():
    torch.manual_seed(0)
    x, weight = torch.randn(5, 8).double().requires_grad_(), torch.rand(8).double().requires_grad_()
    assert torch.autograd.gradcheck(our_norm, (x, weight))


def test_under_autocast_the_norm_is_computed_in_fp32_and_rounded_once():
    torch.manual_seed(0)
    x, weight = torch.randn(7, 16), torch.rand(16)
    with torch.autocast("cpu", torch.bfloat16):
        found = our_norm(x, weight)
    assert torch.equal(found, our_norm(x, weight).bfloat16())


def test_another_norm_is_called():
    module = nn.LayerNorm(16)
    x = torch.randn(3, 16)
    assert torch.equal(norm(module, x), module(x))


def test_gated_gelu_is_transformers():
    torch.manual_seed(0)
    joined = 3 * torch.randn(5, 12).double()
    act = NewGELUActivation()
    expected = with_gradients(lambda x: act(x[:, :6]) * x[:, 6:], joined)
    near(with_gradients(gated_gelu, joined), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("plain", [True, False])
def test_joined_layers_are_the_layers_one_by_one(plain):
    """Layers that are not plain (adapters, with a bias) are called."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 3, bias=False), nn.Linear(4, 5, bias=not plain)]
    x = torch.randn(6, 4)
    found = with_gradients(lambda x: joined_linear(layers, x), x)
    gradients = [p.grad.clone() for layer in layers for p in layer.parameters()]
    for layer in layers:
        layer.zero_grad()
    near(found, with_gradients(lambda x: torch.cat([layer(x) for layer in layers], -1), x))
    near(gradients, [p.grad for layer in layers for p in layer.parameters()])
