"""FLOPs of a step are counted as torch counts them, without padding and masks."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from raytrain.training.flops import peak_flops, step_flops
from tests.support.tiny_t5 import tiny_model


@pytest.mark.parametrize("feed_forward", ["gated-gelu", "relu"])
def test_it_is_what_torch_counts(feed_forward):
    """Counts one example through transformers' own forward and backward pass.

    It also computes the masked half of the decoder's attention.
    """
    model = tiny_model(feed_forward=feed_forward, layers=3)
    source, target = 40, 24
    with FlopCounterMode(display=False) as counter:
        model(
            input_ids=torch.ones(1, source, dtype=torch.long), labels=torch.ones(1, target, dtype=torch.long)
        ).loss.backward()
    ours = step_flops(model.config, np.array([source]), np.array([target]))
    inner, layers = model.config.d_kv * model.config.num_heads, model.config.num_decoder_layers
    masked = 3 * 2 * 2 * inner * layers * target**2 / 2
    assert ours + masked == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_examples_add_up():
    config = tiny_model().config
    one, other, both = (
        step_flops(config, np.array(s), np.array(t)) for s, t in (([7], [3]), ([90], [20]), ([7, 90], [3, 20]))
    )
    assert both == one + other


def test_what_a_processor_could_do_is_not_known():
    assert peak_flops(torch.device("cpu"), "bf16") is None
