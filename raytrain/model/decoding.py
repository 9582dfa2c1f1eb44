"""How answers are decoded: a configuration for beam search, exports and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import GenerationConfig

_OLD_PLACES = {
    *("task_specific_params", "min_length", "max_length", "max_new_tokens", "num_beams", "num_beam_groups"),
    *("length_penalty", "early_stopping", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "do_sample"),
    *("repetition_penalty", "temperature", "top_k", "top_p", "typical_p", "bad_words_ids", "prefix"),
    *("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"),
}
"""Fields of config.json by which older versions of transformers, and pipelines, change decoding."""


def decoding_config(model_config: Any, *, max_new_tokens: int | None, beams: int) -> GenerationConfig:
    """Returns the configuration with which `generate` decodes as the scores of a run were decoded.

    The base model's own settings (minimum lengths, penalties, forced tokens) are not part of it: no
    score was measured with them.
    """
    from transformers import GenerationConfig

    from data_prep.text.tokenizer import EOS, PAD

    start = model_config.decoder_start_token_id
    configured: Any = GenerationConfig
    config: GenerationConfig = configured(
        do_sample=False,
        num_beams=beams,
        decoder_start_token_id=PAD if start is None else start,
        pad_token_id=PAD,
        eos_token_id=EOS,
        **({} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}),
    )
    return config


def without_decoding(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a config.json without the fields that would change decoding."""
    return {name: value for name, value in config.items() if name not in _OLD_PLACES}
