"""Schema, reference page, explanations, starter and example agree with the models."""

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from raytrain.config import explain, schema
from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain.config.starter import STARTER, write_starter
from raytrain_core.config.loader import parse_config
from raytrain_core.errors import UsageError
from tests.support import REPOSITORY


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("finetunejob.schema.json", schema.schema_text()),
        ("job.md", schema.reference_page()),
        ("sweep.schema.json", schema.sweep_schema_text()),
        ("sweep.md", schema.sweep_page()),
    ],
)
def test_the_files_are_up_to_date(name: str, text: str) -> None:
    written = (REPOSITORY / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == text, "run: python -m raytrain.config.schema --write"


def test_the_schema_is_valid_and_accepts_what_the_models_accept() -> None:
    found = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    validator = jsonschema.Draft202012Validator(found)
    good = YAML(typ="safe").load(STARTER)
    assert list(validator.iter_errors(good)) == []
    good["spec"]["training"]["lerningRate"] = 1
    good["spec"]["training"]["steps"] = "many"
    assert sorted(list(e.path)[-1] for e in validator.iter_errors(good)) == ["steps", "training"]


def test_every_field_is_described() -> None:
    undescribed = [f.path for f in explain.all_fields() if not f.description]
    assert undescribed == []


def test_write_writes_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "FOLDER", tmp_path / "reference")
    assert schema.main(["--write"]) == 0
    assert json.loads((tmp_path / "reference" / "finetunejob.schema.json").read_text())["title"] == "FineTuneJob"
    assert (tmp_path / "reference" / "job.md").read_text().startswith("# The job")


def test_the_starter_loads() -> None:
    job = parse_config(STARTER, FineTuneJob)
    assert [t.name for t in job.spec.tasks] == ["tickets", "reviews", "reasoning"]
    assert [t.name for t in job.spec.trained_tasks] == ["tickets", "reviews"]


def test_the_starter_overwrites_nothing_without_force(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    write_starter(path)
    with pytest.raises(UsageError, match="already exists"):
        write_starter(path)
    path.write_text("mine")
    write_starter(path, force=True)
    assert path.read_text() == STARTER
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        write_starter(tmp_path / "no" / "job.yaml")


def test_the_example_for_the_hub_loads() -> None:
    loaded = load_job(REPOSITORY / "examples" / "flan-t5-base" / "job.yaml")
    assert loaded.base_folder == REPOSITORY / "examples" / "flan-t5-base"
    assert {t.type for t in loaded.job.spec.trained_tasks} == {"summarization", "rating", "ner", "code-translation"}
    assert any(t.probe for t in loaded.job.spec.tasks)


@pytest.mark.parametrize(
    "path", ["training.optimizer", "spec.training.optimizer", "spec.training.optimizer.", " training.optimizer"]
)
def test_explain_a_field(path: str) -> None:
    assert explain.in_words(explain.find_field(path)) == "\n".join(
        [
            "spec.training.optimizer",
            "  adafactor (as FLAN was trained: no relative step size) or adamw (fused).",
            "",
            "  type     string",
            '  default  "adafactor"',
            "  allowed  adafactor, adamw",
        ]
    )


def test_explain_a_field_with_subfields() -> None:
    lines = explain.in_words(explain.find_field("tasks[3].split")).splitlines()
    assert lines[0] == "spec.tasks[].split"
    assert lines[-2:] == [
        "    validation  Share of rows for validation.",
        "    test        Share of rows for test.",
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("trainng.optimizer", "the job has no field trainng.optimizer, did you mean spec.training.optimizer?"),
        ("learningRate", "the job has no field learningRate, did you mean spec.training.learningRate?"),
        ("batch_tokens", "the job has no field batch_tokens, did you mean spec.training.batchTokens?"),
        ("zzzz", "the job has no field zzzz"),
    ],
)
def test_explain_an_unknown_field(path: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain.find_field(path)
    assert caught.value.message == message


def test_the_tree_has_every_field_with_its_default() -> None:
    tree = explain.tree()
    assert len(tree.splitlines()) == len(explain.all_fields())
    assert '    optimizer: adafactor | adamw, default "adafactor"' in tree
    assert "    steps: integer or null" in tree
    described = [explain.describe(f) for f in explain.all_fields()]
    assert json.loads(json.dumps(described)) == described
