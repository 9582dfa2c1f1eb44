"""Recognises the split that a file or folder name stands for."""

import re
from pathlib import PurePosixPath

from data_prep.config import Split

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def split_of_name(name: str) -> Split | None:
    """Returns the split named in a path, the last part first.

    `data/train-00000-of-00002.parquet` is train.
    """
    for part in reversed(PurePosixPath(name).parts):
        words = re.split(r"[^a-z]+", part.lower())
        if found := {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}:
            return found.pop() if len(found) == 1 else None
    return None
