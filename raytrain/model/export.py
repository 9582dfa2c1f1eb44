"""The tuned model as a plain Hugging Face folder that needs nothing of ours to be used."""

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
    """Write weights, configuration and tokenizer into `folder`; returns its files by name, as `commit` wants them.

    Plain `AutoModelForSeq2SeqLM` and `AutoTokenizer` read it, with the same ids and logits.
    TrainingError if `tokenizer_folder` has no tokenizer.json.
    """
    if not (tokenizer_folder / "tokenizer.json").is_file():
        raise TrainingError(f"{tokenizer_folder} has no tokenizer.json to export")
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder, max_shard_size="1000GB")
    _tell_the_truth(folder / "config.json", tied=is_tied(model))
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, folder / name)
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}


def write_config(model: T5ForConditionalGeneration, folder: Path) -> dict[str, Path]:
    """Only the configuration, as `export` writes it: with a state beside it `raytrain.model.load` reads the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    _tell_the_truth(folder / "config.json", tied=is_tied(model))
    files = {"config.json": folder / "config.json"}
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
        files["generation_config.json"] = folder / "generation_config.json"
    return files


def _tell_the_truth(path: Path, *, tied: bool) -> None:
    """Transformers 5 writes "tied" for every T5; readers that trust it would tie and scale a FLAN-T5."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tie_word_embeddings"] = tied
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
