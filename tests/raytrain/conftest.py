"""A folder to work in, with a small job and its data."""

import json
from pathlib import Path

import pytest

JOB_YAML = """\
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata: {name: small}
spec:
  model: google/flan-t5-small
  tasks:
    - name: notes
      type: summarization
      source: {uri: notes.jsonl}
    - name: stars
      type: rating
      source: {splits: {train: train.csv, validation: dev.csv, test: test.csv}}
      columns: {input: text, target: stars}
    - {name: quiz, type: question-answering, source: {uri: quiz.jsonl}, probe: true}
  training: {steps: 100, batchTokens: 8192, device: cpu}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: job.yaml and three small tasks; storage is ./raytrain-storage."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYTRAIN_STORAGE", raising=False)
    monkeypatch.delenv("RAYTRAIN_DEBUG", raising=False)
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    talk = "Ann: Shall we meet at {0}? Bob: Yes, in town."
    rows = [{"input": talk.format(i), "target": f"They meet at {i}."} for i in range(200)]
    (tmp_path / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for name, count in (("train", 30), ("dev", 10), ("test", 12)):
        lines = [f"{name} shirt number {i},{i % 5 + 1}" for i in range(count)]
        (tmp_path / f"{name}.csv").write_text("text,stars\n" + "\n".join(lines) + "\n")
    quiz = [{"input": f"What follows {i}?", "target": str(i + 1)} for i in range(60)]
    (tmp_path / "quiz.jsonl").write_text("\n".join(map(json.dumps, quiz)) + "\n")
    return tmp_path
