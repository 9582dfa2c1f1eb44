"""The only way from text to ids and back: what both kinds of tokenizers have in common.

They are sentencepiece unigrams (`data_prep.text.unigram`: T5, mT5, UMT5) and the bytes of ByT5
(`data_prep.text.byte_tokenizer`); `data_prep.text.tokenizer_kind` tells which one a model has.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PAD, EOS = 0, 1

PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

Ids = NDArray[np.uint16] | NDArray[np.uint32]


def as_ids(ids: Sequence[int], size: int) -> Ids:
    """Returns ids of a vocabulary of `size` as stored: as uint32 only if uint16 is too small."""
    return np.array(ids, np.uint16) if size <= 1 << 16 else np.array(ids, np.uint32)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of texts, each ending in EOS, and how much was lost."""

    ids: list[Ids]
    lengths: NDArray[np.int64]
    """Tokens of each text with EOS, before truncation."""
    truncated: int
    """How many texts were truncated."""
    unknown: int
    """How many tokens in `ids` are `<unk>`."""


def finished(rows: Iterable[Ids], limit: int, unknown: int | None) -> Encoded:
    """Truncates rows of ids without EOS to `limit` and appends EOS; counts what was lost.

    `unknown` is the id of `<unk>`, None if there is none.
    """
    if limit < 1:
        raise ValueError("limit must leave room for EOS")
    ids, lengths = [], []
    for found in rows:
        row = np.empty(min(len(found) + 1, limit), found.dtype)
        row[:-1] = found[: limit - 1]
        row[-1] = EOS
        ids.append(row)
        lengths.append(len(found) + 1)
    all_lengths = np.array(lengths, np.int64)
    return Encoded(ids, all_lengths, int(np.count_nonzero(all_lengths > limit)), count(ids, unknown))


def count(rows: Sequence[Ids], token: int | None) -> int:
    """Returns how often a token occurs in rows of ids; 0 for None."""
    return int(np.count_nonzero(np.concatenate(rows) == token)) if rows and token is not None else 0


class Tokenizer(ABC):
    """Text to ids and back: pad is 0, the end of a text is 1."""

    unknown: int | None
    """The id of `<unk>`; None if every text has ids of its own."""
    added: tuple[str, ...] = ()
    """The tokens that preparation added to the vocabulary, in the order of their ids (the last
    ones)."""
    splits_at_spaces: bool
    """Whether a text's words begin with the space before them (`▁`), the first one with its own."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of ids; a model may have more embedding rows."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """The hex sha256 of everything that determines the ids."""

    @abstractmethod
    def id_of(self, token: str) -> int | None:
        """Returns the id of a token; None if the vocabulary does not contain it."""

    @abstractmethod
    def encode_open(self, texts: Sequence[str]) -> list[Ids]:
        """Returns all ids of each text, without EOS."""

    @abstractmethod
    def first_tokens(self, text: str, count: int) -> str:
        """Returns the beginning of `text` that its first `count` tokens stand for."""

    @abstractmethod
    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the token of each id as the vocabulary spells it."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of these ids without control tokens (pad, eos, unk, extra ids)."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Returns the files of a Hugging Face tokenizer folder, always with the same bytes."""

    def encode_batch(self, texts: Sequence[str], limit: int) -> list[Ids]:
        """Returns the ids of each text, at most `limit` with EOS at the end."""
        return self.encode_counted(texts, limit).ids

    def encode_counted(self, texts: Sequence[str], limit: int) -> Encoded:
        """Encodes like `encode_batch`, and counts truncated texts and unknown tokens."""
        return finished(self.encode_open(texts), limit, self.unknown)

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """Returns the texts of several rows of ids."""
        return [self.decode(ids) for ids in batch]

    def altered(self, texts: Iterable[tuple[Ids, str]]) -> int:
        """Returns how many of these texts differ from the text of their ids."""
        doubtful = [(ids, text) for ids, text in texts if not keeps(text)]
        back = self.decode_batch(ids.tolist() for ids, _ in doubtful)
        return sum(text != found for (_, text), found in zip(doubtful, back, strict=True))

    def save(self, folder: Path) -> None:
        """Writes a folder that plain `AutoTokenizer.from_pretrained` loads to the same ids."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files().items():
            (folder / name).write_bytes(data)


def keeps(text: str) -> bool:
    """Whether every tokenizer of this module is lossless for `text`.

    Printable ASCII, newlines and tabs.
    """
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()
