"""The families of models that can be trained, and in what they differ from T5.

T5, T5 v1.1, FLAN-T5, T5-efficient and ByT5 are `t5` in config.json, mT5 is `mt5`, UMT5 is `umt5`.
The first two have one relative position bias for all layers of a stack, UMT5 has one in each layer.

Original T5 (v1.0) multiplies the decoder's output by d_model**-0.5 because its output layer is the
embedding table; a model with an output layer of its own is not scaled (T5X: logits_via_embedding).
transformers 5.23 never scales mT5, and always scales UMT5, although the published UMT5 models have
an output layer of their own. Here an untied UMT5 is not scaled, as in T5X and in transformers 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

SUPPORTED = "T5, T5 v1.1, FLAN-T5, T5-efficient, ByT5, mT5 and UMT5"
"""The families, for messages."""

_KINDS = ("t5", "mt5", "umt5")
_OTHER_ARCHITECTURES = {
    "longt5": "attends to blocks of its input",
    "switch_transformers": "is a mixture of experts",
    "t5gemma": "has Gemma's layers",
    "t5gemma2": "has Gemma's layers",
    **dict.fromkeys(("bart", "mbart", "pegasus", "marian", "m2m_100", "led"), "has BART's layers"),
    **dict.fromkeys(("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"), "has no encoder"),
}
_NO_GENERATION = ("EncoderModel", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def require_supported(config: Mapping[str, Any], name: str) -> None:
    """Raises TrainingError unless a config.json describes a model of these families."""
    kind = config.get("model_type")
    if kind not in _KINDS:
        reason = f"model_type {kind!r}"
        if kind in _OTHER_ARCHITECTURES:
            reason += f", which {_OTHER_ARCHITECTURES[str(kind)]}"
        raise TrainingError(
            f"model {name}: its config.json says {reason}", hint=f"choose a model of these families: {SUPPORTED}"
        )
    architectures = [str(one) for one in config.get("architectures") or []]
    if architectures and all(one.endswith(_NO_GENERATION) for one in architectures):
        raise TrainingError(
            f"model {name}: its config.json describes a {architectures[0]}, which cannot generate text",
            hint=f"use a model saved as {class_name(str(kind))}",
        )


def class_name(kind: str) -> str:
    """Returns the name of transformers' class for the model_type of a supported family."""
    return f"{kind.upper()}ForConditionalGeneration"


def model_class(kind: str) -> Any:
    """Returns transformers' class for the model_type of a supported family."""
    import transformers

    return getattr(transformers, class_name(kind))


def scales_output(model: T5ForConditionalGeneration) -> bool:
    """Whether the decoder's output is multiplied by d_model**-0.5 before the output layer."""
    config: Any = model.config
    if config.model_type == "umt5":
        return bool(config.tie_word_embeddings)
    return bool(getattr(config, "scale_decoder_outputs", False))
