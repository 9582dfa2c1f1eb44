"""Loss and gradients of the packed forward pass are those of stock transformers."""

import numpy as np
import pytest
import torch

from raytrain.training.data.batch import LENGTH_STEP, collate
from raytrain.training.data.packing import SampleRef
from raytrain.training.model import packed_t5
from raytrain.training.model.attention import GROUP_COST, group_segments
from raytrain.training.model.limits import LARGEST_GROUP
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5, seed_dropout, set_dropout
from tests.support.packed_rows import KINDS, SHAPE, examples, gradients, row_of
from tests.support.tiny_t5 import tiny_model

PRECISIONS = pytest.mark.parametrize(
    ("dtype", "loss_off", "gradient_off", "worst_off"),
    [(torch.float32, 1e-6, 3e-6, 1e-5), (torch.float64, 1e-12, 1e-12, 2e-11)],
)


@pytest.fixture(autouse=True)
def variance_in_the_model_s_precision(monkeypatch):
    """Makes norms use the model's precision; transformers takes their variance in fp32."""
    from transformers.models.mt5.modeling_mt5 import MT5LayerNorm
    from transformers.models.t5.modeling_t5 import T5LayerNorm
    from transformers.models.umt5.modeling_umt5 import UMT5LayerNorm

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    for norm in (T5LayerNorm, MT5LayerNorm, UMT5LayerNorm):
        monkeypatch.setattr(norm, "forward", forward)


def one_by_one(model, ids):
    """Sum of the losses, loss of each example, and gradients by transformers' own forward."""
    model.zero_grad()
    losses = []
    for source, target in ids:
        out = model(input_ids=torch.tensor(source.astype(int))[None], labels=torch.tensor(target.astype(int))[None])
        loss = out.loss * len(target)
        loss.backward()
        losses.append(loss.item())
    return sum(losses), losses, gradients(model)


@KINDS
@PRECISIONS
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_loss_and_gradients_are_those_of_transformers(
    tied, feed_forward, dtype, loss_off, gradient_off, worst_off, attention
):
    model = tiny_model(tied=tied, feed_forward=feed_forward, layers=3).to(dtype)
    model.set_attn_implementation(attention)
    compare(model, dtype, loss_off, gradient_off, worst_off)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["mt5", "umt5"])
def test_other_families_too(kind, tied, checkpointing):
    """UMT5 has a position bias in every layer, which gets its own gradient."""
    model = tiny_model(kind=kind, tied=tied, layers=3).double()
    compare(model, torch.float64, 1e-12, 1e-12, 2e-11, checkpointing=checkpointing)


def compare(model, dtype, loss_off, gradient_off, worst_off, **options):
    """One packed row against its examples one by one: loss, losses by task, every gradient."""
    model.train()
    ids = examples()
    expected, each, reference = one_by_one(model, ids)
    model.zero_grad()
    loss, by_task = PackedT5(model, **options)(DeviceBatch.of(row_of(ids), dtype=dtype), tasks=3)
    loss.backward()
    assert abs(loss.item() - expected) <= loss_off * expected
    found = gradients(model)
    assert found.keys() == reference.keys()
    scale = torch.sqrt(sum((g**2).sum() for g in reference.values()))
    off = torch.sqrt(sum(((found[name] - reference[name]) ** 2).sum() for name in reference))
    assert off <= gradient_off * scale
    for name, gradient in reference.items():
        assert gradient.norm() > 0, name
        assert (found[name] - gradient).norm() <= worst_off * gradient.norm() + 1e-13, name
    for task in range(3):
        assert by_task[task].item() == pytest.approx(sum(each[task::3]), rel=max(loss_off, 1e-6))


@pytest.mark.parametrize("task_weights", [None, [1.0, 1.0, 1.0]])
@pytest.mark.parametrize("tied", [False, True])
def test_positions_that_belong_to_no_segment_change_nothing(tied, task_weights, monkeypatch):
    """Added in bf16 on a CPU; here in float64, where it can be seen."""
    monkeypatch.setattr(packed_t5, "rounded", lambda tokens: tokens + 5)
    model = tiny_model(tied=tied, layers=3).double()
    weights = None if task_weights is None else torch.tensor(task_weights, dtype=torch.float64)
    monkeypatch.setattr(packed_t5, "compiles_shapes", lambda kind, dtype: True)
    compare(model, torch.float64, 1e-12, 1e-12, 2e-11, task_weights=weights)


@pytest.mark.parametrize("tokens", [1, 2, 31, 64, 142, 370, 531, 3400, 26_000])
def test_rounding_adds_little(tokens):
    assert tokens <= packed_t5.rounded(tokens) <= tokens * 33 / 32
    assert len({packed_t5.rounded(n) for n in range(tokens, 2 * tokens)}) <= 65


def test_one_example_alone_and_one_token_targets():
    model = tiny_model()
    ids = [(source, target[-1:]) for source, target in examples(1)]
    expected, _, _ = one_by_one(model, ids)
    loss, _ = PackedT5(model)(DeviceBatch.of(row_of(ids)), 1)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_other_segments_do_not_matter():
    """An example's loss does not depend on the other segments of its row."""
    model, ids = tiny_model().double(), examples(6)
    alone, _ = PackedT5(model)(DeviceBatch.of(row_of(ids[:1]), dtype=torch.float64), 1)
    placed = [SampleRef(int(i > 0), i, 0) for i in range(6)]
    row = collate(placed, lambda p: ids[p.example], SHAPE)
    _, by_task = PackedT5(model)(DeviceBatch.of(row, dtype=torch.float64), 2)
    assert by_task[0].item() == pytest.approx(alone.item(), rel=1e-12)


def test_dropout_is_keyed_by_the_row():
    model = tiny_model(dropout=0.1).train()
    batch = DeviceBatch.of(row_of(examples()))

    def loss(index):
        seed_dropout(17, index)
        return PackedT5(model)(batch, 3)[0].item()

    first = loss(4)
    torch.rand(100)
    assert loss(4) == first
    assert loss(5) != first
    set_dropout(model, 0.0)
    assert loss(4) == loss(5)


@KINDS
def test_dropout_in_the_mean_is_no_dropout(tied, feed_forward):
    """Dropout acts wherever transformers' does, except on attention weights."""
    model = tiny_model(tied=tied, feed_forward=feed_forward, dropout=0.3).train()
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0  # transformers' dropout of attention weights
    ids = examples(4, longest=40)
    batch, row = DeviceBatch.of(row_of(ids)), 60
    with torch.no_grad():
        ours = torch.tensor([PackedT5(model)(batch, 3)[0].item() for _ in range(row)])
        theirs = torch.tensor([_stock_sum(model, ids) for _ in range(row)])
    model.eval()
    still = _stock_sum(model, ids)
    assert abs(ours.mean() - theirs.mean()) < 4 * (ours.std() + theirs.std()) / row**0.5
    assert abs(ours.mean() - still) > 4 * ours.std() / row**0.5
    assert 0.5 < ours.std() / theirs.std() < 2


def _stock_sum(model, ids):
    with torch.no_grad():
        return sum(
            model(input_ids=torch.tensor(s.astype(int))[None], labels=torch.tensor(t.astype(int))[None]).loss.item()
            * len(t)
            for s, t in ids
        )


def test_bf16_autocast_is_near_and_its_gradients_are_fp32():
    model = tiny_model(layers=3).train()
    batch = DeviceBatch.of(row_of(examples()))
    exact, _ = PackedT5(model)(batch, 3)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = PackedT5(model)(batch, 3)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    assert loss.item() != exact.item()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_adapters_in_the_place_of_linear_layers_are_called():
    class Adapted(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.low = inner, torch.nn.Linear(inner.in_features, 2, bias=False)
            self.high = torch.nn.Linear(2, inner.out_features, bias=False)

        def forward(self, x):
            return self.inner(x) + self.high(self.low(x))

    model = tiny_model()
    for stack in (model.encoder, model.decoder):
        for block in stack.block:
            for layer in list(block.layer)[:-1]:
                attention = layer.SelfAttention if hasattr(layer, "SelfAttention") else layer.EncDecAttention
                attention.q, attention.v = Adapted(attention.q), Adapted(attention.v)
    ids = examples(5)
    expected, _, reference = one_by_one(model, ids)
    model.zero_grad()
    loss, _ = PackedT5(model)(DeviceBatch.of(row_of(ids)), 3)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    for name, gradient in gradients(model).items():
        assert (gradient - reference[name]).norm() <= 1e-4 * reference[name].norm(), name


def test_groups_cover_the_row_in_order_and_waste_little():
    random = np.random.default_rng(0)
    lengths = np.rint(np.exp(random.normal(4.5, 0.7, 300))).astype(np.int32).clip(2, 512)
    targets = np.rint(np.exp(random.normal(3, 0.6, 300))).astype(np.int32).clip(2, 128)
    order = np.lexsort((targets, -(-lengths // LENGTH_STEP)))  # as `collate` orders a row
    lengths, targets = lengths[order], targets[order]
    groups = group_segments(lengths, targets)
    assert [g.first for g in groups] == [0, *np.cumsum([g.segments for g in groups])[:-1]]
    assert sum(g.segments for g in groups) == 300
    for g in groups:
        own = slice(g.first, g.first + g.segments)
        assert (g.source, g.target) == (lengths[own].max(), targets[own].max())
        assert g.segments == 1 or g.segments * g.source**2 <= LARGEST_GROUP
    padded = sum(g.segments * g.source**2 for g in groups)
    assert padded <= (lengths.astype(int) ** 2).sum() + 300 * GROUP_COST
    assert len(groups) < 300 / 3


def test_no_segments_no_groups():
    assert group_segments(np.array([], np.int32), np.array([], np.int32)) == []


def test_no_layer_s_gradient_grows_with_the_groups():
    """The gradient of a slice is as large as what it is a slice of."""

    def slices(layers):
        model = tiny_model(layers=layers)
        loss, _ = PackedT5(model)(DeviceBatch.of(row_of(examples(24))), 3)
        seen, waiting, count = set(), [loss.grad_fn], 0
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            count += node.name() == "SliceBackward0"
            waiting += [following for following, _ in node.next_functions]
        return count

    assert slices(4) == slices(2)  # those of the position biases, once a stack
