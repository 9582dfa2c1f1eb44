"""What must hold on a GPU as it does on a CPU. Needs no Ray."""

import pytest
import torch

from raytrain.config.training import TrainingSpec
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5
from raytrain.training.trainer import Trainer
from tests.support.packed_rows import KINDS, examples, gradients, row_of
from tests.support.tiny_t5 import tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@KINDS
def test_loss_and_gradients_are_those_of_the_cpu(tied, feed_forward):
    torch.backends.cuda.matmul.allow_tf32 = False
    found = []
    for device in ("cuda", "cpu"):
        model = tiny_model(tied=tied, feed_forward=feed_forward, layers=3).to(device)
        loss, _ = PackedT5(model)(DeviceBatch.of(row_of(examples()), device=device), tasks=3)
        loss.backward()
        found.append((loss.item(), {name: g.cpu() for name, g in gradients(model).items()}))
    (one, ours), (other, theirs) = found
    assert abs(one - other) <= 1e-5 * other
    for name, reference in theirs.items():
        assert (ours[name] - reference).norm() <= 1e-4 * reference.norm(), name


@pytest.mark.parametrize("settings", [{}, {"precision": "bf16-pure"}, {"activation_checkpointing": True}])
def test_it_learns_in_bf16(settings):
    training = TrainingSpec.model_validate(
        {"steps": 40, "optimizer": "adamw", "learning_rate": 0.01, "dropout": 0.0, "precision": "bf16", **settings}
    )
    trainer = Trainer(tiny_model(), training, ["a", "b", "c"], device="cuda")
    losses = []
    for step in range(40):
        result = trainer.step(step, [row_of(examples())])
        losses.append(float(result.sums.losses.sum() / result.sums.tokens.sum()))
        assert result.record is not None  # not skipped
    assert losses[-1] < 0.5 * losses[0]
