"""The commented job file that `raytrain init` writes."""

from pathlib import Path

from raytrain_core.errors import UsageError

STARTER = """\
# A FineTuneJob: from raw rows to a before/after report.
#   raytrain check job.yaml              validate it and show what it would do; changes nothing
#   raytrain data show job.yaml          show rows as the model will see them
#   raytrain run job.yaml                run it; the same command again resumes
#   raytrain explain training.optimizer  explain a field
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: my-first-run                # names the run: results are in STORAGE/runs/my-first-run
spec:
  model: google/flan-t5-small       # hub id, local folder, s3:// folder, or run://NAME for an earlier run's model
  # storage: {uri: s3://my-bucket/raytrain}   # by default ./raytrain-storage; credentials come from the environment

  tasks:
    # Rows are JSONL, CSV, TSV or Parquet (.gz too): a file, a glob, a folder, s3://..., or hf://name of a data set.
    # Relative paths are relative to this file. `columns` maps columns to the input text and the answer.
    - name: tickets
      type: summarization           # provides templates, answer format and metrics
      source: {uri: tickets.jsonl}  # one file: `split` divides it into train, validation and test
      columns: {input: chat, target: note}
      # split: {validation: 0.05, test: 0.05}
      # templates:                  # your own templates instead of those of the type
      #   - "Summarize this support chat:\\n{input}"
      #   - "{input}\\n\\nWhat was this about?"

    - name: reviews
      type: rating                  # answers 1 to 5; change them with `labels`
      source:
        splits: {train: reviews-train.csv, validation: reviews-dev.csv, test: reviews-test.csv}
      columns: {input: text, target: stars}
      onBadRow: skip                # report and leave out bad rows instead of failing

    # A probe is scored before and after but never trained on: it shows what the model forgets.
    - name: reasoning
      type: question-answering
      source: {uri: questions.jsonl}
      columns: {input: question, target: answer}
      probe: true

  mixture:
    strategy: proportional          # by number of examples; or temperature, weights, equal
    cap: 30000                      # count at most this many examples per task

  training:
    steps: 1000
    batchTokens: 16384              # source and target tokens per step, over all workers
    maxInputTokens: 512             # longer sources are truncated (check says how many)
    maxTargetTokens: 128
    optimizer: adafactor            # as FLAN was trained; or adamw
    learningRate: 1.0e-3
    precision: auto                 # bf16 where every device multiplies it natively, else fp32
    checkpointEvery: 250

  evaluation:
    every: 250                      # score checkpoints on validation rows every 250 steps, while training continues
    examplesPerTask: 200

  resources:
    training: {workers: 1, cpus: 1} # more workers change the speed, not the result
    evaluation: {actors: 1, cpus: 1}
"""


def write_starter(path: Path, *, force: bool = False) -> None:
    """Writes the starter job; UsageError if the file exists (without `force`) or on failure."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        raise UsageError(f"{path} already exists", hint="give another path, or replace it with --force") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
