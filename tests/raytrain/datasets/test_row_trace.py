"""`data show --raw`: a row as the file has it next to what the model gets, step by step."""

import json
from pathlib import Path

import pytest

from raytrain.config.load import load_job
from raytrain.datasets.row_trace import RowTrace, trace_row
from raytrain_core.errors import UsageError
from tests.support.data_prep_bench import t5_like, write_jsonl

JOB = """
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata: {name: tiny}
spec:
  model: base
  storage: {uri: store}
  tasks:
    - {name: quiz, type: multiple-choice, source: {uri: quiz.jsonl}, columns: {input: q, target: a, choices: options}}
    - {name: lists, type: question-answering, source: {uri: lists.csv}, where: "score > 3", mask: {kinds: [email]}}
  training: {steps: 4, maxInputTokens: 120, maxTargetTokens: 16}
"""
LONG = "the text of a review " * 30


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    t5_like().save(str(tmp_path / "base" / "tokenizer.json"))
    rows = [{"q": f"{i} {LONG}", "a": "if", "options": ["the", "if"]} for i in range(3)]
    write_jsonl(tmp_path / "quiz.jsonl", rows)
    lines = ["input,target,score", "\"who\nis it?\",\"['ann@x.org', 'Ann']\",5", '"where?","[\'here\']",1', "no,,x"]
    (tmp_path / "lists.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path / "job.yaml"


def trace(job_file: Path, row: str, task: str | None = None) -> RowTrace:
    loaded = load_job(job_file)
    (found,) = trace_row(loaded.job, row, base_folder=loaded.base_folder, task=task)
    return found


def test_every_step_is_shown(job_file: Path) -> None:
    found = trace(job_file, "lists.csv:2")
    steps = {step.name: step for step in found.steps}
    assert list(steps) == ["file", "read", "columns", "cleaned", "template", "tokens", "cut"]
    assert steps["file"].text == "\"who\nis it?\",\"['ann@x.org', 'Ann']\",5"
    assert json.loads(steps["read"].text)["target"] == "['ann@x.org', 'Ann']"
    assert steps["cleaned"].text == "who\nis it?\n=> [EMAIL_1]\n=> Ann"
    assert steps["cleaned"].notes == ("lists parsed from text: target", "values masked (email)")
    assert "who\nis it?" in steps["template"].text
    assert steps["cut"].text == "(nothing is cut)"
    assert found.outcome == "used"


def test_a_prompt_that_is_cut_keeps_its_options(job_file: Path) -> None:
    found = trace(job_file, "quiz.jsonl:2")
    cut = found.steps[-1]
    assert "Options:\n(A) the\n(B) if" in cut.text
    assert "maxInputTokens is 120" in cut.notes[0]


@pytest.mark.parametrize(
    ("row", "outcome"), [("lists.csv:4", "left out by where"), ("5", "bad row: where: 'x' > 3 cannot be compared")]
)
def test_a_row_that_is_not_used_says_why(job_file: Path, row: str, outcome: str) -> None:
    assert trace(job_file, row, "lists").outcome == outcome


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("lists.csv:3", "no row begins in line 3"),
        ("lists.csv:99", "the file has no later row"),
        ("list.csv:2", "no file 'list.csv', did you mean lists.csv"),
        ("lists.csv", "not a row"),
        ("lists.csv:0", "not a row"),
    ],
)
def test_what_is_no_row_is_a_clear_error(job_file: Path, row: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        trace(job_file, row)
    assert message in str(caught.value)
    with pytest.raises(UsageError, match="the job has no task quizz"):
        trace(job_file, "1", "quizz")
