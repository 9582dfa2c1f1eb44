"""From text to an exported model with the tokenizers of other families than T5."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from data_prep.shards.reader import open_split
from data_prep.shards.tokenizer_files import load_tokenizer
from data_prep.text.byte_tokenizer import ByteTokenizer
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.config.training import TrainingSpec
from raytrain.generation.generator import Generator
from raytrain.generation.requests import GenerationLimits
from raytrain.model.export import export
from raytrain.model.loading import load
from raytrain.model.source import check_folder
from raytrain.training.trainer import Trainer
from tests.support.data_prep_bench import Workbench, make_task, write_jsonl
from tests.support.multilingual import save_multilingual
from tests.support.packed_rows import row_of
from tests.support.tiny_t5 import save_tiny

ROWS = [{"input": f"w{66_000 + i} der и {{é}}\n  漢字 {i}", "target": f"w{69_000 + i} ☃"} for i in range(20)]


def byt5(folder):
    save_tiny(folder, vocabulary=384, layers=3, decoder_layers=1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tokenizer_class": "ByT5Tokenizer"}))
    return folder


def multilingual(kind):
    def save(folder):
        save_tiny(folder, kind=kind, vocabulary=70_016, width=8, head=2)
        (folder / "tokenizer_config.json").unlink()
        return save_multilingual(folder)

    return save


FAMILIES = {
    "ByT5": (byt5, np.uint16),
    "mT5": (multilingual("mt5"), np.uint32),
    "UMT5": (multilingual("umt5"), np.uint32),
}
SLOW = {"mT5", "UMT5"}  # large vocabularies: the longest of the pipeline's tests


@pytest.mark.parametrize(
    ("save", "kind"),
    [pytest.param(*case, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, case in FAMILIES.items()],
)
def test_from_rows_to_an_export(tmp_path, save, kind):
    folder = check_folder(save(tmp_path / "model"), "it")
    bench = Workbench(tmp_path, read_tokenizer(folder))
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    shards = bench.prepare(make_task(split={"validation": 0.2, "test": 0.2}))
    tokenizer = load_tokenizer(shards, bench.store, tmp_path / "tokenizer")
    assert isinstance(tokenizer, ByteTokenizer) is (save is byt5)
    reader = open_split(shards, "notes", "train", bench.store, bench.cache)
    pairs = [reader.tokens(number, 0) for number in range(4)]
    assert {ids.dtype for pair in pairs for ids in pair} == {np.dtype(kind)}
    assert tokenizer.decode(pairs[0][1]) in {row["target"] for row in ROWS}

    model = load(folder, tokenizer_size=tokenizer.size)
    trainer = Trainer(model, TrainingSpec(steps=1, dropout=0.0), ["notes"])
    loss = trainer.step(1, [row_of(pairs, tasks=1)]).record.loss
    export(model, tmp_path / "tokenizer", tmp_path / "out")
    assert 0 < loss < 30

    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    own = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompts = [row["input"] for row in ROWS[:4]]
    limits = GenerationLimits(max_input_tokens=64, max_new_tokens=6)
    for prompt, answer in zip(
        prompts, Generator(model, tokenizer, limits, device="cpu").generate(prompts), strict=True
    ):
        inputs = own(prompt, return_tensors="pt")
        assert inputs.input_ids[0].tolist() == tokenizer.encode_batch([prompt], 64)[0].tolist()
        with torch.no_grad():
            written = plain.generate(**inputs, max_new_tokens=6, do_sample=False, num_beams=1)[0]
        assert own.decode(written, skip_special_tokens=True) == answer.text
