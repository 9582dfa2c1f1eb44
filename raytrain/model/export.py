"""Exports the tuned model as a plain Hugging Face folder, usable without raytrain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

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


def export(model: T5ForConditionalGeneration, tokenizer_folder: Path, folder: Path) -> dict[str, Path]:
    """Writes weights, configuration and tokenizer to `folder`.

    Returns its files by name, ready for `commit`. Plain `AutoModelForSeq2SeqLM` and `AutoTokenizer`
    read it, with the same ids and logits. TrainingError if `tokenizer_folder` has no
    tokenizer.json.
    """
    if not (tokenizer_folder / "tokenizer.json").is_file():
        raise TrainingError(f"{tokenizer_folder}: no tokenizer.json to export")
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder, max_shard_size="1000GB")
    _correct_tie_flag(folder / "config.json", tied=is_tied(model))
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, folder / name)
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}


def write_config(model: T5ForConditionalGeneration, folder: Path) -> dict[str, Path]:
    """Writes only the configuration, as `export` does.

    With weights next to it `raytrain.model.load` reads the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    _correct_tie_flag(folder / "config.json", tied=is_tied(model))
    files = {"config.json": folder / "config.json"}
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
        files["generation_config.json"] = folder / "generation_config.json"
    return files


def _correct_tie_flag(path: Path, *, tied: bool) -> None:
    """Corrects the flag that transformers 5 writes for every T5.

    Readers that trust it would tie and scale a FLAN-T5.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tie_word_embeddings"] = tied
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
