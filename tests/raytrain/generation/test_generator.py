"""Greedy generation equals that of transformers, whatever else is in the batch."""

import json

import pytest
import torch
from transformers import T5ForConditionalGeneration

from data_prep.text.tokenizer import EOS
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.generation.generator import Generator, load_model
from raytrain.generation.requests import GenerationLimits, GenerationRequest, ModelRef
from raytrain.generation.t5_engine import T5Engine, _Head
from raytrain.model.export import export
from raytrain.model.loading import load
from raytrain_core.errors import StorageError, TrainingError
from raytrain_core.storage import CorruptError, open_store
from raytrain_core.storage.commit import commit
from tests.support.tiny_t5 import save_tiny, state

WORDS = ["abc", "defg", "hi", "jklmno", "", "xyz"]
PROMPTS = [" ".join(WORDS[i % 6 :] * (1 + i % 5)) for i in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return read_tokenizer(folder)


def generator(model, tokenizer, **limits):
    return Generator(
        model, tokenizer, GenerationLimits(**{"max_input_tokens": 64, "max_new_tokens": 12, **limits}), device="cpu"
    )


def make_responsive(model):
    """Makes a random model depend on its prompt and sometimes end: untrained ones do neither."""
    with torch.no_grad():
        for block in model.decoder.block:
            block.layer[1].EncDecAttention.o.weight.mul_(40)
        model.lm_head.weight[1] *= 1.5
    return model


def test_greedy_generation_equals_transformers_generate(folder, tokenizer):
    model = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    generations = generator(model, tokenizer).generate(PROMPTS)
    stock = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    for prompt, generation in zip(PROMPTS, generations, strict=True):
        ids = torch.tensor([tokenizer.encode_batch([prompt], 64)[0].tolist()])
        written = stock.generate(ids, max_new_tokens=12, do_sample=False, num_beams=1)[0, 1:].tolist()
        expected = written[: written.index(1)] if 1 in written else written
        assert generation.text == tokenizer.decode(expected)
        assert generation.tokens == len(expected)
        assert generation.cut_off == (1 not in written)
    assert len({generation.text for generation in generations}) > 8
    assert any(generation.cut_off for generation in generations)
    assert not all(generation.cut_off for generation in generations)


def test_in_bf16_losses_differ_by_its_rounding_alone(folder, tokenizer):
    """The residual stream and the logits stay in fp32: rounding does not add up over layers."""

    def losses(dtype):
        model = make_responsive(load(folder, tokenizer_size=tokenizer.size))
        found = Generator(model, tokenizer, GenerationLimits(64, 12), device="cpu", dtype=dtype)
        requests = [GenerationRequest(prompt, target="and then they went home") for prompt in PROMPTS]
        return [(g.loss, g.text) for g in found.generate(requests)]

    exact, rounded = losses(torch.float32), losses(torch.bfloat16)
    assert [loss for loss, _ in rounded] == pytest.approx([loss for loss, _ in exact], rel=0.02)
    assert rounded != exact
    assert sum(a == b for (_, a), (_, b) in zip(exact, rounded, strict=True)) > len(PROMPTS) // 2


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_a_prompt_is_encoded_as_alone_whatever_is_beside_it(folder, tokenizer, dtype, off):
    """Also the longest one, of 50 tokens, which in bf16 has more places than that."""
    engine = T5Engine(load(folder, tokenizer_size=tokenizer.size), longest_input=50, longest_output=4, dtype=dtype)
    rows = [torch.arange(2, 2 + length) for length in (50, 7, 1, 33)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    with torch.inference_mode():
        together = engine.encode(padded, torch.tensor([len(row) for row in rows]))
        for number, row in enumerate(rows):
            alone = engine.encode(row[None], torch.tensor([len(row)]))
            found, expected = (
                encoded.cross_L2BHSK[:, :, place, :, : len(row)].float()
                for encoded, place in ((together, number), (alone, 0))
            )
            torch.testing.assert_close(found, expected, rtol=off, atol=off * float(expected.abs().max()))
            is_masked = together.mask_B11S[number, 0, 0] < 0
            assert is_masked.tolist() == [place >= len(row) for place in range(len(is_masked))]


@pytest.mark.parametrize("alike", [1, 3, 40])
def test_the_best_token_in_bf16_is_that_of_the_fp32_logits(alike):
    """Also where several, or more than are compared, differ by less than bf16 shows."""
    torch.manual_seed(5)
    head = torch.nn.Linear(64, 600, bias=False)
    with torch.inference_mode():
        head.weight[:alike] = head.weight[0] * (3 + 1e-5 * torch.randperm(alike)[:, None])
        x = torch.randn(50, 64)
        output = _Head(head, torch.bfloat16, 1.0)
        assert output.best(x).tolist() == output.logits(x).argmax(dim=-1).tolist()


@pytest.mark.parametrize("size", [1, 3, 40])
def test_batching_does_not_change_generations(folder, tokenizer, size):
    model = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    expected = generator(model, tokenizer, batch_size=8).generate(PROMPTS)
    assert generator(model, tokenizer, batch_size=size).generate(PROMPTS) == expected
    assert generator(model, tokenizer, batch_size=size).generate(PROMPTS[::-1]) == expected[::-1]


@pytest.mark.parametrize("size", [3, 64])
def test_losses_equal_those_of_transformers(folder, tokenizer, size):
    model = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    stock = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    prompts = PROMPTS[:12]
    targets = [PROMPTS[-1 - i][:30] for i in range(12)]
    choices = ("(A)", "abc", "(B)")
    requests = [
        GenerationRequest(p, t, choices if i % 2 else ()) for i, (p, t) in enumerate(zip(prompts, targets, strict=True))
    ]
    requests[5] = GenerationRequest(prompts[5])
    generations = generator(model, tokenizer).generate(requests, batch_size=size)

    def loss(prompt, target):
        ids, labels = (
            torch.tensor([tokenizer.encode_batch([text], limit)[0].tolist()])
            for text, limit in ((prompt, 64), (target, 12))
        )
        with torch.no_grad():
            return float(stock(input_ids=ids, labels=labels).loss) * labels.shape[1], labels.shape[1]

    for request, generation in zip(requests, generations, strict=True):
        assert generation.prompt_tokens == len(tokenizer.encode_batch([request.prompt], 64)[0])
        assert len(generation.choice_losses) == len(request.choices)
        if request.target is not None:
            expected, tokens = loss(request.prompt, request.target)
            assert (generation.loss, generation.loss_tokens) == (pytest.approx(expected, rel=1e-5), tokens)
        for choice, found in zip(request.choices, generation.choice_losses, strict=True):
            assert found == pytest.approx(loss(request.prompt, choice)[0], rel=1e-5)
    assert (generations[5].loss, generations[5].choice_losses) == (None, ())
    assert [a.text for a in generations] == [a.text for a in generator(model, tokenizer).generate(prompts)]


def test_beam_search_is_that_of_transformers(folder, tokenizer):
    model = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    generations = generator(model, tokenizer, beams=3, batch_size=4).generate(
        [GenerationRequest(p, "abc") for p in PROMPTS[:12]]
    )
    stock = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    for prompt, generation in zip(PROMPTS, generations, strict=False):
        ids = torch.tensor([tokenizer.encode_batch([prompt], 64)[0].tolist()])
        written = stock.generate(ids, max_new_tokens=12, do_sample=False, num_beams=3)[0, 1:].tolist()
        expected = written[: written.index(1)] if 1 in written else written
        assert generation.text == tokenizer.decode([i for i in expected if i])
        assert generation.loss > 0


@pytest.mark.parametrize(
    "kind", [{"feed_forward_proj": "relu", "tie_word_embeddings": True}, {"num_decoder_layers": 1}]
)
def test_other_shapes_of_t5(tokenizer, kind):
    """T5 1.0: no gate, tied embeddings and scaled outputs; some models have a smaller decoder."""
    from transformers import T5Config

    torch.manual_seed(3)
    sizes = {"vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    config = T5Config(**{**sizes, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, **kind})
    config.decoder_start_token_id = 0
    stock = make_responsive(T5ForConditionalGeneration(config).eval())
    generations = generator(stock, tokenizer).generate(PROMPTS)
    for prompt, generation in zip(PROMPTS, generations, strict=True):
        ids = torch.tensor([tokenizer.encode_batch([prompt], 64)[0].tolist()])
        written = stock.generate(ids, max_new_tokens=12, do_sample=False, num_beams=1)[0, 1:].tolist()
        expected = written[: written.index(1)] if 1 in written else written
        assert generation.text == tokenizer.decode(expected)


def test_running_out_of_memory_is_a_memory_error(folder, tokenizer, monkeypatch):
    def full(*arguments, **options):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried")

    full_generator = generator(load(folder, tokenizer_size=tokenizer.size), tokenizer)
    monkeypatch.setattr("raytrain.generation.generator.generate_greedy", full)
    with pytest.raises(MemoryError, match="can't allocate"):
        full_generator.generate(["abc"])


def test_an_empty_generation(folder, tokenizer):
    model = load(folder, tokenizer_size=tokenizer.size)
    model.lm_head = torch.nn.Linear(model.config.d_model, model.config.vocab_size)
    with torch.no_grad():  # a model that ends at once
        model.lm_head.weight.zero_()
        model.lm_head.bias.copy_(torch.arange(model.config.vocab_size) == EOS)
    generations = generator(model, tokenizer).generate(["abc", ""])
    assert [(a.text, a.tokens, a.cut_off) for a in generations] == [("", 0, False)] * 2
    assert generator(model, tokenizer).generate([]) == []


def test_long_prompts_are_truncated_as_in_training(folder, tokenizer):
    model = make_responsive(load(folder, tokenizer_size=tokenizer.size))
    short = generator(model, tokenizer, max_input_tokens=8)
    cut = tokenizer.decode(tokenizer.encode_batch(["abc defg hi jklmno"], 8)[0])
    assert short.generate(["abc defg hi jklmno"]) == short.generate([cut])
    assert short.generate(["abc defg hi jklmno"]) != generator(model, tokenizer).generate(["abc defg hi jklmno"])


def test_the_generation_config_of_the_model_is_ignored(folder, tokenizer, tmp_path):
    plain = generator(load(folder, tokenizer_size=tokenizer.size), tokenizer).generate(PROMPTS)
    model = load(folder, tokenizer_size=tokenizer.size)
    model.generation_config.num_beams = 4
    model.generation_config.repetition_penalty = 3.0
    model.generation_config.no_repeat_ngram_size = 1
    assert generator(model, tokenizer).generate(PROMPTS) == plain


def test_ids_that_the_tokenizer_does_not_know_have_no_text(folder, tokenizer):
    model = load(folder, tokenizer_size=tokenizer.size + 50)
    with torch.no_grad():
        model.lm_head.weight[: tokenizer.size].zero_()
    generation = generator(model, tokenizer).generate(["abc"])[0]
    assert generation.text == ""
    assert generation.tokens == 12
    assert generation.cut_off


def same(one, other):
    return all(torch.equal(a, state(other)[name]) for name, a in state(one).items())


def test_a_checkpoint_is_loaded_into_the_base_model(folder, tokenizer, tmp_path):
    from safetensors.torch import save_file

    store = open_store(str(tmp_path / "store"))
    trained = load(folder, tokenizer_size=tokenizer.size)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01)
    save_file({k: v.contiguous() for k, v in state(trained).items()}, tmp_path / "model.safetensors")
    prefix = "runs/r/checkpoints/step-000010-a01"
    manifest = commit(
        store, prefix, {"model.safetensors": tmp_path / "model.safetensors", "optimizer.pt": b"x"}, {"step": 10}
    )
    base = ModelRef("base", str(folder), "b")
    options = {"store": store, "cache_folder": tmp_path / "cache", "tokenizer_size": tokenizer.size}
    loaded = load_model(ModelRef("checkpoint", prefix, "c", 10), base, **options)
    assert same(trained, loaded)
    assert not same(load_model(base, base, **options), loaded)
    assert list((tmp_path / "cache").iterdir()) == []  # no copies of weights are left

    saved = export(trained, folder, tmp_path / "export")
    commit(store, "runs/r/model", saved, {"kind": "model"})
    assert same(load_model(ModelRef("export", "runs/r/model", "e"), base, **options), trained)

    with pytest.raises(StorageError, match="no such checkpoint"):
        load_model(ModelRef("checkpoint", "runs/r/checkpoints/step-000020-a01", "c", 20), base, **options)
    store.put(manifest.key("model.safetensors"), b"broken")
    with pytest.raises(CorruptError, match=r"model\.safetensors"):
        load_model(ModelRef("checkpoint", prefix, "c", 10), base, **options)


def test_a_prefix_is_never_mistaken_for_a_folder(folder, tokenizer, tmp_path, monkeypatch):
    """If the store is the working folder, every prefix is a folder, perhaps with config.json."""
    from safetensors.torch import save_file

    trained = load(folder, tokenizer_size=tokenizer.size)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01)
    save_file({k: v.contiguous() for k, v in state(trained).items()}, tmp_path / "model.safetensors")
    saved = export(trained, folder, tmp_path / "export")
    monkeypatch.chdir(tmp_path)
    store = open_store(".")
    prefix = "runs/r/checkpoints/step-000010-a01"
    commit(store, prefix, {"model.safetensors": tmp_path / "model.safetensors"}, {"step": 10})
    manifest = commit(store, "runs/r/model", saved, {"kind": "model"})
    base = ModelRef("base", str(folder), "b")
    options = {"store": store, "cache_folder": tmp_path / "cache", "tokenizer_size": tokenizer.size}
    assert same(trained, load_model(ModelRef("checkpoint", prefix, "c", 10), base, **options))
    assert same(trained, load_model(ModelRef("export", "runs/r/model", "e"), base, **options))
    store.put(manifest.key("model.safetensors"), b"broken")
    with pytest.raises(CorruptError, match=r"model\.safetensors"):  # read through its manifest, not as a folder
        load_model(ModelRef("export", "runs/r/model", "e"), base, **options)

    gone = ModelRef("base", str(tmp_path / "of another node"), "b", named=str(folder))
    assert same(trained, load_model(ModelRef("checkpoint", prefix, "c", 10), gone, **options))


def test_a_missing_base_model_is_reported(tmp_path):
    base = ModelRef("base", str(tmp_path / "nowhere"), "b")
    with pytest.raises(TrainingError, match="nowhere"):
        load_model(base, base, store=open_store(str(tmp_path)), cache_folder=tmp_path / "c", tokenizer_size=96)


def test_the_fixture_looks_like_a_model_from_the_hub(folder):
    assert json.loads((folder / "config.json").read_text())["model_type"] == "t5"
    assert T5ForConditionalGeneration.from_pretrained(folder).config.vocab_size == 96


FOREIGN = {"min_length": 30, "max_length": 200, "num_beams": 4, "no_repeat_ngram_size": 3, "repetition_penalty": 2.0}
LIKE_T5 = {"summarization": {"prefix": "summarize: ", "num_beams": 4, "min_length": 30}}


@pytest.mark.parametrize("beams", [1, 2])
def test_an_export_generates_as_it_was_scored_whatever_the_base_had_set(tokenizer, tmp_path, beams):
    base = save_tiny(tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({**FOREIGN, "forced_bos_token_id": 7}))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "task_specific_params": LIKE_T5}))
    model = make_responsive(load(base, tokenizer_size=tokenizer.size))
    export(model, base, tmp_path / "export", max_new_tokens=12, beams=beams)
    ours = generator(model, tokenizer, beams=beams).generate(PROMPTS)
    stock = T5ForConditionalGeneration.from_pretrained(tmp_path / "export").eval()
    for prompt, generation in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([tokenizer.encode_batch([prompt], 64)[0].tolist()])
        written = stock.generate(ids)[0, 1:].tolist()
        assert tokenizer.decode(written[: written.index(EOS)] if EOS in written else written) == generation.text
    kept = json.loads((tmp_path / "export" / "generation_config.json").read_text())
    assert (kept["max_new_tokens"], kept.get("num_beams", 1)) == (12, beams)
    assert not {"min_length", "no_repeat_ngram_size", "repetition_penalty", "forced_bos_token_id"} & kept.keys()
    assert "task_specific_params" not in json.loads((tmp_path / "export" / "config.json").read_text())


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(("encoder", "decoder"), [(1, 3), (3, 1)], ids=["deep decoder", "deep encoder"])
def test_encoder_and_decoder_may_differ_in_depth(tokenizer, tmp_path, beams, encoder, decoder):
    """T5-efficient models have such shapes."""
    base = save_tiny(tmp_path / "base", layers=encoder, decoder_layers=decoder)
    model = make_responsive(load(base, tokenizer_size=tokenizer.size))
    generations = generator(model, tokenizer, beams=beams).generate(PROMPTS[:8])
    stock = make_responsive(load(base, tokenizer_size=tokenizer.size))
    for prompt, generation in zip(PROMPTS, generations, strict=False):
        ids = torch.tensor([tokenizer.encode_batch([prompt], 64)[0].tolist()])
        written = stock.generate(ids, max_new_tokens=12, do_sample=False, num_beams=beams, use_cache=False)
        written = written[0, 1:].tolist()
        assert generation.text == tokenizer.decode(written[: written.index(EOS)] if EOS in written else written)
