"""A run with steps, scores, a report and a model, as a tracker's feed sees it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.results import MetricScore, ScoreCard
from raytrain.telemetry.attempts import Attempt
from raytrain.telemetry.progress import Progress
from raytrain.telemetry.segments import SegmentWriter
from raytrain_core.config.loader import from_mapping
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.commit import commit


def job_with(trackers: list[str], **training: Any) -> FineTuneJob:
    task = {"name": "notes", "type": "text", "source": {"uri": "notes.jsonl"}}
    spec = {"model": "m", "tasks": [task], "training": {"steps": 4, "trackers": trackers, **training}}
    written = {"apiVersion": "raytrain.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "run"}, "spec": spec}
    return from_mapping(written, FineTuneJob)


class TrackedContext:
    """Stands for `RunContext`: one attempt at a run."""

    def __init__(self, folder: Path, job: FineTuneJob) -> None:
        self.store: Store = open_store(str(folder / "storage"))
        self.layout, self.job = RunLayout("run"), job
        self.attempt = Attempt.begin(self.store, self.layout, {})
        self.record = SimpleNamespace(written=job)
        self.told: list[str] = []
        self.lines: list[str] = []
        self.progress = SimpleNamespace(progress=Progress("run", self.attempt.number), link=self._link)
        self.console = SimpleNamespace(line=self.lines.append)

    def _link(self, name: str, uri: str) -> None:
        self.progress.progress = Progress("run", self.attempt.number, links={name: uri})

    def emit(self, kind: str, message: str, **fields: Any) -> None:
        assert kind == "TrackerFailed"
        self.told.append(message)

    def train(self, steps: range) -> None:
        with SegmentWriter(self.store, self.layout, "metrics", self.attempt.number) as writer:
            for step in steps:
                writer.append({"step": step, "loss": 1 / step, "mfu": None, "loss_by_task": {"notes": 2 / step}})

    def score(self, stage: str, value: float, step: int) -> None:
        split = "test" if stage in ("before", "after") else "validation"
        scores = {"exact": MetricScore(value, value - 0.25, value + 0.25, "higher")}
        card = ScoreCard(stage, "notes", "text", False, split, step, {}, primary_metric="exact", metrics=scores)
        files = {"scores.json": json.dumps(card.to_json()).encode()}
        commit(self.store, self.layout.scores(stage, "notes"), files, {"kind": "scores"})

    def finish(self, model: Path | None = None) -> None:
        """Commits a report, and the files of a folder as the model."""
        files = (
            {path.name: path for path in model.iterdir()}
            if model
            else {"config.json": b"{}", "model.safetensors": b"weights"}
        )
        commit(self.store, self.layout.model, files, {"kind": "model"})
        commit(self.store, self.layout.report, {"index.html": b"<p>page</p>"}, {"kind": "report"})
