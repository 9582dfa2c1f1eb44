"""A tokenizer.json like mT5's: bytes, sentinels as ordinary pieces, more than 65,536 pieces."""

import json
from pathlib import Path
from typing import Any

SENTINEL = "▁<extra_id_0>"


def multilingual_document(pieces: int = 70_000, *, byte_fallback: bool = False, unknown: int = 2) -> dict[str, Any]:
    """Returns the content of a tokenizer.json as converters write it for mT5 and UMT5."""
    special = ["<pad>", "</s>", "<unk>"] if unknown == 2 else ["<pad>", "</s>", "<s>", "<unk>"]
    letters = [chr(c) for c in range(0x21, 0x7F)]
    words = ["▁", *letters, *(f"▁{letter}" for letter in letters), "▁der", "▁и", "漢"]
    used = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *words, SENTINEL]
    fillers = [f"▁w{number}" for number in range(pieces - len(used))]
    whole = {SENTINEL, "▁der", *fillers}  # whole words win over their characters
    vocabulary = [[piece, -1.0 if piece in whole else -5.0] for piece in [*used[:-1], *fillers, SENTINEL]]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    model = {"type": "Unigram", "unk_id": unknown, "vocab": vocabulary, "byte_fallback": byte_fallback}
    return {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": token, **flags} for number, token in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": split,
        "post_processor": None,
        "decoder": split,
        "model": model,
    }


def save_multilingual(folder: Path, **options: Any) -> Path:
    """Writes it to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(multilingual_document(**options)))
    return folder
