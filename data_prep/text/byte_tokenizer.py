"""ByT5's tokenizer: the bytes of a text in UTF-8, each with an id of its own.

Byte b has the id b + 3, after pad, eos and unk, and the sentinels `<extra_id_0>` ... follow the
bytes (Xue et al. 2021, arXiv:2105.13626). A model folder has no file with a vocabulary. Ids equal
those of transformers' `ByT5Tokenizer`, except that a control token's name in a text stays text.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from data_prep.text.tokenizer import EOS, PAD, Ids, Tokenizer
from data_prep.text.tokenizer_kind import BYTE_TOKENIZER, settings_in
from raytrain_core.errors import DataError

_NAMES = {PAD: "<pad>", EOS: "</s>", 2: "<unk>"}
_OFFSET = len(_NAMES)
_SENTINELS = 125


class ByteTokenizer(Tokenizer):
    """Bytes as tokens: every text is kept."""

    unknown = None
    splits_at_spaces = False

    def __init__(self, sentinels: int = _SENTINELS) -> None:
        self._sentinels = sentinels

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the number of sentinels; DataError if other tokens were added."""
        path = folder / "tokenizer_config.json"
        config = settings_in(path)
        sentinels = int(config.get("extra_ids") or _SENTINELS)
        known = {*_NAMES.values(), *(f"<extra_id_{i}>" for i in range(sentinels))}
        added = [str(token.get("content")) for token in (config.get("added_tokens_decoder") or {}).values()]
        if foreign := sorted(set(added) - known):
            raise DataError(
                f"{path}: it adds tokens to ByT5's bytes: {', '.join(foreign[:3])}",
                hint="use the tokenizer of the published ByT5 models",
            )
        return cls(sentinels)

    @property
    def size(self) -> int:
        """Bytes, control tokens and sentinels."""
        return _OFFSET + 256 + self._sentinels

    @property
    def digest(self) -> str:
        """The hex sha256 of the rule and the number of sentinels."""
        return hashlib.sha256(f"bytes\0{_OFFSET}\0{self._sentinels}".encode()).hexdigest()

    def id_of(self, token: str) -> int | None:
        """Returns the id of a control token, a sentinel or a character below 256."""
        named = {name: number for number, name in _NAMES.items()}
        named |= {f"<extra_id_{i}>": _OFFSET + 256 + i for i in range(self._sentinels)}
        if token in named:
            return named[token]
        return ord(token) + _OFFSET if len(token) == 1 and ord(token) < 256 else None

    def encode_open(self, texts: Sequence[str]) -> list[Ids]:
        """Returns the ids of each text's bytes, without EOS."""
        return [np.frombuffer(text.encode(), np.uint8) + np.uint16(_OFFSET) for text in texts]

    def first_tokens(self, text: str, count: int) -> str:
        """Returns the characters that lie whole within the first `count` bytes."""
        return text.encode()[:count].decode(errors="ignore")

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the token of each id as `ByT5Tokenizer` spells it: a byte as its character."""
        return [self._token(int(number)) for number in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of these ids, as transformers without bytes that are no UTF-8."""
        found = bytes(number - _OFFSET for number in map(int, ids) if _OFFSET <= number < _OFFSET + 256)
        return found.decode(errors="ignore")

    def files(self) -> dict[str, bytes]:
        """Returns the configuration with which `AutoTokenizer` makes a `ByT5Tokenizer`."""
        config = {
            "tokenizer_class": BYTE_TOKENIZER,
            "pad_token": _NAMES[PAD],
            "eos_token": _NAMES[EOS],
            "unk_token": _NAMES[2],
            "extra_ids": self._sentinels,
            "split_special_tokens": True,  # keeps literals such as </s> in a text as text
            "clean_up_tokenization_spaces": False,
        }
        return {"tokenizer_config.json": (json.dumps(config, indent=1) + "\n").encode()}

    def _token(self, number: int) -> str:
        if number < _OFFSET:
            return _NAMES[number]
        return chr(number - _OFFSET) if number < _OFFSET + 256 else f"<extra_id_{number - _OFFSET - 256}>"
