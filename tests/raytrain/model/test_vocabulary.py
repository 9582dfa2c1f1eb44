import json
import os
from pathlib import Path

import pytest
import torch

from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.model.export import export
from raytrain.model.loading import load
from raytrain.model.vocabulary import stand_ins
from tests.support.tiny_t5 import VOCABULARY, save_tiny


def test_new_pieces_start_as_what_they_stand_in_for(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", vocabulary=VOCABULARY)
    tokenizer = read_tokenizer(folder)
    assert tokenizer.added
    model = load(folder, tokenizer_size=tokenizer.size)
    found = stand_ins(tokenizer)
    assert sorted(found) == list(range(tokenizer.size - len(tokenizer.added), tokenizer.size))
    newline, space = tokenizer.id_of("\n"), tokenizer.id_of("▁")
    assert newline is not None
    assert space is not None
    assert torch.equal(model.shared.weight[newline], model.shared.weight[space])
    brace = tokenizer.id_of("{")  # this vocabulary has no bracket either
    assert brace is not None
    assert torch.equal(model.shared.weight[brace], model.shared.weight[tokenizer.unknown])


def test_old_rows_and_the_output_layer_stay(tmp_path: Path) -> None:
    from transformers import T5ForConditionalGeneration

    folder = save_tiny(tmp_path / "base", vocabulary=4 * VOCABULARY)
    tokenizer = read_tokenizer(folder)
    stock = T5ForConditionalGeneration.from_pretrained(folder)
    model = load(folder, tokenizer_size=tokenizer.size)
    old = min(stand_ins(tokenizer))
    assert torch.equal(model.shared.weight[:old], stock.shared.weight[:old])
    assert torch.equal(model.shared.weight[tokenizer.size :], stock.shared.weight[tokenizer.size :])
    assert torch.equal(model.lm_head.weight, stock.lm_head.weight)


def test_what_was_exported_is_loaded_as_it_is(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base")
    tokenizer = read_tokenizer(folder)
    model = load(folder, tokenizer_size=tokenizer.size)
    newline = tokenizer.id_of("\n")
    with torch.no_grad():
        model.shared.weight[newline] = 7.0
    tokenizer.save(tmp_path / "tokenizer")
    export(model, tmp_path / "tokenizer", tmp_path / "tuned")
    again = load(tmp_path / "tuned", tokenizer_size=tokenizer.size)
    assert torch.equal(again.shared.weight, model.shared.weight)


def test_the_real_vocabulary_knows_its_brackets() -> None:
    if not os.environ.get("RAYTRAIN_T5_TOKENIZER"):
        pytest.skip("RAYTRAIN_T5_TOKENIZER does not name a folder with the real T5 tokenizer")
    tokenizer = read_tokenizer(Path(os.environ["RAYTRAIN_T5_TOKENIZER"]))
    found = {tokenizer.added[new - min(stand_ins(tokenizer))]: old for new, old in stand_ins(tokenizer).items()}
    vocabulary = json.loads((Path(os.environ["RAYTRAIN_T5_TOKENIZER"]) / "tokenizer.json").read_text())["model"][
        "vocab"
    ]
    assert {piece: vocabulary[old][0] for piece, old in found.items()} == {
        "{": "(", "}": ")", "<": "(", "\n": "▁", "\t": "▁", "\\": "<unk>", "^": "<unk>", "`": "<unk>", "~": "<unk>",
        **{"▁" * n: "▁" for n in (2, 3, 4, 8, 12, 16)},
    }  # fmt: skip
