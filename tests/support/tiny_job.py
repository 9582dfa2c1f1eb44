"""A complete job that runs in seconds: a random tiny T5, two tasks and a probe."""

import csv
import json
from pathlib import Path
from typing import Any

from data_prep.prepare import PrepLimits, prepare
from data_prep.shards.manifest import ShardSet
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.config.load import load_job
from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import RunRecord, write_record
from raytrain_core.storage import open_store
from tests.support.tiny_t5 import save_tiny

LETTERS = "abcdefghijklmnopqrstuvwxyz"

JOB_YAML = """\
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: tiny}}
spec:
  model: ./model
  tasks:
    - name: echo
      type: text
      source: {{uri: echo.jsonl}}
      columns: {{input: words, target: answer}}
      templates: ["say {{input}}", "again {{input}}", "repeat {{input}}"]
      split: {{validation: 0.2, test: 0.2}}
    - name: stars
      type: rating
      source: {{uri: stars.csv}}
      columns: {{input: text, target: stars}}
      labels: [a, b, c]
      split: {{validation: 0.2, test: 0.2}}
    - name: first
      type: question-answering
      source: {{uri: first.jsonl}}
      templates: ["which comes first {{input}}"]
      probe: true
  mixture: {{strategy: equal, seed: 5}}
  training:
    steps: {steps}
    batchTokens: 256
    maxInputTokens: 48
    maxTargetTokens: 16
    optimizer: adamw
    learningRate: 3.0e-3
    device: cpu
    checkpointEvery: {checkpoint_every}
    keepCheckpoints: 20
  evaluation: {{every: {every}, examplesPerTask: 16, batchSize: 8}}
  resources: {{training: {{workers: {workers}}}, evaluation: {{actors: 1}}}}
"""


def write_job(
    folder: Path, *, steps: int = 12, checkpoint_every: int = 4, every: int = 4, workers: int = 2, rows: int = 60
) -> Path:
    """Writes a job, its rows and its model into `folder`; returns the path of the job."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny(folder / "model")

    def word(number: int) -> str:
        return LETTERS[number % 26] + LETTERS[number // 26 % 26] + LETTERS[(number * 7 + 3) % 26]

    with (folder / "echo.jsonl").open("w") as file:
        for i in range(rows):
            file.write(json.dumps({"words": f"{word(i)} {word(i + 5)}", "answer": word(i)}) + "\n")
    with (folder / "stars.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "stars"])
        writer.writerows([f"{word(i)} {'abc'[i % 3] * 3}", "abc"[i % 3]] for i in range(rows))
    with (folder / "first.jsonl").open("w") as file:
        for i in range(rows):
            file.write(json.dumps({"input": f"{word(i)} or {word(i + 9)}", "target": word(i)}) + "\n")
    job_file = folder / "job.yaml"
    job_file.write_text(JOB_YAML.format(steps=steps, checkpoint_every=checkpoint_every, every=every, workers=workers))
    return job_file


def prepared_data(job_file: Path | str = "job.yaml", *, record: bool = True, **options: Any) -> ShardSet:
    """Prepares the data of a job into ./raytrain-storage, with `record` like a run of the job."""
    loaded = load_job(job_file)
    training, store = loaded.job.spec.training, open_store("raytrain-storage")
    shards = prepare(
        loaded.job.spec.tasks,
        loaded.job.spec.mixture,
        store=store,
        tokenizer=read_tokenizer(loaded.base_folder / "model"),
        limits=PrepLimits(training.max_input_tokens, training.max_target_tokens),
        base_folder=loaded.base_folder,
        **options,
    )
    if record:
        write_record(
            store,
            RunLayout(loaded.job.metadata.name),
            RunRecord(loaded.job, loaded.base_folder, shard_set=shards.digest),
        )
    return shards
