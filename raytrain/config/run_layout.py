"""The keys of a run's files under its storage URI; nothing is read or written here."""

import re
from dataclasses import dataclass

_CHECKPOINT = re.compile(r"step-(\d{6,})-a(\d{2,})$")


@dataclass(frozen=True, slots=True)
class RunLayout:
    """Keys of the run `name`; all relative to the storage URI."""

    name: str

    @property
    def root(self) -> str:
        """Prefix of everything that belongs to this run."""
        return f"runs/{self.name}"

    @property
    def job(self) -> str:
        """The job and its identity (`runs.record`)."""
        return f"{self.root}/job.yaml"

    @property
    def owner(self) -> str:
        """Whose run it is (`runs.owner`); absent if it is the command line's."""
        return f"{self.root}/owner.json"

    @property
    def progress(self) -> str:
        """The run's progress, for people and the command line."""
        return f"{self.root}/progress.json"

    @property
    def preparation(self) -> str:
        """What happened to the rows while they were prepared (`data_prep.tally`), by task."""
        return f"{self.root}/preparation.json"

    def tracker(self, name: str) -> str:
        """What is known of the run at a tracker (`telemetry.trackers.record`)."""
        return f"{self.root}/trackers/{name}.json"

    @property
    def attempts(self) -> str:
        """Prefix of the attempt records."""
        return f"{self.root}/attempts"

    def attempt(self, number: int) -> str:
        """Record of one attempt, written only if absent."""
        return f"{self.attempts}/a{number:02d}.json"

    def segment(self, kind: str, attempt: int, number: int) -> str:
        """A segment of `events` or `metrics`."""
        return f"{self.root}/{kind}/a{attempt:02d}-{number:06d}.jsonl"

    def log(self, attempt: int, source: str) -> str:
        """Log of the driver (`driver`) or of a training worker (`rank-000`)."""
        return f"{self.root}/logs/a{attempt:02d}/{source}.log"

    @property
    def checkpoints(self) -> str:
        """Prefix of all checkpoints."""
        return f"{self.root}/checkpoints"

    def checkpoint(self, step: int, attempt: int) -> str:
        """Prefix of one checkpoint."""
        return f"{self.checkpoints}/step-{step:06d}-a{attempt:02d}"

    def scores(self, stage: str, task: str) -> str:
        """Prefix of a task's scores at a stage: `before`, `step-000500` or `after`."""
        return f"{self.root}/scores/{stage}/{task}"

    @property
    def report(self) -> str:
        """Prefix of the report."""
        return f"{self.root}/report"

    @property
    def live_report(self) -> str:
        """The report as one page that is replaced while the run goes on."""
        return f"{self.root}/report.html"

    @property
    def reviews(self) -> str:
        """Prefix of the choices of people (`report.review_choices`)."""
        return f"{self.root}/reviews"

    @property
    def model(self) -> str:
        """Prefix of the exported model."""
        return f"{self.root}/model"


def stage_of_step(step: int) -> str:
    """The stage of a checkpoint's validation scores: `step-000500`."""
    return f"step-{step:06d}"


@dataclass(frozen=True)
class EvaluationLayout(RunLayout):
    """Keys of the scores of a model that was not trained by a run; named after the model."""

    @property
    def root(self) -> str:
        """Prefix of everything that belongs to this model's scores."""
        return f"evaluations/{self.name}"


def parse_checkpoint(prefix: str) -> tuple[int, int] | None:
    """Returns (step, attempt) of a checkpoint prefix, None if it is not one."""
    match = _CHECKPOINT.search(prefix.rstrip("/"))
    return (int(match[1]), int(match[2])) if match else None
