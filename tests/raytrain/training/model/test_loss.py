"""The chunked cross entropy is torch's, and never holds tokens times vocabulary."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from raytrain.training.model.loss import Objective, sum_by_task, token_losses


def problem(n=50, vocabulary=37, width=8, dtype=torch.float64):
    torch.manual_seed(0)
    hidden = torch.randn(n, width, dtype=dtype, requires_grad=True)
    head = torch.randn(vocabulary, width, dtype=dtype, requires_grad=True)
    return hidden, head, torch.randint(0, vocabulary, (n,))


@pytest.mark.parametrize("chunk", [1, 7, 50, 64])
def test_it_is_torch_s(chunk):
    hidden, head, labels = problem()
    expected = cross_entropy(hidden @ head.t(), labels, reduction="none")
    reference = torch.autograd.grad(3 * expected.sum(), (hidden, head))
    total, each = token_losses(hidden, head, labels, chunk=chunk)
    found = torch.autograd.grad(3 * total, (hidden, head))
    assert torch.allclose(each, expected, rtol=1e-13)
    assert not each.requires_grad
    assert total.item() == pytest.approx(expected.sum().item(), rel=1e-13)
    for ours, theirs in zip(found, reference, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_large_scores_do_not_overflow():
    hidden, head, labels = problem(dtype=torch.float32)
    total, _ = token_losses(hidden * 1000, head, labels)
    assert total.item() == pytest.approx(cross_entropy(hidden * 1000 @ head.t(), labels, reduction="sum").item())


def test_without_gradients_none_are_computed():
    hidden, head, labels = problem()
    with torch.no_grad():
        total, _ = token_losses(hidden, head, labels)
    assert not total.requires_grad
    total, _ = token_losses(hidden.detach(), head.detach(), labels)
    assert not total.requires_grad


def test_bf16_hidden_sums_the_head_s_gradient_in_fp32():
    hidden, head, labels = problem(n=4000, dtype=torch.float32)
    exact = torch.autograd.grad(cross_entropy(hidden @ head.t(), labels, reduction="sum"), head)[0]
    total, each = token_losses(hidden.bfloat16(), head, labels, chunk=16)
    found = torch.autograd.grad(total, head)[0]
    assert each.dtype == found.dtype == torch.float32
    assert (found - exact).norm() < 0.01 * exact.norm()


def test_scores_are_held_a_chunk_at_a_time():
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.ndim == 2 and out.shape[-1] == 5000:
                largest = max(largest, out.shape[0])
            return out

    hidden, head, labels = problem(n=1000, vocabulary=5000, dtype=torch.float32)
    with Watch():
        token_losses(hidden, head, labels, chunk=100)[0].backward()
    assert largest == 100


def test_sums_by_task():
    each = torch.tensor([1.0, 2.0, 4.0, 8.0])
    sums = sum_by_task(each, torch.tensor([0, 2, 0, 2]), 4)
    assert sums.tolist() == [5.0, 0.0, 10.0, 0.0]
    assert sums.dtype == torch.float64


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
@pytest.mark.parametrize("chunk", [7, 64])
def test_label_smoothing_is_torch_s_token_by_token(smoothing, chunk):
    hidden, head, labels = problem()
    expected = cross_entropy(hidden @ head.t(), labels, reduction="none", label_smoothing=smoothing)
    reference = torch.autograd.grad(expected.sum(), (hidden, head))
    objective = Objective(label_smoothing=smoothing)
    total, each = token_losses(hidden, head, labels, objective=objective, chunk=chunk)
    found = torch.autograd.grad(total, (hidden, head))
    assert torch.allclose(each, cross_entropy(hidden @ head.t(), labels, reduction="none"), rtol=1e-13)
    for ours, theirs in zip(found, reference, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-13)
    for i in range(len(labels)):
        one, _ = token_losses(hidden[i : i + 1], head, labels[i : i + 1], objective=objective)
        assert one.item() == pytest.approx(expected[i].item(), rel=1e-12)


def test_z_loss_is_the_squared_log_of_the_softmax_s_sum():
    hidden, head, labels = problem()
    scores = hidden @ head.t()
    expected = cross_entropy(scores, labels, reduction="sum") + 0.01 * (scores.logsumexp(-1) ** 2).sum()
    reference = torch.autograd.grad(expected, (hidden, head))
    total, _ = token_losses(hidden, head, labels, objective=Objective(z_loss=0.01), chunk=7)
    found = torch.autograd.grad(total, (hidden, head))
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    for ours, theirs in zip(found, reference, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def test_tokens_count_as_they_are_weighted():
    hidden, head, labels = problem()
    weights = torch.rand(len(labels), dtype=torch.float64)
    expected = cross_entropy(hidden @ head.t(), labels, reduction="none")
    reference = torch.autograd.grad((expected * weights).sum(), (hidden, head))
    total, each = token_losses(hidden, head, labels, weights_N=weights, chunk=7)
    found = torch.autograd.grad(total, (hidden, head))
    assert torch.allclose(each, expected, rtol=1e-13)
    assert total.item() == pytest.approx((expected * weights).sum().item(), rel=1e-12)
    for ours, theirs in zip(found, reference, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def test_a_frozen_head_gets_no_gradient_and_the_hidden_the_same():
    hidden, head, labels = problem()
    reference = torch.autograd.grad(token_losses(hidden, head, labels)[0], hidden)[0]
    total, _ = token_losses(hidden, head.detach(), labels)
    assert torch.equal(torch.autograd.grad(total, hidden)[0], reference)
