"""The fp32 values that the optimizer moves, and what is kept beside them: their average, and where they started.

What is scored and exported (`outcome`) may differ from what is trained: the moving average instead
of the last values, adapters merged, a share of the way from the start. Training itself goes on from
the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from raytrain.config.job import TrainingSpec
from raytrain.model import loading
from raytrain.training.optim import trainable
from raytrain.training.optim.fsdp import Shards, own
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

_VALUE, _AVERAGE = "value", "average"  # entries of a checkpoint's state


class Weights:
    """What is trained of `model`, which computes with it in the job's precision."""

    def __init__(
        self,
        model: T5ForConditionalGeneration,
        training: TrainingSpec,
        new_rows: range = range(0),
        shards: Shards | None = None,
    ) -> None:
        """Of a model whose parameters lie in `shards`, everything here is this worker's rows."""
        self.model, self.training, self._shards = model, training, shards or Shards()
        chosen = trainable.choose(model, training, new_rows)
        self.rows = {
            name: self._shards.mine(mask).to(chosen.parameters[name].device) for name, mask in chosen.rows.items()
        }
        self.used = chosen.parameters
        """The model's own parameters, by name."""
        self.values = self.used
        """The same in fp32, as the optimizer moves them: other tensors where the model is in bf16, or sharded."""
        if wrong := [name for name, p in model.named_parameters() if p.dtype != torch.float32]:
            raise TrainingError(f"{wrong[0]} is {dict(model.named_parameters())[wrong[0]].dtype}, not fp32")
        if self._shards.split:  # the optimizer's tensors share the parameters' memory
            self.values = {name: own(p) for name, p in self.used.items()}
            self._frozen = {name: own(p).detach() for name, p in model.named_parameters() if name not in self.used}
        elif training.precision == "bf16-pure":
            self.values = {name: nn.Parameter(p.detach().clone()) for name, p in self.used.items()}
            self._frozen = {  # as they came, for the export
                name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if name not in self.used
            }
            model.bfloat16()
        else:
            self._frozen = {}
        self._average = self._copies() if training.ema is not None else {}
        self._start = self._copies() if training.anchor or training.interpolation < 1 else {}

    def after_step(self, learning_rate: float) -> None:
        """The optimizer has moved the values: pull them back, average them, give them to the model."""
        with torch.no_grad():
            values: list[Tensor] = list(self.values.values())
            if self.training.anchor:
                back = min(1.0, learning_rate * self.training.anchor)
                torch._foreach_lerp_(values, [self._start[name] for name in self.values], back)
            if self.training.ema is not None:
                torch._foreach_lerp_([self._average[name] for name in self.values], values, 1 - self.training.ema)
        self._hand_on()

    def outcome(self) -> dict[str, Tensor]:
        """What is scored and exported: every weight of the stock model, by name; tensors may be the model's own."""
        training = self.training
        values = self._average or {name: p.detach() for name, p in self.values.items()}
        share = training.interpolation
        if share < 1:  # of adapters the merged difference is shortened, not each factor
            values = {
                name: value if ".lora_" in name else torch.lerp(self._start[name], value, share)
                for name, value in values.items()
            }
        return trainable.merged(self.model, {**self._frozen, **values}, share)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold beside `outcome` and the optimizer's state; no copies."""
        kept = {f"{_AVERAGE}/{name}": tensor for name, tensor in self._average.items()}
        if self._beside_the_outcome:
            kept |= {f"{_VALUE}/{name}": p.detach() for name, p in self.values.items()}
        return kept

    def restore(self, outcome: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put back what `outcome` and `state` gave; what of `state` is not ours comes back.

        TrainingError if it is that of another model.
        """
        outcome = {name: self._shards.mine(tensor) for name, tensor in outcome.items()}
        mine = {
            key: self._shards.mine(tensor)
            for key, tensor in state.items()
            if key.split("/", 1)[0] in (_VALUE, _AVERAGE)
        }
        known = self.outcome()
        loading.require_same(known, outcome)
        values = {name: outcome[name] for name in self.values} if not self._beside_the_outcome else {}
        wanted = {
            **({f"{_VALUE}/{name}": p for name, p in self.values.items()} if self._beside_the_outcome else {}),
            **{f"{_AVERAGE}/{name}": tensor for name, tensor in self._average.items()},
        }
        loading.require_same(wanted, mine)
        with torch.no_grad():
            for name, value in self.values.items():
                value.copy_(mine[f"{_VALUE}/{name}"] if self._beside_the_outcome else values[name])
            for name, average in self._average.items():
                average.copy_(mine[f"{_AVERAGE}/{name}"])
        self._hand_on()
        return {key: tensor for key, tensor in state.items() if key not in mine}

    @property
    def _beside_the_outcome(self) -> bool:
        """Whether the values cannot be told from the outcome."""
        training = self.training
        return bool(self._average) or training.interpolation < 1 or training.method == "lora"

    def _copies(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.values.items()}

    def _hand_on(self) -> None:
        if self.values is not self.used and not self._shards.split:
            with torch.no_grad():
                used: list[Tensor] = list(self.used.values())
                torch._foreach_copy_(used, list[Tensor](self.values.values()))
