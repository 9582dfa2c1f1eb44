"""The trainer: any number of workers, exact resumption, golden losses, and its errors."""

import math
import threading

import pytest
import torch

from raytrain.training import distributed, threads
from raytrain.training.checkpoint import Position
from raytrain.training.model.packed_t5 import PackedT5
from raytrain.training.optim import optimizer
from raytrain.training.optim.lr_schedule import learning_rate
from raytrain.training.trainer import Trainer
from raytrain_core.errors import TrainingError
from tests.support.tiny_loader import TASKS, same, settings, tiny_loader, train, trainer_of, weights
from tests.support.tiny_t5 import tiny_model

GOLDEN = [
    4.799908,
    4.69414,
    4.146527,
    4.211288,
    3.873279,
    3.662281,
    3.394728,
    3.512016,
    3.699692,
    3.113372,
    2.873287,
    3.079923,
    3.195631,
    2.959202,
    2.911159,
    2.885928,
    3.066148,
    2.896039,
    2.928708,
    2.680946,
]


@pytest.fixture(scope="module")
def loader():
    return tiny_loader()


def test_golden_losses(loader):
    """Any change of order, packing, forward pass, loss, optimizer or schedule shows here."""
    training = settings(steps=20, schedule="cosine", warmup_steps=3, dropout=0.0)
    records, _, _ = train(loader, trainer_of(training))
    assert [r.loss for r in records] == pytest.approx(GOLDEN, rel=2e-4)


FAMILIES = {
    "T5 v1.0": ({"tied": True, "feed_forward": "relu"}, [5.137308, 4.489141, 3.910349, 3.853641, 3.660433]),
    "T5-efficient": (
        {"tied": True, "feed_forward": "relu", "layers": 4, "decoder_layers": 2, "width": 16},
        [5.445848, 4.5696, 4.172572, 4.006169, 4.023243],
    ),
    "mT5": ({"kind": "mt5"}, [4.799908, 4.303703, 3.767956, 3.963928, 3.721154]),
    "UMT5": ({"kind": "umt5"}, [5.140266, 4.505597, 3.949851, 3.819871, 3.611186]),
    "ByT5, whose decoder is shallow": (
        {"layers": 3, "decoder_layers": 1, "vocabulary": 384},
        [6.447747, 5.881809, 5.741404, 5.47776, 5.293265],
    ),
}


@pytest.mark.parametrize(("model", "golden"), FAMILIES.values(), ids=FAMILIES.keys())
def test_golden_losses_of_families(loader, model, golden):
    training = settings(steps=5, schedule="cosine", warmup_steps=1, dropout=0.0)
    records, _, _ = train(loader, trainer_of(training, **model))
    assert [r.loss for r in records] == pytest.approx(golden, rel=2e-4)


@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5"])
def test_adapters_fit_every_family(loader, kind):
    """The same layers have adapters, and the exported state is that of the stock model."""
    stock = {name: tuple(p.shape) for name, p in tiny_model(kind=kind).named_parameters()}
    lora = {"rank": 2, "targets": ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]}
    trainer = trainer_of(settings(steps=2, method="lora", lora=lora), kind=kind)
    _, snapshots, _ = train(loader, trainer)
    assert {name: tuple(tensor.shape) for name, tensor in snapshots[-1].weights.items()} == stock


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_it_learns(loader, name):
    records, _, _ = train(loader, trainer_of(settings(steps=25, optimizer=name, learning_rate=5e-3)))
    assert records[-1].loss < 0.7 * records[0].loss
    assert records[-1].loss_by_task.keys() == set(TASKS)


def test_a_record_adds_up(loader):
    records, _, (position, interrupted) = train(loader, trainer_of(settings(dropout=0.0)))
    assert not interrupted
    assert [r.step for r in records] == [1, 2, 3, 4, 5, 6]
    for r in records:
        assert sum(r.target_tokens_by_task.values()) == r.target_tokens
        total = sum(r.loss_by_task[t] * n for t, n in r.target_tokens_by_task.items())
        assert total / r.target_tokens == pytest.approx(r.loss)
        assert r.seconds >= sum(r.seconds_by_part.values()) - 1e-3
        assert set(r.seconds_by_part) >= {"data", "forward", "backward", "grad_sync", "optimizer"}
    assert position.tokens == sum(r.source_tokens + r.target_tokens for r in records)
    assert position.examples == sum(r.examples for r in records)
    rows = loader.packed_order.rows(0, 24)
    assert position.examples == sum(len(row) for row in rows)


def test_one_step_is_the_mean_over_target_tokens(loader):
    """The gradient is that of stock transformers' loss over all target tokens of the step."""
    trainer = trainer_of(settings(steps=1, dropout=0.0, gradient_clip=None, optimizer="adamw"))
    reference = tiny_model(seed=1)
    losses, tokens = 0.0, 0
    for row in loader.packed_order.rows(0, loader.rows_per_step):
        for placed in row:
            source, target = loader.read_tokens(placed)
            out = reference(
                input_ids=torch.tensor(source.astype(int))[None], labels=torch.tensor(target.astype(int))[None]
            )
            losses = losses + out.loss * len(target)
            tokens += len(target)
    (losses / tokens).backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in reference.parameters()))
    (record,), _, _ = train(loader, trainer)
    assert record.loss == pytest.approx((losses / tokens).item(), rel=1e-5)
    assert record.gradient_norm == pytest.approx(norm.item(), rel=1e-4)
    own = dict(trainer.model.named_parameters())
    for name, parameter in reference.named_parameters():
        assert torch.allclose(own[name].grad, parameter.grad, rtol=1e-3, atol=1e-6), name


class Meeting:
    """Workers as threads; forward passes take turns, because dropout's generator is global."""

    def __init__(self, workers):
        self.lock, self.barrier, self.slots = threading.Lock(), threading.Barrier(workers), {}

    def all_reduce(self, tensor):
        self.slots[threading.get_ident()] = tensor
        self.barrier.wait()
        total = sum(self.slots[key].clone() for key in sorted(self.slots))
        self.barrier.wait()
        tensor.copy_(total)
        self.barrier.wait()


def train_together(monkeypatch, loader, training, workers, **options):
    meeting = Meeting(workers)
    forward_backward = Trainer.forward_backward

    def in_turn(self, micro_batches):
        with meeting.lock:
            return forward_backward(self, micro_batches)

    with monkeypatch.context() as patch:
        patch.setattr(distributed, "all_reduce", meeting.all_reduce)
        patch.setattr(Trainer, "forward_backward", in_turn)
        trainers = [trainer_of(training) for _ in range(workers)]
        results = [None] * workers

        def work(worker):
            try:
                results[worker] = train(loader, trainers[worker], worker=worker, workers=workers, **options)
            except BaseException as error:
                results[worker] = error
                meeting.barrier.abort()

        started = [threading.Thread(target=work, args=(w,)) for w in range(workers)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return trainers, results


@pytest.mark.parametrize("workers", [2, 4, 6])
def test_any_number_of_workers_comes_to_the_same(monkeypatch, loader, workers):
    """Six workers have four rows a step to share: two of them get none."""
    training = settings(steps=4, optimizer="adamw")
    alone = trainer_of(training)
    expected, _, _ = train(loader, alone)
    trainers, results = train_together(monkeypatch, loader, training, workers)
    records, snapshots, (position, _) = results[0]
    assert all(same(weights(trainers[0]), weights(s)) for s in trainers)
    assert [r.loss for r in records] == pytest.approx([r.loss for r in expected], rel=1e-5)
    assert [r.gradient_norm for r in records] == pytest.approx([r.gradient_norm for r in expected], rel=1e-4)
    assert [r.target_tokens_by_task for r in records] == [r.target_tokens_by_task for r in expected]
    for name, tensor in weights(alone).items():
        assert torch.allclose(tensor, weights(trainers[0])[name], rtol=1e-3, atol=1e-5), name
    assert all(out == (position, False) for _, _, out in results)
    assert len(snapshots) == 1
    assert all(not records and not taken for records, taken, _ in results[1:])


def test_all_workers_stop_at_the_same_step(monkeypatch, loader):
    calls = []

    def stop():
        calls.append(None)
        return len(calls) == 3

    _, results = train_together(monkeypatch, loader, settings(), 2, callbacks={"stop_requested": stop})
    assert [out for _, _, out in results] == [(results[0][2][0], True)] * 2
    assert results[0][2][0].step == 3
    assert [s.position.step for s in results[0][1]] == [3]


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
@pytest.mark.parametrize("tied", [True, False])
def test_resuming_is_exact(loader, name, tied):
    training = settings(optimizer=name, weight_decay=0.01, warmup_steps=2, schedule="linear")
    whole = trainer_of(training, tied=tied)
    records, snapshots, _ = train(loader, whole, every=3)
    assert [s.position.step for s in snapshots] == [3, 6]
    assert [s.next_row for s in snapshots] == [12, 24]
    half = snapshots[0]
    resumed = trainer_of(training, tied=tied)
    with torch.no_grad():
        for parameter in resumed.model.parameters():
            parameter.fill_(0.5)
    resumed.restore(half.position, half.weights, half.optimizer, half.optimizer_numbers)
    torch.rand(17)
    again, ends, _ = train(loader, resumed, start=half.position, every=3)
    assert same(weights(resumed), weights(whole))
    assert same(ends[-1].optimizer, snapshots[-1].optimizer)
    assert ends[-1].optimizer_numbers == snapshots[-1].optimizer_numbers
    assert ends[-1].position == snapshots[-1].position
    assert [r.loss for r in again] == [r.loss for r in records[3:]]


def test_a_snapshot_does_not_change_afterwards(loader):
    trainer = trainer_of(settings())
    _, (first, *_), _ = train(loader, trainer, every=1)
    kept = {name: tensor.clone() for name, tensor in first.weights.items()}
    assert same(first.weights, kept)
    assert not same(first.weights, weights(trainer))


def test_asked_to_stop_at_the_last_step_it_is_done(loader):
    _, snapshots, (position, interrupted) = train(
        loader, trainer_of(settings(steps=1)), callbacks={"stop_requested": lambda: True}
    )
    assert (position.step, interrupted, len(snapshots)) == (1, False, 1)


def test_no_steps_nothing_happens(loader):
    trainer = trainer_of(settings(steps=0))
    before = weights(trainer)
    assert train(loader, trainer) == ([], [], (Position(), False))
    assert same(weights(trainer), before)


def break_steps(monkeypatch, broken, *, task=0):
    """Make the losses of these step numbers (from 0) not a number, gradients included."""
    now = {"step": -1}
    step, forward = Trainer.step, PackedT5.forward

    def counted(self, number, *args, **options):
        now["step"] = number
        return step(self, number, *args, **options)

    def poisoned(self, batch, tasks):
        total, by_task = forward(self, batch, tasks)
        if now["step"] in broken:
            total, by_task = total * math.nan, by_task.clone()
            by_task[task] = math.nan
        return total, by_task

    monkeypatch.setattr(Trainer, "step", counted)
    monkeypatch.setattr(PackedT5, "forward", poisoned)


def test_a_step_that_is_not_finite_changes_nothing(monkeypatch, loader):
    break_steps(monkeypatch, {2, 3})
    results = []
    trainer = trainer_of(settings())
    _, snapshots, (position, _) = train(loader, trainer, every=1, callbacks={"on_step": results.append})
    assert [r.record.step for r in results if r.record is not None] == [1, 2, 5, 6]
    assert [r.position.step for r in results if r.record is None] == [3, 4]
    kept = [s.weights for s in snapshots]
    assert same(kept[1], kept[3])
    assert not same(kept[3], kept[4])
    assert all(t.isfinite().all() for t in weights(trainer).values())
    assert position.step == 6


def test_three_of_them_in_a_row_end_training(monkeypatch, loader):
    break_steps(monkeypatch, {1, 2, 3}, task=1)
    with pytest.raises(TrainingError, match=r"step 4: the loss of short is not a finite number.*long, short") as raised:
        train(loader, trainer_of(settings()))
    assert "learningRate" in (raised.value.hint or "")


def test_an_infinite_gradient_alone_is_seen(monkeypatch, loader):
    forward = PackedT5.forward

    def steep(self, batch, tasks):
        total, by_task = forward(self, batch, tasks)
        return total * math.inf, by_task

    monkeypatch.setattr(PackedT5, "forward", steep)
    with pytest.raises(TrainingError, match="step 3: the gradient is not a finite number"):
        train(loader, trainer_of(settings()))


def test_an_error_in_the_background_ends_training(loader):
    def check():
        raise TrainingError("superseded")

    with pytest.raises(TrainingError, match="superseded"):
        train(loader, trainer_of(settings()), callbacks={"raise_errors": check})


def test_the_gradient_is_clipped(loader):
    trainer = trainer_of(settings(steps=1, gradient_clip=0.01, optimizer="adamw"))
    (record,), _, _ = train(loader, trainer)
    assert record.gradient_norm > 0.1
    assert trainer.gradients.norm() == pytest.approx(0.01, rel=1e-3)


def test_bf16_learns_over_fp32_weights(loader):
    trainer = trainer_of(settings(steps=15, precision="bf16", learning_rate=5e-3))
    records, _, _ = train(loader, trainer)
    assert records[-1].loss < 0.8 * records[0].loss
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_norms_and_biases_do_not_decay():
    model = tiny_model()
    for name in ("adamw", "adafactor"):
        built = optimizer.build(
            dict(model.named_parameters()), settings(optimizer=name, weight_decay=0.5, learning_rate=0.1)
        )
        decay = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
        names = dict(model.named_parameters())
        assert len(decay) == len(names)
        for key, parameter in names.items():
            no_decay = "layer_norm" in key or "relative_attention_bias" in key
            assert decay[id(parameter)] == (0.0 if no_decay else 0.5), key


def test_the_job_s_dropout_replaces_the_model_s(loader):
    assert trainer_of(settings(dropout=None), dropout=0.3).model.config.dropout_rate == 0.3
    trainer = trainer_of(settings(dropout=0.2), dropout=0.3)
    assert {m.p for m in trainer.model.modules() if isinstance(m, torch.nn.Dropout)} == {0.2}


def test_a_state_of_another_model_is_refused():
    trainer = trainer_of(settings())
    with pytest.raises(TrainingError, match="another model: there is no parameter nothing"):
        optimizer.load_state(trainer.optimizer, trainer.weights.values, {"exp_avg/nothing": torch.zeros(1)}, {})


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.775, 0.55, 0.325, 0.1]),
        ("cosine", [0.5, 1.0, 1.0, 0.1 + 0.9 * (0.5 + 0.25 * 2**0.5), 0.55, 0.1 + 0.9 * (0.5 - 0.25 * 2**0.5), 0.1]),
    ],
)
def test_schedules(schedule, expected):
    training = settings(steps=7, schedule=schedule, warmup_steps=2, learning_rate=1.0, final_learning_rate_share=0.1)
    assert [learning_rate(step, training) for step in range(7)] == pytest.approx(expected)


def test_schedules_of_one_step():
    for schedule in ("constant", "linear", "cosine"):
        assert learning_rate(0, settings(steps=1, schedule=schedule, learning_rate=1.0)) == 1.0


def test_threads_share_the_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "none")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert [threads.threads_per_worker(n) for n in (1, 2, 3, 20)] == [8, 4, 2, 1]
    (tmp_path / "quota").write_text("250000 100000")
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "quota")
    assert threads.cores() == 2
    (tmp_path / "quota").write_text("max 100000")
    assert threads.cores() == 8


def test_variables_that_the_user_has_set_stay(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert "MALLOC_ARENA_MAX" not in threads.worker_environment()
    assert {"MALLOC_MMAP_MAX_", "GOMP_SPINCOUNT"} < threads.worker_environment().keys()


def test_epochs_and_tokens_are_converted_to_steps(loader):
    """120 examples: after the steps of one epoch as many were seen, give or take a step."""
    mean = sum(loader.packed_order.lengths.means([0.5, 0.5]))
    for requested, examples in (({"epochs": 1}, 120), ({"epochs": 2.5}, 300), ({"tokens": int(200 * mean)}, 200)):
        steps = loader.last_step(settings(steps=None, **requested))
        seen = [
            sum(len(row) for row in loader.packed_order.rows(0, n * loader.rows_per_step)) for n in (steps - 1, steps)
        ]
        assert seen[0] - 12 <= examples <= seen[1] + 12, requested
    assert loader.last_step(settings(steps=None, tokens=1)) == 1


@pytest.mark.parametrize("requested", [2, 5])
def test_a_requested_checkpoint_is_taken_after_the_step(loader, requested):
    """As for a node that is about to leave; training continues."""
    asked = iter(range(100))
    trainer = trainer_of(settings(steps=6))
    _, snapshots, (position, stopped) = train(
        loader, trainer, callbacks={"checkpoint_requested": lambda: next(asked) == requested - 1}
    )
    assert [snapshot.position.step for snapshot in snapshots] == [requested, 6]
    assert (position.step, stopped) == (6, False)
