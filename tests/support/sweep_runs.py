"""Runs of a sweep as they would be in storage, written without training anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raytrain.config.run_layout import RunLayout, stage_of_step
from raytrain.evaluation.metrics import find
from raytrain.evaluation.results import MetricScore, Prediction, ScoreCard, write_scores
from raytrain.sweeps.plan import SweepPlan, load_sweep
from raytrain_core.storage import Store
from raytrain_core.storage.commit import commit
from tests.support.tiny_job import write_job

SWEEP = """\
apiVersion: raytrain.dev/v1alpha1
kind: Sweep
metadata: {{name: guards}}
spec:
  job: job.yaml
{spec}
"""
LAST = 12
"""The last step of the runs: that of `tiny_job`."""


def write_sweep(folder: Path, spec: str) -> Path:
    """Writes the tiny job and a sweep over it, and returns its file; `spec` is indented YAML."""
    if not (folder / "job.yaml").exists():
        write_job(folder, workers=1)
    path = folder / "sweep.yaml"
    path.write_text(SWEEP.format(spec=spec))
    return path


def tiny_sweep(folder: Path, spec: str) -> SweepPlan:
    """Writes a sweep and loads it."""
    return load_sweep(write_sweep(folder, spec))


def score_run(store: Store, name: str, scores: Mapping[str, tuple[Sequence[int], Sequence[int]]], **card: Any) -> None:
    """Writes a finished run: for each task which rows were right (1) before and after training.

    Validation scores are those of the test rows.
    """
    layout = RunLayout(name)
    for task, (before, after) in scores.items():
        for stage, rows, split, step in (
            ("before", before, "test", 0),
            (stage_of_step(0), before, "validation", 0),
            (stage_of_step(LAST), after, "validation", LAST),
            ("after", after, "test", LAST),
        ):
            _write(store, layout, task, stage, rows, split, step, card)
    commit(store, layout.model, {"config.json": b"{}"}, {"kind": "model", "step": LAST})


def _write(
    store: Store,
    layout: RunLayout,
    task: str,
    stage: str,
    rows: Sequence[int],
    split: str,
    step: int,
    changes: Mapping[str, Any],
) -> None:
    metric = find("exact_match")
    assert metric is not None
    predictions = [
        Prediction(f"row-{i}", 0, "say a", ("a",), "a" if right else "b", 1, float(right), (float(right), 1.0))
        for i, right in enumerate(rows)
    ]
    value = sum(rows) / len(rows)
    card = ScoreCard(
        stage=stage,
        task=task,
        type="text",
        probe=False,
        split=split,
        step=step,
        model={"digest": "0" * 64},
        rows=len(rows),
        scored=len(rows),
        primary_metric="exact_match",
        metrics={"exact_match": MetricScore(value, value, value, "higher")},
        rows_digest=str(changes.get("rows_digest", "rows")),
        prompts_digest="prompts",
    )
    write_scores(store, layout, card, predictions, fingerprint="f")
