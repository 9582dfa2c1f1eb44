"""Metrics of how likely a text is for the model, whatever it generates itself.

The losses are measured where the model is. A row's meta holds `loss` (nats over the first
reference, end-of-sequence token included) and `loss_tokens`, and for a row with choices
`choice_losses`, the same of every choice.
"""

from collections.abc import Sequence

import numpy as np

from data_prep.tasks.task_types import letter
from raytrain.evaluation.answers.normal import normalize_answer
from raytrain.evaluation.metrics.base import Floats, MeanMetric, Meta, Metric, ratio
from raytrain_core.errors import DataError

_MAX_MEAN_LOSS = 50.0  # larger ones (no model has them) would exceed the numbers that JSON readers accept


class Perplexity(Metric):
    """Exponential of the mean loss per target token: how much the reference surprises the model.

    Jelinek et al. 1977, "Perplexity: a measure of the difficulty of speech recognition tasks".
    """

    name = "perplexity"
    better = "lower"
    scale = "raw"
    columns = ("loss", "tokens")
    measured = ("loss",)

    @property
    def protocol(self) -> str:
        """Which tokens count."""
        return (
            "exp of the mean loss over all target tokens of all rows, end-of-sequence token included, first reference, "
            "truncated as in training; comparable only between models with the same tokenizer"
        )

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns loss and tokens; raises DataError where the loss is missing or not finite."""
        loss, tokens = meta.get("loss"), meta.get("loss_tokens")
        if loss is None or not tokens or not np.isfinite(loss):
            raise DataError(
                "perplexity: the loss of a row is not a number", hint="Check whether the training diverged."
            )
        return float(loss), float(tokens)

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """Returns a row without loss, and one with four times the largest loss a token."""
        tokens = float(stats[:, 1].max())
        largest = float(ratio(stats[:, 0], stats[:, 1], empty=0.0).max())
        return np.array([0.0, tokens]), np.array([4 * largest * tokens, tokens])

    def combine_many(self, sums: Floats) -> Floats:
        """exp(loss / tokens)."""
        return np.exp(np.minimum(ratio(sums[:, 0], sums[:, 1], empty=np.nan), _MAX_MEAN_LOSS))


class ChoiceAccuracy(MeanMetric):
    """Share of rows whose correct choice is the most likely one for the model.

    Rank classification, as in Sanh et al. 2022 (T0), with the letters of the choices.
    """

    name = "choice_accuracy"
    measured = ("choice_losses",)

    @property
    def protocol(self) -> str:
        """What is compared."""
        return "the choice whose letter has the smallest loss, of equals the first; nothing is generated"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0; raises DataError where the losses are missing or not finite."""
        losses = meta.get("choice_losses")
        if not losses or not np.isfinite(losses).all():
            raise DataError("choice_accuracy: the losses of a row's choices are not numbers")
        chosen = letter(int(np.argmin(losses)))
        return float(normalize_answer(chosen) in {normalize_answer(target) for target in targets})
