"""A model sharded over workers (FSDP2, processes over gloo) trains as on one worker."""

import pytest
import torch
from torch import multiprocessing

from raytrain.training.optim.fsdp import Sharding
from tests.support import gloo_worker
from tests.support.gloo_worker import STEPS
from tests.support.tiny_loader import off, settings, tiny_loader, train, trainer_of


def sharded(folder, workers, **options):
    """Returns what each worker saved."""
    folder.mkdir(exist_ok=True)
    options.setdefault("trainer", {})["sharded"] = True
    multiprocessing.spawn(gloo_worker.work, (workers, str(folder), options), nprocs=workers)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(workers)]


def alone(model=None, trainer=None, **training):
    made = trainer_of(
        settings(**{"steps": STEPS, "optimizer": "adamw", **training}), **(trainer or {}), **(model or {})
    )
    records, snapshots, _ = train(tiny_loader(), made, every=2)
    return [(r.loss, r.gradient_norm) for r in records], snapshots


def equal(found, losses, snapshot, *, losses_off=1e-5, weights_off=1e-5):
    assert [loss for loss, _ in found["losses"]] == pytest.approx([loss for loss, _ in losses], rel=losses_off)
    assert [norm for _, norm in found["losses"]] == pytest.approx([norm for _, norm in losses], rel=10 * losses_off)
    assert found["snapshot"].position == snapshot.position
    assert off(snapshot.weights, found["snapshot"].weights) < weights_off


SETTINGS = {
    # three workers and four rows a step: two of them take part in a pass without a row of their own
    "adafactor": (3, {"optimizer": "adafactor", "weight_decay": 0.1, "ema": 0.5}, {}, {}),
    "adamw, tied": (2, {"anchor": 0.5, "interpolation": 0.5, "activation_checkpointing": True}, {"tied": True}, {}),
    "frozen except new tokens": (2, {"freeze": ["embeddings", "head"]}, {}, {"new_rows": range(30, 40)}),
}


FOUR = (4, {"optimizer": "adamw"}, {"tied": True}, {})


@pytest.mark.parametrize(
    ("workers", "training", "model", "trainer"),
    [*SETTINGS.values(), pytest.param(*FOUR, marks=pytest.mark.slow)],
    ids=[*SETTINGS, "four, tied"],
)
def test_sharded_training_equals_that_of_one_worker(tmp_path, workers, training, model, trainer):
    """Losses, norms and the exported state, dropout included.

    The first worker's checkpoint is complete, no worker's memory holds everything.
    """
    found = sharded(tmp_path, workers, training=training, model=model, trainer=dict(trainer))
    losses, snapshots = alone(model, trainer, **training)
    equal(found[0], losses, snapshots[-1])
    for name, whole in snapshots[-1].optimizer.items():
        assert torch.allclose(found[0]["snapshot"].optimizer[name], whole, rtol=1e-3, atol=1e-6), name
    numbers = sum(t.numel() for t in snapshots[-1].weights.values())
    held = [sum(worker["sizes"].values()) for worker in found]
    assert max(held) < 1.3 * numbers / workers
    if not training.get("freeze"):
        assert sum(held) == numbers


@pytest.mark.slow
def test_pure_bf16_in_shards_is_near(tmp_path):
    """Layers compute in bf16; optimizer state and gradient sums are fp32, as without shards."""
    training = {"precision": "bf16-pure", "dropout": 0.0}
    found = sharded(tmp_path, 2, training=training)
    losses, snapshots = alone(**training)
    equal(found[0], losses, snapshots[-1], losses_off=0.01, weights_off=0.01)
    assert {tensor.dtype for tensor in found[0]["snapshot"].weights.values()} == {torch.float32}


@pytest.mark.slow
def test_another_number_of_workers_resumes(tmp_path):
    """From two workers to three, and from one with the entire model: the numbers stay."""
    losses, snapshots = alone(optimizer="adafactor")
    training = {"optimizer": "adafactor"}
    first = sharded(tmp_path / "first", 2, training={**training, "steps": 2})
    assert first[0]["snapshot"].position.step == 2
    then = sharded(tmp_path / "then", 3, training=training, start=str(tmp_path / "first" / "0.pt"))
    equal(then[0], losses[2:], snapshots[-1])
    torch.save({"snapshot": snapshots[0]}, tmp_path / "whole.pt")
    other = sharded(tmp_path / "other", 2, training=training, start=str(tmp_path / "whole.pt"))
    equal(other[0], losses[2:], snapshots[-1])


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7])
def test_rows_are_sharded_as_torch_chunks_them(rows):
    whole = torch.arange(rows * 2.0).view(rows, 2)
    mine = [Sharding(rank, 3).local(whole) for rank in range(3)]
    assert torch.equal(torch.cat(mine), whole)
    for rank, chunk in enumerate(torch.chunk(whole, 3)):
        assert torch.equal(mine[rank], chunk)
    assert Sharding(1, 3).local(torch.tensor(4.0)) == 4
