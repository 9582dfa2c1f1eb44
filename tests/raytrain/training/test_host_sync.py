"""Where a step makes the host wait for the device: not in its passes, a few times at its end."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from raytrain.training.model.packed_t5 import DeviceBatch
from tests.support.tiny_loader import settings, tiny_loader, trainer_of

aten = torch.ops.aten
WAITING = (
    aten._local_scalar_dense.default,  # .item(), float(), bool()
    aten.nonzero.default,
    aten.masked_select.default,
    aten.unique_dim.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,  # without output_size
)


class Waits(TorchDispatchMode):
    """Counts operations whose result the host must know before it can go on."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in WAITING or (
            function is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        ):
            self.found[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1, "z_loss": 1e-3, "task_weights": {"long": 0.5}},
        {"precision": "bf16", "activation_checkpointing": True},
        {"precision": "bf16-pure", "micro_batch_tokens": 40},
    ],
    ids=str,
)
def test_the_host_never_waits_within_the_passes(options):
    loader, trainer = tiny_loader(), trainer_of(settings(steps=3, **options))
    with loader.batches(0, 2, worker=0, workers=1) as batches:
        (_, rows), (_, more) = batches
        trainer.step(0, rows)
        batch = DeviceBatch.of(more[0], dtype=trainer.packed_model.dtype)  # made on the host, then copied
        with Waits() as waits:
            trainer.packed_model(batch, 2)[0].backward()
        assert waits.found == {}
        once, twice = (
            waits_of_a_step(trainer, step, rows_of_step) for step, rows_of_step in ((1, more), (2, [*more, *more]))
        )
    assert once == twice  # what is left is at the end of a step: its sums, its norm
    assert 0 < once <= 8


def waits_of_a_step(trainer, step, rows):
    """Counts them without the number of tokens of each task, which is made on the host."""
    with Waits() as waits:
        trainer.step(step, rows)
    return sum(count for name, count in waits.found.items() if "repeat_interleave" not in name)
