"""Which tokenizer the folder of a model has."""

from pathlib import Path

from data_prep.text.byte_tokenizer import ByteTokenizer, is_byte_folder
from data_prep.text.tokenizer import Tokenizer
from data_prep.text.unigram import UnigramTokenizer


def read_tokenizer(folder: Path) -> Tokenizer:
    """Loads the tokenizer of a model folder; extends it if it would lose text.

    Raises DataError if it is of no kind that is known.
    """
    return ByteTokenizer.read(folder) if is_byte_folder(folder) else UnigramTokenizer.read(folder)


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder has what `read_tokenizer` reads."""
    return (folder / "tokenizer.json").is_file() or is_byte_folder(folder)
