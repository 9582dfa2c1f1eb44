"""A tiny world: complete or absent, cached, loadable by plain transformers."""

import json
import random
import shutil

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from data_prep.text.tokenizer_folder import read_tokenizer
from examples.quickstart import base, world
from examples.quickstart.skills import lessons
from examples.quickstart.templates import TEMPLATES


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("quickstart") / "world"
    said = []
    world.build(folder, world.TINY, said.append)
    torch.set_num_threads(threads)
    assert "100%" in said[-1]
    return folder


def _prompts_and_targets(folder):
    for path in sorted(folder.glob("*/*.*")):
        if path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                row = json.loads(line)
                yield from (" ".join(v) if isinstance(v, list) else v for v in row.values())


def test_it_is_complete_and_up_to_date(made):
    assert world.up_to_date(made, world.TINY)
    assert not world.up_to_date(made, world.Settings())
    names = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert {"model/model.safetensors", "model/tokenizer.json", "news/train.jsonl", "reviews/test.csv"} <= names
    assert set(json.loads((made / "world.json").read_text())["files"]) == names - {"world.json"}
    assert list(made.parent.iterdir()) == [made]


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_world_is_not_up_to_date(made, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    assert world.up_to_date(copy, world.TINY)
    if damage == "missing":
        (copy / "questions" / "test.jsonl").unlink()
    else:
        (copy / "model" / "tokenizer.json").write_text("{}")
    assert not world.up_to_date(copy, world.TINY)


def test_it_is_reproducible(made, tmp_path):
    world.build(tmp_path / "again", world.TINY, lambda text: None)
    ours, theirs = (json.loads((folder / "world.json").read_text())["files"] for folder in (made, tmp_path / "again"))
    assert ours == theirs


def test_plain_transformers_load_it_untied(made):
    tokenizer = AutoTokenizer.from_pretrained(made / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(made / "model")
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == len(tokenizer) - 1 == model.config.vocab_size - 1
    assert json.loads((made / "model" / "config.json").read_text())["tie_word_embeddings"] is False
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    assert model.encoder.embed_tokens.weight is model.shared.weight
    batch = tokenizer(["Good or bad?\nThe lamp is nice."], return_tensors="pt")
    assert model.generate(**batch, max_new_tokens=3).shape[0] == 1


def test_the_trained_weights_are_saved(tmp_path):
    """Logits before saving and after loading are equal: nothing is tied or scaled on the way."""
    model = base.new_model(base.Shape(16, 32, 2, 1), 120, seed=3).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
        ids = torch.tensor([[5, 7, 9, 1]])
        before = model(input_ids=ids, decoder_input_ids=ids).logits
        base.save_model(model, tmp_path)
        loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
        assert torch.equal(loaded(input_ids=ids, decoder_input_ids=ids).logits, before)


def test_the_tokenizer_loses_nothing(made):
    tokenizer = read_tokenizer(made / "model")
    assert tokenizer.added == ()
    texts = list(_prompts_and_targets(made))
    texts += [variant.replace("{input}", text) for text in texts[:50] for ws in TEMPLATES.values() for variant in ws]
    alphabet = [chr(code) for code in range(32, 127)] + ["\n", " ", " ", "\t"]
    rng = random.Random(1)
    texts += ["".join(rng.choices(alphabet, k=rng.randint(0, 40))) for _ in range(500)]
    for text, ids in zip(texts, tokenizer.encode_batch(texts, 10_000), strict=True):
        assert tokenizer.decode(ids) == text
        assert 2 not in ids


def test_frequent_words_are_single_tokens(made):
    tokenizer = AutoTokenizer.from_pretrained(made / "model")
    assert tokenizer.tokenize("return") == ["▁return"]
    assert tokenizer.tokenize("Answer the question.") == ["▁Answer", "▁the", "▁question", "."]


def test_batches_contain_every_row_once_and_respect_their_limit(made):
    tokenizer = read_tokenizer(made / "model")
    taught = lessons(5, 700)
    rows = [(ids.tolist(), ids.tolist()[:3]) for ids in tokenizer.encode_batch([row.prompt for row in taught], 160)]
    batches = base.batches(rows, 512, seed=1)
    assert sorted(row for batch in batches for row in batch) == sorted(rows)
    assert all(len(b) * (max(len(r[0]) for r in b) + max(len(r[1]) for r in b)) <= 512 for b in batches)
    assert base.batches(rows, 512, seed=1) == batches


def test_the_learning_rate_warms_up_and_falls_to_two_percent():
    assert base.learning_rate(0) < 0.03
    assert base.learning_rate(0.05) == pytest.approx(1)
    assert base.learning_rate(1) == pytest.approx(0.02)


def _a_few_lessons(folder, tokens):
    tokenizer = read_tokenizer(folder / "model")
    taught = lessons(5, 40)
    prompts = tokenizer.encode_batch([row.prompt for row in taught], 160)
    targets = tokenizer.encode_batch([row.target for row in taught], 96)
    rows = [(p.tolist(), a.tolist()) for p, a in zip(prompts, targets, strict=True)]
    return base.new_model(base.Shape(32, 64, 2, 1), tokenizer.size, seed=1), base.Lessons(rows, tokens, 512, seed=1)


@pytest.fixture
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_threads")
def test_pretraining_lowers_the_loss(made):
    """The model memorises most of a few lessons."""
    model, few = _a_few_lessons(made, 60_000)
    losses = []
    base.pretrain(model, few, processes=1, on_progress=lambda now: losses.append(now.loss))
    assert losses[-1] < losses[0] / 2


@pytest.mark.usefixtures("_threads")
def test_two_processes_train_like_one(made):
    alone, few = _a_few_lessons(made, 4_000)
    together, _ = _a_few_lessons(made, 4_000)
    one, two = [], []
    base.pretrain(alone, few, processes=1, on_progress=lambda now: one.append(now.loss))
    base.pretrain(together, few, processes=2, on_progress=lambda now: two.append(now.loss))
    assert len(one) == len(two) > 5
    assert two == pytest.approx(one, rel=1e-4)
    for name, weight in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], weight, rtol=1e-3, atol=1e-4)


def test_the_command_reports_an_up_to_date_world(made, capsys, monkeypatch):
    monkeypatch.setattr(world, "Settings", lambda base_tokens: world.TINY)
    world.Settings.base_tokens = 0
    assert world.main(["--out", str(made)]) == 0
    assert "up to date" in capsys.readouterr().out


def test_the_command_refuses_a_folder_in_use(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("do not delete")
    assert world.main(["--out", str(tmp_path), "--force"]) == 2
    assert "contains no quickstart world" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "do not delete"


def test_an_interrupt_keeps_the_old_world_and_leaves_nothing_else(made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)

    def interrupt(text):
        if text.startswith("tokenizer"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.build(copy, world.TINY, interrupt)
    assert world.up_to_date(copy, world.TINY)
    assert list(tmp_path.iterdir()) == [copy]
