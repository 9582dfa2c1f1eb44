"""The commented job that `raytrain init` writes."""

from pathlib import Path

from raytrain_core.errors import UsageError

STARTER = """\
# A FineTuneJob: one job from raw rows to a before/after report.
#   raytrain check job.yaml              is it right, and what would it do? nothing is changed
#   raytrain data show job.yaml          rows as the model will see them
#   raytrain run job.yaml                do it; the same command again resumes
#   raytrain explain training.optimizer  what a field means and what it defaults to
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: my-first-run                # names the run: results lie under STORAGE/runs/my-first-run
spec:
  model: google/flan-t5-small       # hub id, local folder, s3:// folder, or run://NAME for an earlier run's outcome
  # storage: {uri: s3://my-bucket/raytrain}   # by default ./raytrain-storage; credentials come from the environment

  tasks:
    # Rows are JSONL, CSV, TSV or Parquet (.gz too): a file, a glob, a folder, s3://..., or hf://name of a data set.
    # Relative paths are relative to this job. `columns` says which column is the text and which the answer.
    - name: tickets
      type: summarization           # brings wordings of the instruction, answer format and metrics
      source: {uri: tickets.jsonl}  # one file: rows are divided into train, validation and test by `split`
      columns: {input: chat, target: note}
      # split: {validation: 0.05, test: 0.05}
      # templates:                  # your own wordings instead of those of the type
      #   - "Summarize this support chat:\\n{input}"
      #   - "{input}\\n\\nWhat was this about?"

    - name: reviews
      type: rating                  # answers 1 to 5; `labels` for others
      source:
        splits: {train: reviews-train.csv, validation: reviews-dev.csv, test: reviews-test.csv}
      columns: {input: text, target: stars}
      onBadRow: skip                # leave bad rows out (each is named) instead of ending the run

    # A probe is scored before and after but never trained on: it shows what the model forgets.
    - name: reasoning
      type: question-answering
      source: {uri: questions.jsonl}
      columns: {input: question, target: answer}
      probe: true

  mixture:
    strategy: proportional          # by number of examples; or temperature, weights, equal
    cap: 30000                      # no task counts for more than this

  training:
    steps: 1000
    batchTokens: 16384              # source and target tokens of one step, over all workers
    maxInputTokens: 512             # longer sources are cut (check says how many)
    maxTargetTokens: 128
    optimizer: adafactor            # FLAN's own recipe; or adamw
    learningRate: 1.0e-3
    precision: fp32                 # bf16 on a GPU that has it
    checkpointEvery: 250

  evaluation:
    every: 250                      # checkpoints at these steps are scored on validation rows while training goes on
    examplesPerTask: 200

  resources:
    training: {workers: 1, cpus: 1} # more workers change the speed, not the result
    evaluation: {actors: 1, cpus: 1}
"""


def write_starter(path: Path, *, force: bool = False) -> None:
    """Write the starter job; UsageError if something is there (unless `force`) or it cannot be written."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        raise UsageError(f"{path} is there already", hint="give another path, or --force to replace it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
