import json
import os
import string
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.text.tokenizer import EOS, Tokenizer
from data_prep.text.tokenizer_folder import read_tokenizer
from data_prep.text.unigram_document import RUNS_OF_SPACES
from raytrain_core.errors import DataError
from tests.support.data_prep_bench import t5_like

CHARACTERS = [chr(c) for c in range(0x20, 0x7F)] + ["\n", "\t", "  ", "    ", " " * 17]
CONTROL = ["</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_3>"]
texts = st.lists(st.sampled_from(CHARACTERS), max_size=60).map("".join)
texts_with_control = st.lists(st.sampled_from([*CHARACTERS, *CONTROL]), max_size=40).map("".join)
flat_texts = st.lists(st.text(string.ascii_letters + ".,:;()'", min_size=1, max_size=8), max_size=12).map(" ".join)


@cache
def control_ids(tokenizer: Tokenizer) -> set[int]:
    document = json.loads(tokenizer.files()["tokenizer.json"])
    return {token["id"] for token in document["added_tokens"] if token["special"]}


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_batch([text], 10_000)[0].tolist()


def check_lossless(tokenizer: Tokenizer, text: str) -> None:
    ids = encode(tokenizer, text)
    assert ids[-1] == EOS
    assert not control_ids(tokenizer).intersection(ids[:-1])
    assert tokenizer.decode(ids) == text


@given(text=texts_with_control)
@settings(max_examples=300)
def test_printable_ascii_with_white_space_and_control_literals_survives(tokenizer, text):
    check_lossless(tokenizer, text)


@given(text=flat_texts)
def test_single_spaced_text_gets_the_ids_of_the_tokenizer_it_came_from(tokenizer, base_tokenizer, text):
    assert encode(tokenizer, text) == base_tokenizer.encode(text).ids


def test_what_was_lost_has_pieces_of_its_own_after_all_others(tokenizer, base_tokenizer):
    assert tokenizer.added[:9] == ("<", "\\", "^", "`", "{", "}", "~", "\n", "\t")
    assert tokenizer.added[9:] == tuple("▁" * n for n in RUNS_OF_SPACES)
    assert tokenizer.size == base_tokenizer.get_vocab_size() + len(tokenizer.added)
    ids = encode(tokenizer, "a {\n    b\n}")
    assert [i for i in ids if i >= base_tokenizer.get_vocab_size()] == [
        base_tokenizer.get_vocab_size() + tokenizer.added.index(piece) for piece in ("{", "\n", "▁▁▁▁", "\n", "}")
    ]


def test_a_word_at_the_beginning_of_a_line_is_the_same_piece_as_inside_it(tokenizer):
    the = encode(tokenizer, "the")[0]
    assert encode(tokenizer, "a\nthe\tthe the").count(the) == 3


def test_line_ends_become_newlines(tokenizer):
    assert encode(tokenizer, "a\r\nb\rc") == encode(tokenizer, "a\nb\nc")


def test_counts_what_was_cut_and_what_is_unknown(tokenizer):
    encoded = tokenizer.encode_counted(["a b c d", "a", "", "\u4e2d a"], 4)
    assert [len(ids) for ids in encoded.ids] == [4, 2, 1, 4]
    assert [ids[-1] for ids in encoded.ids] == [EOS] * 4
    assert all(ids.dtype == np.uint16 for ids in encoded.ids)
    assert encoded.lengths.tolist()[1:4] == [2, 1, 4]
    assert (encoded.truncated, encoded.unknown) == (1, 1)
    whole = tokenizer.encode_batch(["a b c d"], 100)[0]
    assert encoded.ids[0].tolist() == [*whole[:3], EOS]
    with pytest.raises(ValueError, match="EOS"):
        tokenizer.encode_batch(["a"], 0)


def test_a_saved_one_comes_back_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = read_tokenizer(tmp_path)
    assert again.digest == tokenizer.digest
    assert again.added == ()
    again.save(tmp_path / "twice")
    for name in tokenizer.files():
        assert (tmp_path / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


@pytest.fixture(scope="module")
def auto_tokenizer(tokenizer, tmp_path_factory):
    """The same by plain transformers, from a folder that also says that its model is a T5."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("auto-tokenizer")
    tokenizer.save(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    return AutoTokenizer.from_pretrained(folder)


@given(text=texts_with_control)
def test_plain_auto_tokenizer_gives_the_same_ids_and_texts(tokenizer, auto_tokenizer, text):
    ids = auto_tokenizer(text)["input_ids"]
    assert ids == encode(tokenizer, text)
    assert auto_tokenizer.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids) == text


def test_plain_auto_tokenizer_knows_the_control_tokens(tokenizer, auto_tokenizer):
    assert (auto_tokenizer.pad_token_id, auto_tokenizer.eos_token_id, auto_tokenizer.unk_token_id) == (0, 1, 2)
    assert len(auto_tokenizer) == tokenizer.size
    assert set(auto_tokenizer.all_special_ids) == control_ids(tokenizer)
    assert auto_tokenizer.batch_decode([[5, 1, 0, 0]], skip_special_tokens=True)[0] == tokenizer.decode([5, 1, 0, 0])


def test_tokens_that_somebody_added_become_pieces_with_their_ids(tmp_path):
    base = t5_like()
    first = base.get_vocab_size()
    base.add_tokens(["{", "\n", "<turn>"])
    base.save(str(tmp_path / "tokenizer.json"))
    tokenizer = read_tokenizer(tmp_path)
    assert "{" not in tokenizer.added
    assert "\n" not in tokenizer.added
    ids = encode(tokenizer, "a{\n<turn> b")
    assert [i for i in ids if first <= i < first + 3] == [first, first + 1, first + 2]
    check_lossless(tokenizer, " a {\n<turn>\n\n b{ ")


@given(batch=st.lists(st.one_of(texts_with_control, st.text(max_size=20)), max_size=8))
def test_plain_texts_skip_the_normalizer_and_get_the_same_ids(tokenizer, batch):
    """Printable ASCII is written as the normalizer would write it.

    The other texts of a batch keep their places.
    """
    assert tokenizer._of_written is not None
    whole = [tokenizer._tokenizer.encode(text, add_special_tokens=False).ids for text in batch]
    assert [ids.tolist() for ids in tokenizer.encode_open(batch)] == whole


def test_a_normalizer_that_might_change_plain_texts_is_not_skipped(tmp_path):
    base = t5_like()
    base.normalizer = tokenizers.normalizers.Sequence([base.normalizer, tokenizers.normalizers.Replace("ing", "er")])
    base.save(str(tmp_path / "tokenizer.json"))
    tokenizer = read_tokenizer(tmp_path)
    assert encode(tokenizer, "ing (ing)") == encode(tokenizer, "er (er)")


def test_tokens_that_somebody_added_are_kept_as_the_tokens_they_are(tmp_path):
    base = t5_like()
    base.add_tokens(["<sep>"])
    base.add_special_tokens(["[EVENT]", "<extra_id_9>"])
    base.save(str(tmp_path / "tokenizer.json"))
    tokenizer = read_tokenizer(tmp_path)
    ids = {token: tokenizer.id_of(token) for token in ("<sep>", "[EVENT]", "<extra_id_9>")}
    for text in ("[EVENT] the text <sep> of", "a[EVENT]b<sep>c", "[EVENT][EVENT]", "the\n[EVENT]\t<sep>"):
        found = encode(tokenizer, text)
        assert found.count(ids["[EVENT]"]) == text.count("[EVENT]")
        assert found.count(ids["<sep>"]) == text.count("<sep>")
        check_lossless(tokenizer, text)
    assert ids["<extra_id_9>"] in control_ids(tokenizer)
    assert ids["<extra_id_9>"] not in encode(tokenizer, "a <extra_id_9> b")
    tokenizer.save(tmp_path / "saved")
    assert read_tokenizer(tmp_path / "saved").digest == tokenizer.digest


def _bpe(document):
    document["model"] = {"type": "BPE", "vocab": {"a": 0}, "merges": []}


def _swapped(document):
    vocabulary = document["model"]["vocab"]
    vocabulary[0], vocabulary[1] = vocabulary[1], vocabulary[0]


def _lowercase(document):
    document["normalizer"] = {"type": "Lowercase"}


def _bytes(document):
    document["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def _gap(document):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    document["added_tokens"].append({"id": 5000, "content": "far away", **flags})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_bpe, "its model is 'BPE'"),
        (_swapped, "id 0 is '</s>' instead of '<pad>'"),
        (_lowercase, "is not lossless"),
        (_bytes, "not by Metaspace"),
        (_gap, "id 5000"),
        (lambda d: d["model"].update(unk_id=3), "id 3 is .* instead of '<unk>'"),
        (lambda d: d["model"].update(unk_id=None), "no unknown token"),
        (lambda d: d["model"].update(byte_fallback=True), "has no pieces for all bytes"),
    ],
)
def test_other_tokenizers_are_refused_with_the_reason(base_folder, tmp_path, change, message):
    document = json.loads((base_folder / "tokenizer.json").read_text())
    change(document)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        read_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def t5():
    """The real vocabulary of T5, and the tokenizer that it came from."""
    folder = os.environ.get("RAYTRAIN_T5_TOKENIZER")
    if not folder:
        pytest.skip("RAYTRAIN_T5_TOKENIZER names no folder with T5's own tokenizer.json")
    return read_tokenizer(Path(folder)), tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def test_t5_itself_fits_into_the_spare_rows_of_its_models(t5):
    tokenizer, base = t5
    assert base.get_vocab_size() == 32_100
    assert tokenizer.size <= 32_128
    assert set(tokenizer.added) >= {*"{}<~\\^`", "\n", "\t"}


@given(text=texts_with_control, flat=flat_texts)
@settings(max_examples=300)
def test_t5_itself_loses_nothing_and_keeps_its_ids(t5, text, flat):
    tokenizer, base = t5
    check_lossless(tokenizer, text)
    assert tokenizer.unknown not in encode(tokenizer, text)
    assert encode(tokenizer, flat) == base.encode(flat).ids
