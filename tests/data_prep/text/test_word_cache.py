"""A text has the same ids, whether its words are looked up or the library encodes it whole."""

import json
import string

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text import word_cache
from data_prep.text.tokenizer import Tokenizer

PIECES = [*string.ascii_lowercase[:6], "<", "/", "s>", "</s>", "<extra_id_0>", " ", " ", " ", "\n", "\t", "-" * 33, "{"]
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@pytest.fixture(scope="module")
def plain(tokenizer: Tokenizer):
    """The same tokenizer by its library alone."""
    library = tokenizers.Tokenizer.from_str(json.dumps(json.loads(tokenizer.files()["tokenizer.json"])))
    library.encode_special_tokens = True
    return lambda text: library.encode(text, add_special_tokens=False).ids


@given(batch=st.lists(texts, max_size=6))
def test_ids_are_those_of_the_library(tokenizer, plain, batch):
    assert [ids.tolist() for ids in tokenizer.encode_open(batch)] == [plain(text) for text in batch]


def test_a_full_cache_is_begun_again(tokenizer, plain, monkeypatch):
    monkeypatch.setattr(word_cache, "WORDS", 5)
    for text in ("a b c", "d e f", "a f", "g h a b c d e f"):
        assert [ids.tolist() for ids in tokenizer.encode_open([text, text])] == [plain(text)] * 2


def test_a_known_word_is_not_encoded_again():
    asked = []

    def encode(words):
        asked.extend(words)
        return [np.array([len(word)], np.uint16) for word in words]

    cache = word_cache.WordCache(encode, ["</s>"], 100)
    assert [ids.tolist() for ids in cache.encode(["one two two", "</s> two  x"])] == [[3, 3, 3], [11]]
    assert [ids.tolist() for ids in cache.encode(["two one"])] == [[3, 3]]
    assert asked == ["</s> two  x", "one", "two"]
