"""Initial embeddings of the tokens that preparation adds: braces, newlines, indentation.

FLAN-T5 has spare embedding rows for them, but no text ever used those rows: they are as random as
at the start of pre-training, and a newline would be noise in every prompt. So a new token starts
from the row of its closest stand-in: white space from the space, a brace from its bracket, any
other character from `<unk>`, which is what the model has read in its place so far. The output layer
is left alone: every text has taught it not to write these tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.text.tokenizer import Tokenizer
from data_prep.text.tokenizer_folder import read_tokenizer
from data_prep.text.tokenizer_kind import has_tokenizer
from data_prep.text.unigram_document import SPACE

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

_STAND_IN = {"{": "(", "}": ")", "<": "(", "\n": SPACE, "\t": SPACE}


def stand_ins(tokenizer: Tokenizer) -> dict[int, int]:
    """Maps the id of each added token to the id of the token whose row it starts from."""
    first = tokenizer.size - len(tokenizer.added)
    ids = {}
    for number, piece in enumerate(tokenizer.added, first):
        stand_in = SPACE if set(piece) == {SPACE} else _STAND_IN.get(piece)
        old = tokenizer.id_of(stand_in) if stand_in else None
        ids[number] = (tokenizer.unknown or 0) if old is None or old >= first else old
    return ids


def new_rows(folder: Path) -> range:
    """Returns the ids of the tokens that are added to the tokenizer in `folder`."""
    tokenizer = read_tokenizer(folder)
    return range(tokenizer.size - len(tokenizer.added), tokenizer.size)


def initialize_new_rows(model: T5ForConditionalGeneration, folder: Path) -> None:
    """Copies the embedding rows of stand-ins to the rows of added tokens.

    `folder` is the base model's.
    """
    import torch

    if not has_tokenizer(folder):  # a checkpoint: its rows were trained
        return
    with torch.no_grad():
        for new, old in stand_ins(read_tokenizer(folder)).items():
            if new < len(model.shared.weight):
                model.shared.weight[new] = model.shared.weight[old]
