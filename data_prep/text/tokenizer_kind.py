"""Which kind of tokenizer a model's folder has; to ask needs no numpy, which the client lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raytrain_core.errors import DataError

BYTE_TOKENIZER = "ByT5Tokenizer"
"""What transformers calls the tokenizer of ByT5."""


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder has a tokenizer of a kind that is known."""
    return (folder / "tokenizer.json").is_file() or is_byte_folder(folder)


def is_byte_folder(folder: Path) -> bool:
    """Whether a model folder names ByT5's tokenizer and has no tokenizer.json."""
    if (folder / "tokenizer.json").is_file():
        return False
    names = ("tokenizer_config.json", "config.json")
    return any(settings_in(folder / name).get("tokenizer_class") == BYTE_TOKENIZER for name in names)


def settings_in(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file, {} without one; DataError for what is not JSON."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    return found if isinstance(found, dict) else {}
