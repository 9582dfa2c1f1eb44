"""Where the pieces start that preparation adds to a vocabulary: braces, newlines, indentation.

FLAN-T5 has embedding rows to spare for them, but no text ever used those rows: they are as random
as on the first day of pre-training, and a newline would be noise in every prompt. So a new piece
starts where what it stands in for is: white space at the piece for a space, a brace at its bracket,
any other character at `<unk>`, which is what the model read in its place so far. The output layer
stays: it has learned from every text not to write these pieces.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.text.tokenizer import SPACE, UNK, Tokenizer

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

_STANDS_FOR = {"{": "(", "}": ")", "<": "(", "\n": SPACE, "\t": SPACE}


def stand_ins(tokenizer: Tokenizer) -> dict[int, int]:
    """Id of each piece that the extension added, to the id of the piece that it starts as; empty if there are none."""
    first = tokenizer.size - len(tokenizer.added)
    found = {}
    for number, piece in enumerate(tokenizer.added, first):
        stand_in = SPACE if set(piece) == {SPACE} else _STANDS_FOR.get(piece)
        old = tokenizer.id_of(stand_in) if stand_in else None
        found[number] = UNK if old is None or old >= first else old
    return found


def new_rows(folder: Path) -> range:
    """Ids of the pieces that the extension adds to the tokenizer of the base model in `folder`."""
    tokenizer = Tokenizer.from_folder(folder)
    return range(tokenizer.size - len(tokenizer.added), tokenizer.size)


def start(model: T5ForConditionalGeneration, folder: Path) -> None:
    """Put the embedding rows of new pieces where their stand-ins are; `folder` is the base model's."""
    import torch

    if not (folder / "tokenizer.json").is_file():  # a checkpoint: its rows were trained
        return
    with torch.no_grad():
        for new, old in stand_ins(Tokenizer.from_folder(folder)).items():
            if new < len(model.shared.weight):
                model.shared.weight[new] = model.shared.weight[old]
