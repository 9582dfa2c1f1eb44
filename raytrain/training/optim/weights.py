"""The fp32 values that the optimizer moves, their moving average, and the values they started from.

What is scored and exported (`export_state`) may differ from what is trained: the moving average
instead of the latest values, adapters merged into their layers, or a point on the line from the
start to the trained values (interpolation: WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).
Training itself always goes on from the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from raytrain.config.training import TrainingSpec
from raytrain.model import loading
from raytrain.training.optim import trainable
from raytrain.training.optim.fsdp import Sharding, local_parameter
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

_VALUE, _AVERAGE = "value", "average"  # entries of a checkpoint's state


class Weights:
    """The trained values of a model, which itself computes in the job's precision."""

    def __init__(
        self,
        model: T5ForConditionalGeneration,
        training: TrainingSpec,
        new_rows: range = range(0),
        sharding: Sharding | None = None,
    ) -> None:
        """Selects what is trained of `model`.

        Of a sharded model all tensors here are this worker's rows. `new_rows` are the ids of the
        tokens that preparation added. TrainingError if a weight is not fp32, or if nothing is left
        to train.
        """
        self.model, self.training, self._sharding = model, training, sharding or Sharding()
        selected = trainable.trainable_params(model, training, new_rows)
        self.row_masks = {
            name: self._sharding.local(mask).to(selected.params[name].device)
            for name, mask in selected.row_masks.items()
        }
        """Of parameters of which only some rows are trained: (V, 1), 1 where a row is."""
        self.used = selected.params
        """The model's own parameters, by name."""
        self.values = self.used
        """The same in fp32, for the optimizer; other tensors if the model is bf16 or sharded."""
        if wrong := [name for name, p in model.named_parameters() if p.dtype != torch.float32]:
            raise TrainingError(f"{wrong[0]} is {dict(model.named_parameters())[wrong[0]].dtype}, not fp32")
        if self._sharding.active:  # the optimizer's tensors share the parameters' memory
            self.values = {name: local_parameter(p) for name, p in self.used.items()}
            frozen = ((name, p) for name, p in model.named_parameters() if name not in self.used)
            self._frozen = {name: local_parameter(p).detach() for name, p in frozen}
        elif training.precision == "bf16-pure":
            self.values = {name: nn.Parameter(p.detach().clone()) for name, p in self.used.items()}
            self._frozen = {  # in fp32, for the export
                name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if name not in self.used
            }
            model.bfloat16()
        else:
            self._frozen = {}
        self._average = self._copies() if training.ema is not None else {}
        self._start = self._copies() if training.anchor or training.interpolation < 1 else {}

    def after_step(self, learning_rate: float) -> None:
        """Finishes an optimizer step: anchor, moving average, and the copy to the model.

        The anchor is decoupled L2-SP: values move towards their start by `learning_rate` times the
        anchor's strength (Li et al. 2018, arXiv:1802.01483; decoupled as weight decay in AdamW).
        """
        with torch.no_grad():
            values: list[Tensor] = list(self.values.values())
            if self.training.anchor:
                back = min(1.0, learning_rate * self.training.anchor)
                torch._foreach_lerp_(values, [self._start[name] for name in self.values], back)
            if self.training.ema is not None:
                torch._foreach_lerp_([self._average[name] for name in self.values], values, 1 - self.training.ema)
        self._copy_to_model()

    def export_state(self) -> dict[str, Tensor]:
        """Returns what is scored and exported: every weight of the stock model.

        Tensors may be the model's own.
        """
        training = self.training
        values = self._average or {name: p.detach() for name, p in self.values.items()}
        share = training.interpolation
        if share < 1:  # of adapters the merged difference is scaled, not each factor
            values = {
                name: value if ".lora_" in name else torch.lerp(self._start[name], value, share)
                for name, value in values.items()
            }
        return trainable.merged(self.model, {**self._frozen, **values}, share)

    def state(self) -> dict[str, Tensor]:
        """Returns what a checkpoint must hold in addition to `export_state`; not copied."""
        state = {f"{_AVERAGE}/{name}": tensor for name, tensor in self._average.items()}
        if self._differs_from_export:
            state |= {f"{_VALUE}/{name}": p.detach() for name, p in self.values.items()}
        return state

    def restore(self, exported: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Restores what `export_state` and `state` returned.

        Returns the entries of `state` that are not its own. TrainingError if it is the state of
        another model; nothing is changed then.
        """
        exported = {name: self._sharding.local(tensor) for name, tensor in exported.items()}
        own = {
            key: self._sharding.local(tensor)
            for key, tensor in state.items()
            if key.split("/", 1)[0] in (_VALUE, _AVERAGE)
        }
        loading.require_same(self.export_state(), exported)
        expected = {
            **({f"{_VALUE}/{name}": p for name, p in self.values.items()} if self._differs_from_export else {}),
            **{f"{_AVERAGE}/{name}": tensor for name, tensor in self._average.items()},
        }
        loading.require_same(expected, own)
        with torch.no_grad():
            for name, value in self.values.items():
                value.copy_(own[f"{_VALUE}/{name}"] if self._differs_from_export else exported[name])
            for name, average in self._average.items():
                average.copy_(own[f"{_AVERAGE}/{name}"])
        self._copy_to_model()
        return {key: tensor for key, tensor in state.items() if key not in own}

    @property
    def _differs_from_export(self) -> bool:
        """Whether the values cannot be recovered from the exported state."""
        training = self.training
        return bool(self._average) or training.interpolation < 1 or training.method == "lora"

    def _copies(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.values.items()}

    def _copy_to_model(self) -> None:
        if self.values is not self.used and not self._sharding.active:
            with torch.no_grad():
                used: list[Tensor] = list(self.used.values())
                torch._foreach_copy_(used, list[Tensor](self.values.values()))


def merged_factors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the adapters' factors that `Weights.export_state` merged, from `Weights.state`.

    Those are the moving average if there is one, else the values; empty without adapters.
    """
    for kind in (_AVERAGE, _VALUE):
        found = {name.removeprefix(f"{kind}/"): tensor for name, tensor in state.items() if name.startswith(f"{kind}/")}
        if factors := {name: tensor for name, tensor in found.items() if ".lora_" in name}:
            return factors
    return {}
