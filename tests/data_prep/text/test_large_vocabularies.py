"""Tokenizers like those of mT5 and UMT5: bytes for what has no piece, ids beyond 65,535."""

import json
import pickle

import numpy as np
import pytest
import tokenizers

from data_prep.text.tokenizer import as_ids
from data_prep.text.tokenizer_folder import read_tokenizer
from tests.support.multilingual import SENTINEL, multilingual_document, save_multilingual


@pytest.fixture(scope="module", params=[2, 3], ids=["like mT5", "like UMT5"])
def folder(request, tmp_path_factory):
    return save_multilingual(tmp_path_factory.mktemp("multilingual"), unknown=request.param)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return read_tokenizer(folder)


def test_ids_beyond_16_bits_are_kept(tokenizer):
    (ids,) = tokenizer.encode_batch(["w69000 w68999 x"], 50)
    assert ids.dtype == np.uint32
    assert ids.max() > 65_535
    assert tokenizer.decode(ids) == "w69000 w68999 x"


@pytest.mark.parametrize(("size", "kind"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_the_type_of_ids_follows_the_vocabulary(size, kind):
    assert as_ids([size - 1], size).dtype == kind
    assert as_ids([size - 1], size).tolist() == [size - 1]


def test_plain_text_has_the_ids_of_the_tokenizer_it_came_from(folder, tokenizer):
    base = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in ("w69000 der x", "a", "漢 и w7"):
        assert tokenizer.encode_open([text])[0].tolist() == base.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", ["é漢字🙂", "a {b}\n\t  c", "𝔘nicode ☃ 𓀀", "\u00a0x", "Ж\nЖ"])
def test_what_has_no_piece_becomes_bytes(tokenizer, text):
    (ids,) = tokenizer.encode_open([text])
    assert tokenizer.unknown not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.altered([(ids, text)]) == 0


@pytest.mark.parametrize("text", ["<extra_id_0>", "a <extra_id_0> b", "<0x41>", "x<0x0A>y <0xFF>", "</s><unk> <s>"])
def test_names_of_sentinels_and_bytes_in_a_text_stay_text(tokenizer, text):
    (ids,) = tokenizer.encode_open([text])
    assert tokenizer.id_of(SENTINEL) not in ids
    assert tokenizer.decode(ids) == text


def test_white_space_is_all_that_is_added(tokenizer):
    assert tokenizer.added == ("\n", "\t", *("▁" * n for n in (2, 3, 4, 8, 12, 16)))
    assert tokenizer.size == 70_008  # mT5 has 12 spare rows, UMT5 84


def test_a_saved_folder_has_the_same_ids_anywhere(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    plain, again = AutoTokenizer.from_pretrained(tmp_path), read_tokenizer(tmp_path)
    assert again.digest == tokenizer.digest
    for text in ("w69000 é {\n  x", "a <extra_id_0> </s>"):
        ids = tokenizer.encode_batch([text], 99)[0].tolist()
        assert plain(text).input_ids == ids
        assert plain.decode(ids, skip_special_tokens=True) == text
        assert pickle.loads(pickle.dumps(tokenizer)).encode_batch([text], 99)[0].tolist() == ids


def test_byte_fallback_needs_all_bytes(tmp_path):
    document = multilingual_document(1000, byte_fallback=True)
    document["model"]["vocab"][10][0] = "missing"
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(Exception, match="no pieces for all bytes"):
        read_tokenizer(tmp_path)
