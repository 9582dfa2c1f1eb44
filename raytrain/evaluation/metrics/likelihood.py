"""Metrics of how likely the model finds an answer, whatever it writes by itself.

What they need is measured where the model is: a row's meta holds `loss` (nats over the first
reference, end mark included), `loss_tokens`, and for a question with choices `choice_losses`, the
same of every choice.
"""

from collections.abc import Sequence

import numpy as np

from data_prep.tasks.task_types import letter
from raytrain.evaluation.metrics.base import Floats, MeanMetric, Meta, Metric, ratio
from raytrain.evaluation.metrics.match import normalise_answer
from raytrain_core.errors import DataError

_MOST = 50.0  # a mean loss above this (no model has it) would leave the range of what JSON readers take


class Perplexity(Metric):
    """Exponential of the mean loss of a token of the reference: how surprised the model is by the right answer."""

    name = "perplexity"
    better = "lower"
    scale = "raw"
    columns = ("loss", "tokens")
    measured = ("loss",)

    @property
    def protocol(self) -> str:
        """Which tokens count."""
        return (
            "exp of the mean loss over all target tokens of all rows, end mark included, first reference, "
            "cut as in training; comparable only between models with the same tokenizer"
        )

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Loss and tokens; DataError where none was measured."""
        loss, tokens = meta.get("loss"), meta.get("loss_tokens")
        if loss is None or not tokens or not np.isfinite(loss):
            raise DataError("perplexity: the loss of a row is not a number", hint="Look whether the training diverged.")
        return float(loss), float(tokens)

    def combine_many(self, sums: Floats) -> Floats:
        """exp(loss / tokens)."""
        return np.exp(np.minimum(ratio(sums[:, 0], sums[:, 1], empty=np.nan), _MOST))


class ChoiceAccuracy(MeanMetric):
    """Share of questions whose right choice the model finds the most likely one."""

    name = "choice_accuracy"
    measured = ("choice_losses",)

    @property
    def protocol(self) -> str:
        """What is compared."""
        return "the choice whose letter has the smallest loss as the answer, the first of equals; nothing is generated"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """1 or 0; DataError where no losses were measured."""
        losses = meta.get("choice_losses")
        if not losses or not np.isfinite(losses).all():
            raise DataError("choice_accuracy: the losses of a row's choices are not numbers")
        chosen = letter(int(np.argmin(losses)))
        return float(normalise_answer(chosen) in {normalise_answer(target) for target in targets})
