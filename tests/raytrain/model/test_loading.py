"""No way of loading, growing, restoring or exporting may tie an untied model or change a logit."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5ForConditionalGeneration

from raytrain.model.export import export, write_config
from raytrain.model.loading import is_tied, load, load_state
from raytrain_core.errors import TrainingError
from tests.support.tiny_t5 import VOCABULARY, logits, save_tiny, state, tiny_model, tiny_tokenizer

BOTH = pytest.mark.parametrize("tied", [True, False])
KINDS = pytest.mark.parametrize(("tied", "feed_forward"), [(True, "relu"), (False, "gated-gelu")])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


@KINDS
def test_loads_what_transformers_would(folder, tied, feed_forward):
    save_tiny(folder, tied=tied, feed_forward=feed_forward)
    model = load(folder, tokenizer_size=VOCABULARY)
    stock = T5ForConditionalGeneration.from_pretrained(folder).eval()
    assert is_tied(model) is tied
    assert model.config.scale_decoder_outputs is tied
    assert next(model.parameters()).dtype == torch.float32
    assert torch.equal(logits(model), logits(stock))
    assert torch.equal(logits(model), logits(tiny_model(tied=tied, feed_forward=feed_forward)))


def test_bf16_weights_come_as_fp32(folder):
    save_tiny(folder)
    tensors = {k: v.bfloat16() for k, v in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert {p.dtype for p in load(folder, tokenizer_size=1).parameters()} == {torch.float32}


def test_an_untied_model_cannot_be_tied_again(folder):
    save_tiny(folder)
    model = load(folder, tokenizer_size=VOCABULARY)
    before = logits(model)
    model.tie_weights()
    assert not is_tied(model)
    assert torch.equal(logits(model), before)
    model.resize_token_embeddings(VOCABULARY + 8)
    assert not is_tied(model)
    assert torch.equal(logits(model)[..., :VOCABULARY], before)


def test_the_traps_are_still_there_in_transformers(folder):
    """If one of these fails, transformers has changed and what guards against it may be dropped."""
    save_tiny(folder)

    def stock(**options):
        return T5ForConditionalGeneration.from_pretrained(folder, **options)

    model = stock()
    right = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.tie_weights()
    assert is_tied(model)
    model = stock()
    model.resize_token_embeddings(VOCABULARY + 8)
    assert is_tied(model)
    fresh = T5ForConditionalGeneration(model.config)
    assert fresh.load_state_dict(
        {k: v for k, v in right.items() if v.shape == fresh.state_dict()[k].shape}, strict=False
    )
    assert is_tied(fresh)
    apart = stock(tie_word_embeddings=False)
    assert not torch.equal(apart.encoder.embed_tokens.weight, right["shared.weight"])
    stock().save_pretrained(folder / "again")
    assert json.loads((folder / "again" / "config.json").read_text())["tie_word_embeddings"] is True


@BOTH
def test_no_path_of_ours_falls_into_them(folder, tmp_path, tied):
    """Tying, growing, restoring into a fresh model, saving: tables stay tied or untied."""
    save_tiny(folder, tied=tied)
    model = load(folder, tokenizer_size=VOCABULARY)
    before = logits(model)
    model.tie_weights()
    assert is_tied(model) is tied
    assert torch.equal(logits(model), before)
    grown = load(folder, tokenizer_size=VOCABULARY + 8)
    assert is_tied(grown) is tied
    assert torch.equal(logits(grown)[..., :VOCABULARY], before)
    other = load(folder, tokenizer_size=VOCABULARY)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_state(other, state(model))
    assert is_tied(other) is tied
    assert torch.equal(logits(other), before)
    assert model.encoder.embed_tokens.weight is model.shared.weight
    files = export(model, folder, tmp_path / "out")
    assert json.loads(files["config.json"].read_text())["tie_word_embeddings"] is tied
    assert is_tied(load(tmp_path / "out", tokenizer_size=VOCABULARY)) is tied


@BOTH
def test_no_step_and_an_export_change_no_logit(folder, tmp_path, tied):
    """from_pretrained, a trainer without a step, its checkpoint, the export, transformers."""
    from raytrain.config.training import TrainingSpec
    from raytrain.training.trainer import Trainer

    save_tiny(folder, tied=tied)
    trainer = Trainer(load(folder, tokenizer_size=VOCABULARY), TrainingSpec(steps=0), ["only"])
    snapshot = trainer.snapshot(next_row=0)
    model = load(folder, tokenizer_size=VOCABULARY)
    load_state(model, snapshot.weights)
    export(model, folder, tmp_path / "out")
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    stock = T5ForConditionalGeneration.from_pretrained(folder).eval()
    assert (logits(plain) - logits(stock)).abs().max() == 0


def test_equal_tables_of_an_untied_model_stay_two(folder):
    save_tiny(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["shared.weight"].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert not is_tied(load(folder, tokenizer_size=VOCABULARY))


@BOTH
def test_rows_are_added_without_changing_a_logit(folder, tied):
    save_tiny(folder, tied=tied)
    before = logits(load(folder, tokenizer_size=VOCABULARY))
    model = load(folder, tokenizer_size=VOCABULARY + 3)
    rows = VOCABULARY + 8  # the next multiple of 8
    assert model.shared.weight.shape[0] == model.lm_head.weight.shape[0] == model.config.vocab_size == rows
    assert is_tied(model) is tied
    assert model.encoder.embed_tokens.weight is model.shared.weight is model.decoder.embed_tokens.weight
    assert torch.equal(logits(model)[..., :VOCABULARY], before)
    assert torch.equal(state(model)["shared.weight"], state(load(folder, tokenizer_size=rows))["shared.weight"])
    new = model.shared.weight[VOCABULARY:]
    assert new.std() > 0.1 * model.shared.weight[:VOCABULARY].std()


@BOTH
def test_fewer_tokens_than_rows_change_nothing(folder, tied):
    save_tiny(folder, tied=tied)
    assert load(folder, tokenizer_size=10).shared.num_embeddings == VOCABULARY


@BOTH
def test_state_survives_a_file_without_tying(folder, tmp_path, tied):
    """The trap: `load_state_dict` reports "all keys matched" and overwrites one table."""
    save_tiny(folder, tied=tied)
    trained = load(folder, tokenizer_size=VOCABULARY)
    with torch.no_grad():
        for number, parameter in enumerate(trained.parameters()):
            parameter.add_(0.01 * (number + 1))
    save_file(state(trained), tmp_path / "state.safetensors")
    other = load(folder, tokenizer_size=VOCABULARY)
    load_state(other, load_file(tmp_path / "state.safetensors"))
    assert is_tied(other) is tied
    assert torch.equal(logits(other), logits(trained))
    if not tied:
        assert not torch.equal(other.lm_head.weight, other.shared.weight)


@BOTH
def test_a_state_next_to_its_configuration_is_a_model(folder, tmp_path, tied):
    save_tiny(folder, tied=tied)
    model = load(folder, tokenizer_size=VOCABULARY + 1)
    place = tmp_path / "checkpoint"
    write_config(model, place)
    save_file(state(model), place / "model.safetensors", {"format": "pt"})
    again = load(place, tokenizer_size=VOCABULARY + 1)
    assert is_tied(again) is tied
    assert torch.equal(logits(again), logits(model))


def test_a_foreign_state_is_refused(folder):
    save_tiny(folder)
    model = load(folder, tokenizer_size=VOCABULARY)
    tensors = state(model)
    with pytest.raises(TrainingError, match=r"lm_head.weight on one side only"):
        load_state(model, {k: v for k, v in tensors.items() if k != "lm_head.weight"})
    with pytest.raises(TrainingError, match=r"lm_head.weight is \[3, 32\], not \[96, 32\]"):
        load_state(model, {**tensors, "lm_head.weight": tensors["lm_head.weight"][:3]})


@KINDS
@pytest.mark.parametrize("extra", [0, 5])
def test_export_gives_the_same_logits_and_ids_by_plain_auto_classes(folder, tmp_path, tied, feed_forward, extra):
    save_tiny(folder, tied=tied, feed_forward=feed_forward)
    model = load(folder, tokenizer_size=VOCABULARY + extra)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    files = export(model, folder, tmp_path / "exported")
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files.keys()
    assert json.loads(files["config.json"].read_text())["tie_word_embeddings"] is tied
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "exported").eval()
    assert is_tied(plain) is tied
    assert (logits(plain) - logits(model)).abs().max() == 0
    text = "the quick brown fox"
    ours = AutoTokenizer.from_pretrained(folder)(text).input_ids
    assert AutoTokenizer.from_pretrained(tmp_path / "exported")(text).input_ids == ours
    assert ours[-1] == 1
    again = export(load(tmp_path / "exported", tokenizer_size=VOCABULARY + extra), folder, tmp_path / "again")
    assert again["model.safetensors"].read_bytes() == files["model.safetensors"].read_bytes()


def test_export_needs_a_tokenizer(tmp_path):
    with pytest.raises(TrainingError, match=r"no tokenizer.json"):
        export(tiny_model(), tmp_path, tmp_path / "out")


def test_damaged_weights_are_named(folder):
    save_tiny(folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match=r"model.safetensors is damaged"):
        load(folder, tokenizer_size=VOCABULARY)


def test_weights_of_another_shape_are_named(folder):
    save_tiny(folder)
    save_tiny(folder / "other", width=40)
    (folder / "model.safetensors").write_bytes((folder / "other" / "model.safetensors").read_bytes())
    with pytest.raises(TrainingError, match=r"model .*model.*(shape|size|mismatch)"):
        load(folder, tokenizer_size=VOCABULARY)


def test_a_missing_layer_is_named(folder):
    save_tiny(folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["decoder.block.1.layer.1.EncDecAttention.q.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match=r"decoder.block.1.layer.1.EncDecAttention.q.weight"):
        load(folder, tokenizer_size=VOCABULARY)


def test_the_room_opens_without_torch():
    code = "import sys, raytrain.model; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'boto3')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tokenizer_of_the_tests_is_t5_like(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer(tmp_path))
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
