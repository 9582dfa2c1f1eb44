"""Loads the tokenizer of a model's folder, of whichever kind it is."""

from pathlib import Path

from data_prep.text.byte_tokenizer import ByteTokenizer
from data_prep.text.tokenizer import Tokenizer
from data_prep.text.tokenizer_kind import is_byte_folder
from data_prep.text.unigram import UnigramTokenizer


def read_tokenizer(folder: Path) -> Tokenizer:
    """Loads the tokenizer of a model folder; extends it if it would lose text.

    Raises DataError if it is of no kind that is known.
    """
    return ByteTokenizer.read(folder) if is_byte_folder(folder) else UnigramTokenizer.read(folder)
