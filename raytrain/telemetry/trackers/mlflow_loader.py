"""Loads an exported model for mlflow.pyfunc, and answers prompts with it.

This file goes along with a registered model and runs where there is no raytrain: it imports torch
and transformers alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_BATCH = 16


def _load_pyfunc(folder: str) -> Answerer:
    """Called by MLflow with the folder of the model."""
    return Answerer(folder)


class Answerer:
    """The model and its tokenizer; decodes as the run's scores were (generation_config.json)."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """Returns the answers to prompts: a list of texts, or a table whose first column has them.

        `params` replace settings of decoding, e.g. `{"max_new_tokens": 64}`.
        """
        import torch

        prompts = _texts(model_input)
        answers: list[str] = []
        for start in range(0, len(prompts), _BATCH):
            batch = self._tokenizer(prompts[start : start + _BATCH], return_tensors="pt", padding=True)
            with torch.inference_mode():
                ids = self._model.generate(batch.input_ids, attention_mask=batch.attention_mask, **(params or {}))
            answers += self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return answers


def _texts(model_input: Any) -> Sequence[str]:
    if isinstance(model_input, str):
        return [model_input]
    rows: Iterable[Any] = model_input.iloc[:, 0] if hasattr(model_input, "iloc") else model_input
    return [str(row) for row in rows]
