"""Exports the tuned model as a plain Hugging Face folder, usable without raytrain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.text.tokenizer_kind import has_tokenizer
from raytrain.model.decoding import decoding_config, without_decoding
from raytrain.model.loading import is_tied, quiet
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)


def export(
    model: T5ForConditionalGeneration,
    tokenizer_folder: Path,
    folder: Path,
    *,
    max_new_tokens: int | None = None,
    beams: int = 1,
) -> dict[str, Path]:
    """Writes weights, configuration and tokenizer to `folder`.

    Its generation_config.json says how the model was scored: greedy or with `beams`, at most
    `max_new_tokens`, and nothing of the base model's own settings.

    Returns its files by name, ready for `commit`. Plain `AutoModelForSeq2SeqLM` and `AutoTokenizer`
    read it, with the same ids and logits. TrainingError if `tokenizer_folder` has no
    tokenizer.
    """
    if not has_tokenizer(tokenizer_folder):
        raise TrainingError(f"{tokenizer_folder}: no tokenizer.json to export")
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = decoding_config(model.config, max_new_tokens=max_new_tokens, beams=beams)
    with quiet():
        model.save_pretrained(folder, max_shard_size="1000GB")
    _correct_config(folder / "config.json", tied=is_tied(model))
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, folder / name)
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}


def write_config(
    model: T5ForConditionalGeneration, folder: Path, *, max_new_tokens: int | None = None, beams: int = 1
) -> dict[str, Path]:
    """Writes only the configuration, as `export` does.

    With weights next to it `raytrain.model.loading.load` reads the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    _correct_config(folder / "config.json", tied=is_tied(model))
    decoding_config(model.config, max_new_tokens=max_new_tokens, beams=beams).save_pretrained(folder)
    return {name: folder / name for name in ("config.json", "generation_config.json")}


def _correct_config(path: Path, *, tied: bool) -> None:
    """Corrects the flag that transformers 5 writes for every T5, and removes settings of decoding.

    Readers that trust the flag would tie and scale a FLAN-T5; pipelines take `task_specific_params`
    for the way in which the model was scored.
    """
    config = without_decoding(json.loads(path.read_text(encoding="utf-8")))
    config["tie_word_embeddings"] = tied
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
