"""The flavour of a registered model: its files, and the loader that stands alone."""

import ast
import sys
from types import ModuleType

import pytest
from ruamel.yaml import YAML
from transformers import AutoTokenizer

from raytrain.model.export import export
from raytrain.telemetry.trackers.mlflow_flavour import flavour_files
from tests.support.tiny_t5 import tiny_model, tiny_tokenizer

PROMPTS = ["say ab", "again c", "say b"]


def test_its_files_name_each_other():
    files = flavour_files("abc")
    model = YAML(typ="safe", pure=True).load(files["MLmodel"])
    function = model["flavors"]["python_function"]
    assert f"{function['code']}/{function['loader_module']}.py" in files
    assert function["env"]["virtualenv"] in files
    assert function["python_version"] == "{}.{}.{}".format(*sys.version_info)
    assert model["run_id"] == "abc"
    pinned = dict(line.split("==") for line in files["requirements.txt"].split())
    assert pinned.keys() == {"torch", "transformers", "tokenizers", "safetensors"}
    assert "+" not in pinned["torch"]


def test_its_loader_imports_nothing_of_ours_and_answers_as_transformers_does(tmp_path):
    text = flavour_files("abc")["code/raytrain_mlflow_loader.py"]
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom | ast.Import)]
    assert not [one for one in imports if "raytrain" in (getattr(one, "module", None) or one.names[0].name)]
    module = ModuleType("loader")
    exec(compile(text, "loader", "exec"), module.__dict__)

    model = tiny_model()
    export(model, tiny_tokenizer(tmp_path / "tokenizer"), tmp_path / "model", max_new_tokens=5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    ids = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=5)
    answers = tokenizer.batch_decode(ids, skip_special_tokens=True)

    loaded = module._load_pyfunc(str(tmp_path / "model"))
    assert loaded.predict(PROMPTS) == answers
    assert loaded.predict(PROMPTS[0]) == answers[:1]
    table = pytest.importorskip("pandas").DataFrame({"text": PROMPTS, "other": [1, 2, 3]})
    assert loaded.predict(table) == answers
    assert loaded.predict(PROMPTS, {"max_new_tokens": 1}) != answers
