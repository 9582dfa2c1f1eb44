"""Each setting of training does what it says: method, freezing, averages, precision, memory."""

import math

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForSeq2SeqLM

from raytrain.model import loading
from raytrain.model.export import export
from raytrain.training.data.batch import split
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5
from raytrain.training.optim.lr_schedule import learning_rate
from raytrain_core.errors import TrainingError
from tests.support.tiny_loader import TASKS, same, settings, tiny_loader, train, trainer_of, weights
from tests.support.tiny_t5 import logits, save_tiny, tiny_model

LORA = {"method": "lora", "lora": {"rank": 4, "alpha": 8, "targets": ["q", "v", "wi_0", "wo"]}, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def loader():
    return tiny_loader()


def distance(one, other):
    return math.sqrt(sum(((one[name] - other[name]) ** 2).sum().item() for name in one))


def trained(loader, **changes):
    trainer = trainer_of(settings(**changes))
    records, snapshots, _ = train(loader, trainer)
    return trainer, records, snapshots[-1]


# ---- which weights learn


def test_lora_learns_and_leaves_the_base_alone(loader):
    pytest.importorskip("peft")
    base = dict(tiny_model(seed=1).named_parameters())
    trainer, records, _ = trained(loader, **LORA, steps=25)
    assert records[-1].loss < 0.8 * records[0].loss
    adapters = [name for name in trainer.weights.values if "lora_" in name]
    assert len(adapters) == len(trainer.weights.values) == 2 * (3 * 2 * 2 + 2 * 4)
    for name, parameter in trainer.model.named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, base[name.replace(".base_layer", "")]), name


@pytest.mark.parametrize("tied", [False, True])
def test_a_merged_adapter_gives_the_adapter_s_logits_by_plain_transformers(loader, tmp_path, tied):
    pytest.importorskip("peft")
    training = settings(**{**LORA, "lora": {"rank": 4, "targets": ["q", "k", "v", "o"]}})
    trainer = trainer_of(training, tied=tied)
    _, snapshots, _ = train(loader, trainer)
    model = tiny_model(seed=1, tied=tied)
    before = logits(model)
    loading.load_state(model, snapshots[-1].weights)
    export(model, save_tiny(tmp_path / "base"), tmp_path / "out")
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    found, wanted = logits(plain), logits(trainer.model.eval())
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert (found - before).abs().max() > 1e-2


def test_added_tokens_are_trained_under_lora_and_when_frozen(loader):
    """Ids 30..39 are added tokens: their rows of both tables move, all others stay bit-equal."""
    pytest.importorskip("peft")
    for changes in (LORA, {"freeze": ["embeddings", "head"]}):
        for optimizer in ("adamw", "adafactor"):
            training = settings(**changes, optimizer=optimizer, weight_decay=0.1)
            trainer = trainer_of(training, new_rows=range(30, 40))
            _, snapshots, _ = train(loader, trainer)
            start = dict(tiny_model(seed=1).named_parameters())
            for table in ("shared.weight", "lm_head.weight"):
                moved = (snapshots[-1].weights[table] != start[table]).any(1)
                assert moved[30:40].all(), (table, changes)
                assert not moved[:30].any(), (table, changes)
                assert not moved[40:].any(), (table, changes)


def test_lora_wants_layers_that_are_there():
    pytest.importorskip("peft")
    with pytest.raises(TrainingError, match="no linear layers wi_0") as raised:
        trainer_of(settings(method="lora", lora={"targets": ["q", "wi_0"]}), feed_forward="relu", tied=True)
    assert "T5 v1.0 has wi" in raised.value.hint


@pytest.mark.parametrize(
    ("parts", "prefixes"),
    [
        (["encoder", "embeddings"], ("encoder.", "shared.")),
        (["decoder"], ("decoder.",)),
        (["head"], ("lm_head.",)),
    ],
)
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_frozen_parts_stay_bit_for_bit(loader, parts, prefixes, optimizer):
    start = dict(tiny_model(seed=1).named_parameters())
    trainer, _, snapshot = trained(loader, freeze=parts, optimizer=optimizer, weight_decay=0.1)
    assert snapshot.weights.keys() == start.keys()
    for name, value in snapshot.weights.items():
        assert torch.equal(value, start[name]) is name.startswith(prefixes), name
    assert not any(name.startswith(prefixes) for name in trainer.weights.values)


def test_a_tied_head_is_frozen_with_its_table_only():
    with pytest.raises(TrainingError, match="embedding table"):
        trainer_of(settings(freeze=["head"]), tied=True)
    assert "shared.weight" not in trainer_of(settings(freeze=["head", "embeddings"]), tied=True).weights.values


# ---- what is kept next to the weights


def test_the_moving_average_is_its_closed_form(loader):
    decay, seen = 0.7, []
    trainer = trainer_of(settings(ema=decay, optimizer="adamw"))
    start = weights(trainer)
    _, snapshots, _ = train(loader, trainer, callbacks={"on_step": lambda result: seen.append(weights(trainer))})
    n = len(seen)
    for name, value in snapshots[-1].weights.items():
        expected = decay**n * start[name].double()
        for i, then in enumerate(seen):
            expected += (1 - decay) * decay ** (n - 1 - i) * then[name].double()
        assert torch.allclose(value.double(), expected, rtol=1e-5, atol=1e-7), name
    assert distance(snapshots[-1].weights, seen[-1]) > 1e-3


def test_anchoring_lowers_the_distance_to_the_start(loader):
    start = weights(trainer_of(settings()))
    far, near, nearest = (
        distance(trained(loader, optimizer="adamw", anchor=a, steps=12)[2].weights, start) for a in (0.0, 30.0, 200.0)
    )
    assert nearest < 0.7 * near < 0.7 * 0.95 * far


def test_anchoring_without_a_gradient_is_a_geometric_way_back(loader):
    """With every task's weight 0 there is nothing but the pull."""
    trainer = trainer_of(settings(anchor=10.0, learning_rate=0.01, task_weights=dict.fromkeys(TASKS, 0.0)))
    start = weights(trainer)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(1.0)
    moved = weights(trainer)
    train(loader, trainer)
    for name, value in weights(trainer).items():
        expected = start[name] + (moved[name] - start[name]) * (1 - 0.01 * 10.0) ** 6
        assert torch.allclose(value, expected, rtol=1e-4, atol=1e-5), name


def test_interpolation_lies_between_the_first_weights_and_the_tuned(loader):
    start = weights(trainer_of(settings()))
    _, _, whole = trained(loader, dropout=0.0)
    trainer, _, part = trained(loader, dropout=0.0, interpolation=0.25)
    assert same(weights(trainer), whole.weights)  # training itself is not changed
    for name, value in part.weights.items():
        assert torch.allclose(value, start[name] + 0.25 * (whole.weights[name] - start[name]), atol=1e-7), name


def test_interpolated_adapters_are_a_share_of_their_difference(loader):
    pytest.importorskip("peft")
    start = weights(trainer_of(settings()))
    whole, part = (trained(loader, **LORA, interpolation=share)[2].weights for share in (1.0, 0.5))
    for name, value in part.items():
        assert torch.allclose(value, start[name] + 0.5 * (whole[name] - start[name]), atol=1e-6), name


@pytest.mark.parametrize(
    "changes",
    [
        LORA,
        {**LORA, "ema": 0.9, "interpolation": 0.5, "optimizer": "adamw"},
        {"ema": 0.9, "anchor": 5.0},
        {"interpolation": 0.3, "optimizer": "adamw"},
        {"freeze": ["encoder"], "precision": "bf16-pure", "ema": 0.8},
        {"precision": "bf16-pure"},
    ],
)
def test_resuming_is_exact_with_all_that_is_kept(loader, changes):
    if changes.get("method") == "lora":
        pytest.importorskip("peft")
    training = settings(**changes)
    rows = range(30, 40)
    _, (half, end), _ = train(loader, trainer_of(training, new_rows=rows), every=3)
    resumed = trainer_of(training, new_rows=rows)
    with torch.no_grad():
        for parameter in resumed.weights.values.values():
            parameter.fill_(0.5)
    resumed.restore(half.position, half.weights, half.optimizer, half.optimizer_numbers)
    _, (again,), _ = train(loader, resumed, start=half.position)
    assert same(again.weights, end.weights)
    assert same(again.optimizer, end.optimizer)
    assert not same(half.weights, end.weights)


def test_the_state_of_another_method_is_refused(loader):
    _, _, snapshot = trained(loader, steps=1)
    with pytest.raises(TrainingError, match="another model"):
        trainer_of(settings(ema=0.9)).restore(
            snapshot.position, snapshot.weights, snapshot.optimizer, snapshot.optimizer_numbers
        )


# ---- what is minimised


def test_a_task_that_does_not_count_teaches_nothing(loader):
    """Only the other task's tokens make the gradient, and only they are counted in its mean."""
    trainer = trainer_of(settings(steps=1, dropout=0.0, task_weights={"short": 0.0}, gradient_clip=None))
    (one,), _, _ = train(loader, trainer)
    assert one.loss_by_task.keys() == set(TASKS)
    reference = tiny_model(seed=1)
    total, tokens = 0.0, 0
    for row in loader.packed_order.rows(0, loader.rows_per_step):
        for placed in row:
            if TASKS[placed.task] == "long":
                source, target = loader.read_tokens(placed)
                out = reference(
                    input_ids=torch.tensor(source.astype(int))[None], labels=torch.tensor(target.astype(int))[None]
                )
                total, tokens = total + out.loss * len(target), tokens + len(target)
    (total / tokens).backward()
    norm = math.sqrt(sum((p.grad**2).sum().item() for p in reference.parameters()))
    assert one.gradient_norm == pytest.approx(norm, rel=1e-4)


def test_equal_weights_change_nothing(loader):
    _, plain, one = trained(loader)
    _, weighted, other = trained(loader, task_weights=dict.fromkeys(TASKS, 3.0))
    assert [r.loss for r in weighted] == pytest.approx([r.loss for r in plain], rel=1e-5)
    assert distance(one.weights, other.weights) < 1e-3 * distance(one.weights, weights(trainer_of(settings())))


def test_the_reported_loss_is_the_cross_entropy(loader):
    plain = trained(loader, steps=1, dropout=0.0)[1]
    smoothed = trained(loader, steps=1, dropout=0.0, label_smoothing=0.2, z_loss=0.1)[1]
    assert smoothed[0].loss == pytest.approx(plain[0].loss, rel=1e-6)
    assert smoothed[0].gradient_norm != pytest.approx(plain[0].gradient_norm, rel=0.05)


def test_inverse_square_root():
    training = settings(steps=100, schedule="inverse-square-root", warmup_steps=4, learning_rate=1.0)
    rates = [learning_rate(step, training) for step in range(100)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[15] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.2)
    assert learning_rate(0, training.model_copy(update={"warmup_steps": 0})) == 1.0


# ---- memory and precision


def test_checkpointed_activations_give_the_same_gradients_and_hold_less(loader):
    row = next(iter(loader.batches(0, 1, worker=0, workers=1)))[1][0]

    def gradients(checkpointing):
        model, held = tiny_model(seed=1, dropout=0.2, layers=4).train(), []
        torch.manual_seed(5)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
            loss, _ = PackedT5(model, checkpointing=checkpointing)(DeviceBatch.of(row), 2)
        loss.backward()
        return loss.item(), [p.grad.clone() for p in model.parameters()], sum(held)

    (loss, plain, much), (again, checkpointed, little) = gradients(False), gradients(True)
    assert again == loss
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))
    assert little < much / 3


def test_parts_of_a_row_are_the_row(loader):
    row = next(iter(loader.batches(0, 1, worker=0, workers=1)))[1][0]
    parts = split(row, 40)
    assert len(parts) > 1
    assert sum((part.samples for part in parts), ()) == row.samples
    for part in parts:
        assert part.examples == 1 or part.source_tokens + part.target_tokens <= 40
    model = tiny_model(seed=1)
    whole = PackedT5(model)(DeviceBatch.of(row), 2)[0]
    assert sum(PackedT5(model)(DeviceBatch.of(p), 2)[0] for p in parts).item() == pytest.approx(whole.item(), rel=1e-6)


def test_small_micro_batches_come_to_the_same(loader):
    _, whole, one = trained(loader, dropout=0.0)
    _, parts, other = trained(loader, dropout=0.0, micro_batch_tokens=40)
    assert [r.loss for r in parts] == pytest.approx([r.loss for r in whole], rel=1e-5)
    assert [r.examples for r in parts] == [r.examples for r in whole]
    assert distance(one.weights, other.weights) < 1e-3


def with_memory_for(monkeypatch, tokens):
    """Pretends that memory holds `tokens`: more raise OutOfMemoryError in the backward pass."""
    forward = PackedT5.forward

    def limited(self, batch, tasks):
        total, by_task = forward(self, batch, tasks)
        if len(batch.source_S) + len(batch.labels_T) > tokens:
            total.register_hook(run_out)
        return total, by_task

    def run_out(_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(PackedT5, "forward", limited)


def test_the_micro_batch_is_found_that_fits(loader, monkeypatch):
    _, expected, one = trained(loader, dropout=0.0)
    with_memory_for(monkeypatch, 45)
    trainer, found, other = trained(loader, dropout=0.0)
    assert 20 < trainer.micro_batch_tokens < 64
    assert [r.loss for r in found] == pytest.approx([r.loss for r in expected], rel=1e-5)
    assert [r.examples for r in found] == [r.examples for r in expected]
    assert distance(one.weights, other.weights) < 1e-3


def test_an_example_that_does_not_fit_is_an_error(loader, monkeypatch):
    with_memory_for(monkeypatch, 3)
    with pytest.raises(TrainingError, match="does not hold one example") as raised:
        trained(loader)
    assert "activationCheckpointing" in raised.value.hint


def test_pure_bf16_computes_in_bf16_and_moves_fp32(loader):
    trainer, records, snapshot = trained(loader, precision="bf16-pure", steps=25, learning_rate=5e-3)
    assert {p.dtype for p in trainer.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in trainer.weights.values.values()} == {torch.float32}
    assert {t.dtype for t in snapshot.weights.values()} == {torch.float32}
    exact = trained(loader, steps=25, learning_rate=5e-3)[1]
    assert records[0].loss == pytest.approx(exact[0].loss, rel=0.03)
    assert records[-1].loss == pytest.approx(exact[-1].loss, rel=0.15)
    assert records[0].gradient_norm == pytest.approx(exact[0].gradient_norm, rel=0.05)


def test_steps_too_small_for_bf16_are_not_lost(loader):
    """With a learning rate below bf16's resolution the fp32 values still move."""
    _, _, snapshot = trained(loader, precision="bf16-pure", optimizer="adamw", learning_rate=1e-6, steps=20)
    start = dict(tiny_model(seed=1).named_parameters())
    moved = {name: (value - start[name]).abs().max().item() for name, value in snapshot.weights.items()}
    assert all(5e-6 < value < 3e-5 for value in moved.values()), moved


@pytest.mark.parametrize("name", ["fp16", "float16"])
def test_fp16_is_refused_with_the_reason(name):
    with pytest.raises(ValidationError, match=r"fp16 is not supported: T5's activations exceed.*bf16 or fp32"):
        settings(precision=name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": {"rank": 4}}, "set method: lora"),
        ({"method": "lora", "freeze": ["encoder", "decoder"]}, "nothing to train"),
        ({"freeze": ["encoder", "decoder", "embeddings", "head"]}, "nothing to train"),
    ],
)
def test_settings_that_do_not_go_together(changes, words):
    with pytest.raises(ValidationError, match=words):
        settings(**changes)


def test_a_step_of_tokens_that_do_not_count_changes_nothing(loader):
    trainer = trainer_of(settings(task_weights=dict.fromkeys(TASKS, 0.0), optimizer="adamw", weight_decay=0.0))
    before = weights(trainer)
    records, _, _ = train(loader, trainer)
    assert same(weights(trainer), before)
    assert all(r.gradient_norm == 0 and math.isfinite(r.loss) for r in records)


def test_a_state_is_checked_before_anything_is_put_in_place(loader):
    _, _, snapshot = trained(loader, steps=1)
    trainer = trainer_of(settings())
    before = weights(trainer)
    with pytest.raises(TrainingError, match="another model"):
        trainer.restore(
            snapshot.position,
            {**snapshot.weights, "extra": torch.zeros(1)},
            snapshot.optimizer,
            snapshot.optimizer_numbers,
        )
    assert same(weights(trainer), before)
