"""Each family of models loads, decodes and exports with the logits that transformers computes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.generation.generator import Generator
from raytrain.generation.requests import GenerationLimits, GenerationRequest
from raytrain.model.export import export
from raytrain.model.families import model_class, scales_output
from raytrain.model.loading import HEAD, is_tied, load
from raytrain.model.source import check_folder
from raytrain_core.errors import TrainingError
from tests.support.tiny_t5 import VOCABULARY, logits, save_tiny

FAMILIES = {
    "T5": {"tied": True, "feed_forward": "relu"},
    "T5 v1.1": {},
    "T5-efficient, deep and narrow": {
        "tied": True,
        "feed_forward": "relu",
        "layers": 5,
        "decoder_layers": 2,
        "width": 16,
    },
    "gated silu": {"feed_forward": "gated-silu"},
    "mT5": {"kind": "mt5"},
    "mT5, tied": {"kind": "mt5", "tied": True},
    "UMT5": {"kind": "umt5", "layers": 3},
    "UMT5, tied": {"kind": "umt5", "tied": True},
}
WORDS = ["abc", "defg", "hi", "jklmno", "", "xyz"]
PROMPTS = [" ".join(WORDS[i % 6 :] * (1 + i % 5)) for i in range(12)]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("family") / "model", **FAMILIES[request.param])


def stock(folder):
    """What transformers loads; an untied UMT5 does not scale, as its config.json says."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    if model.config.model_type == "umt5":
        model.config.tie_word_embeddings = json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    return model


def responsive(model):
    """Makes a random model depend on its prompt and sometimes end: untrained ones do neither."""
    with torch.no_grad():
        for block in model.decoder.block:
            block.layer[1].EncDecAttention.o.weight.mul_(40)
            attention = block.layer[0].SelfAttention
            if attention.has_relative_attention_bias:
                attention.relative_attention_bias.weight.mul_(20)
        if not is_tied(model):
            model.lm_head.weight[1] *= 1.5
    return model


def test_loads_as_transformers_does(folder):
    model = load(check_folder(folder, "it"), tokenizer_size=VOCABULARY)
    assert is_tied(model) is json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    assert torch.equal(logits(model), logits(stock(folder)))


@pytest.mark.parametrize("beams", [1, 3])
def test_generates_what_transformers_generates(folder, beams):
    tokenizer = read_tokenizer(folder)
    model, plain = responsive(load(folder, tokenizer_size=VOCABULARY)), responsive(stock(folder))
    limits = GenerationLimits(max_input_tokens=64, max_new_tokens=12, beams=beams)
    requests = [GenerationRequest(prompt, "abc") for prompt in PROMPTS]
    generations = Generator(model, tokenizer, limits, device="cpu").generate(requests)
    label = torch.tensor([tokenizer.encode_batch(["abc"], 12)[0].tolist()])
    for prompt, generation in zip(PROMPTS, generations, strict=True):
        ids = torch.tensor([tokenizer.encode_batch([prompt], 64)[0].tolist()])
        written = plain.generate(ids, max_new_tokens=12, do_sample=False, num_beams=beams)[0, 1:].tolist()
        expected = written[: written.index(1)] if 1 in written else written
        assert generation.text == tokenizer.decode([i for i in expected if i])
        with torch.no_grad():
            loss = float(plain(input_ids=ids, labels=label).loss) * label.shape[1]
        assert generation.loss == pytest.approx(loss, rel=1e-5)
    assert len({generation.text for generation in generations}) > 2


def test_an_export_keeps_every_logit(folder, tmp_path):
    model = load(folder, tokenizer_size=VOCABULARY + 3)  # with rows for added tokens
    files = export(model, folder, tmp_path / "out")
    config = json.loads(files["config.json"].read_text())
    assert (config["model_type"], config["tie_word_embeddings"]) == (model.config.model_type, is_tied(model))
    assert torch.equal(logits(stock(tmp_path / "out")), logits(model))
    assert torch.equal(logits(load(tmp_path / "out", tokenizer_size=VOCABULARY)), logits(model))


@pytest.mark.parametrize(
    ("kind", "tied", "scaled"),
    [
        *(("t5", True, True), ("t5", False, False), ("mt5", True, False)),
        *(("mt5", False, False), ("umt5", True, True), ("umt5", False, False)),
    ],
)
def test_only_a_tied_head_is_scaled(tmp_path, kind, tied, scaled):
    folder = save_tiny(tmp_path / "model", kind=kind, tied=tied)
    model = load(folder, tokenizer_size=VOCABULARY)
    assert scales_output(model) is scaled
    with torch.no_grad():
        ids = torch.arange(3, 12)[None]
        hidden = model.decoder(input_ids=ids, encoder_hidden_states=model.encoder(input_ids=ids)[0])[0]
        found = model(input_ids=ids, decoder_input_ids=ids).logits
    assert torch.allclose(found, model.lm_head(hidden * (32**-0.5 if scaled else 1.0)), atol=1e-6)


def test_transformers_still_scales_an_untied_umt5(tmp_path):
    """If this fails, transformers has changed, and its flag need not be set after loading."""
    folder = save_tiny(tmp_path / "model", kind="umt5")
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    assert plain.config.tie_word_embeddings is True
    assert torch.allclose(logits(plain) * 32**0.5, logits(load(folder, tokenizer_size=VOCABULARY)), atol=1e-5)


def test_umt5_has_a_bias_in_every_layer(tmp_path):
    model = load(save_tiny(tmp_path / "model", kind="umt5", layers=3), tokenizer_size=VOCABULARY)
    assert sum("relative_attention_bias" in name for name, _ in model.named_parameters()) == 6
    assert type(model) is model_class("umt5")


def test_a_missing_output_layer_is_not_tied_in_silence(tmp_path):
    folder = save_tiny(tmp_path / "model", kind="mt5")
    tensors = load_file(folder / "model.safetensors")
    del tensors[HEAD]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match=r"output layer of its own .* no lm_head.weight"):
        load(folder, tokenizer_size=VOCABULARY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bart"}, "model_type 'bart', which has BART's layers"),
        ({"model_type": "t5gemma"}, "model_type 't5gemma', which has Gemma's layers"),
        ({"model_type": "llama"}, "model_type 'llama', which has no encoder"),
        ({"model_type": "new"}, "model_type 'new'\\n"),
        ({"architectures": ["T5EncoderModel"]}, "T5EncoderModel, which cannot generate"),
    ],
)
def test_models_of_other_kinds_are_refused(tmp_path, change, message):
    folder = save_tiny(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(TrainingError, match=message) as caught:
        check_folder(folder, "it")
    assert caught.value.hint
