"""ByT5's tokenizer: ids of transformers' ByT5Tokenizer, without transformers and without loss."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text.byte_tokenizer import ByteTokenizer
from data_prep.text.fit_prompt import fit_prompt
from data_prep.text.prompts import PromptEncoder
from data_prep.text.templates import Template
from data_prep.text.tokenizer_folder import read_tokenizer
from data_prep.text.tokenizer_kind import has_tokenizer
from raytrain_core.errors import DataError

texts = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.fixture(scope="module")
def tokenizer():
    return ByteTokenizer()


@pytest.fixture(scope="module")
def reference():
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(split_special_tokens=True)


@given(text=texts)
def test_ids_and_text_are_those_of_transformers(tokenizer, reference, text):
    (ids,) = tokenizer.encode_batch([text], 1000)
    assert ids.tolist() == reference(text).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.tokens(ids) == reference.convert_ids_to_tokens(ids.tolist())


@given(ids=st.lists(st.integers(0, 383), max_size=40))
def test_any_generated_ids_decode_as_in_transformers(tokenizer, reference, ids):
    assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)


def test_the_vocabulary_is_that_of_transformers(tokenizer, reference):
    assert tokenizer.size == len(reference) == 384
    for token in ("<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_124>", "a", "\n", "ÿ"):
        assert tokenizer.id_of(token) == reference.convert_tokens_to_ids(token), token
    assert (tokenizer.id_of("<extra_id_125>"), tokenizer.id_of("漢"), tokenizer.id_of("ab")) == (None, None, None)
    assert (tokenizer.unknown, tokenizer.added) == (None, ())


def test_a_saved_folder_loads_everywhere(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    assert has_tokenizer(tmp_path)
    assert read_tokenizer(tmp_path).digest == tokenizer.digest
    text = "a</s> <extra_id_0>é "
    assert AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == tokenizer.encode_batch([text], 99)[0].tolist()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_folder_names_it_without_a_vocabulary_file(tmp_path, name):
    assert not has_tokenizer(tmp_path)
    (tmp_path / name).write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    assert read_tokenizer(tmp_path).size == 384


def test_a_folder_that_transformers_saved(reference, tmp_path):
    reference.save_pretrained(tmp_path)
    assert read_tokenizer(tmp_path).size == 384


def test_tokens_added_to_the_bytes_are_refused_by_name(reference, tmp_path):
    from transformers import ByT5Tokenizer

    more = ByT5Tokenizer()
    more.add_tokens(["[EVENT]"])
    more.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"adds tokens to ByT5's bytes: \[EVENT\]"):
        read_tokenizer(tmp_path)


def test_cut_texts_end_between_characters(tokenizer):
    assert tokenizer.first_tokens("aé漢", 3) == "aé"
    assert tokenizer.first_tokens("aé漢", 2) == "a"
    template = Template(("", "\nSummary:"))
    fitting = fit_prompt(tokenizer, template, "漢字" * 20, 40)
    assert fitting == template.render("漢字" * 5)
    encoded = tokenizer.encode_counted(["abcdef"], 4)
    assert (encoded.ids[0].tolist(), encoded.truncated, encoded.unknown) == ([100, 101, 102, 1], 1, 0)


@given(inputs=st.lists(texts, min_size=1, max_size=4))
def test_prompts_in_templates_are_those_of_the_complete_prompt(tokenizer, inputs):
    templates = [Template(("Summarize: ", "")), Template(("", "")), Template(("", "\n\nTL;DR ", ""))]
    encoder = PromptEncoder(tokenizer, templates, inputs)
    for number, template in enumerate(templates):
        prompts = [template.render(text) for text in inputs]
        found = encoder.encode(prompts, [number] * len(inputs), 500)
        assert [ids.tolist() for ids in found.ids] == [ids.tolist() for ids in tokenizer.encode_batch(prompts, 500)]
    assert encoder.altered() == 0
