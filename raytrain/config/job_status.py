"""The status of a FineTuneJob in a cluster: one definition for the CRD, the operator and the run itself.

The operator writes everything but `progress`, `tasks` and `result`: these are the run's, which
patches its own object.
"""

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from raytrain_core.config.base import SpecModel

CONDITIONS = ("Accepted", "DataReady", "Running", "Evaluated", "Complete", "Failed", "Suspended")
RUN_FIELDS = ("progress", "tasks", "result")
"""Fields of the status that the run writes."""

OBJECT_VARIABLE = "RAYTRAIN_KUBERNETES_OBJECT"
"""Environment variable that tells a run in a pod its own object: NAMESPACE/NAME."""
ATTEMPT_VARIABLE = "RAYTRAIN_KUBERNETES_ATTEMPT"
"""And which of the operator's attempts it is."""
DRIVER_CPUS = 0.1
"""What a run's driver reserves in the CPU group: enough not to be placed on the head, which has none to give."""


class StatusModel(SpecModel):
    """Base of the status: what a newer version added is ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, allow_inf_nan=False
    )


class RunProgress(StatusModel):
    """Where the run stands, written by the run at most every 10 seconds."""

    attempt: int = Field(description="The attempt that wrote this.")
    phase: str = Field(max_length=40, description="Preparing, ScoringBefore, Training, ScoringAfter, Reporting, ...")
    step: int = Field(default=0, description="Optimizer steps done.")
    steps: int | None = Field(default=None, description="Optimizer steps in all.")
    percent: str = Field(default="", max_length=10, description="Share of the steps that is done, e.g. 62%.")
    tokens: int = Field(default=0, description="Source and target tokens trained so far.")
    tokens_per_second: float | None = Field(default=None, description="Tokens trained in a second.")
    eta_seconds: float | None = Field(default=None, description="Seconds that the training still takes.")
    loss: float | None = Field(default=None, description="Training loss per target token.")
    rouge_l: str = Field(default="", max_length=60, description="ROUGE-L before → now, mean of the trained tasks.")
    message: str = Field(default="", max_length=1024, description="What the run is doing, in words.")
    updated: str = Field(default="", max_length=40, description="When this was written.")


class TaskStatus(StatusModel):
    """Scores of one task, written by the run.

    Fractions; a higher one is better unless the metric is an error.
    """

    name: str = Field(max_length=40, description="Name of the task.")
    metric: str = Field(max_length=60, description="Its headline metric.")
    probe: bool = Field(default=False, description="Never trained on: shows what is forgotten.")
    before: float | None = Field(default=None, description="Score of the base model on test rows.")
    now: float | None = Field(default=None, description="Score of the newest scored checkpoint on validation rows.")
    after: float | None = Field(default=None, description="Score of the tuned model on test rows.")


class RunResult(StatusModel):
    """How the run of an attempt ended, written by the run before it exits.

    Without it the attempt was cut off.
    """

    attempt: int = Field(description="The attempt that ended.")
    exit_code: int = Field(
        description="0 done; 2 usage, 3 data, 6 training: not tried again; 1 bug, 4 storage, 5 cluster: tried again; "
        "130 interrupted."
    )
    reason: str = Field(max_length=60, description="One word: Complete, UsageError, DataError, StorageError, ...")
    message: str = Field(default="", max_length=1024, description="The same in words.")
    report: str = Field(default="", max_length=2048, description="Where the report is.")


class Condition(StatusModel):
    """A condition as Kubernetes knows them."""

    type: str = Field(max_length=316, description="Accepted, DataReady, Running, Evaluated, Complete, Failed, ...")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int | None = Field(default=None, description="Generation of the job it was judged by.")
    last_transition_time: str = Field(max_length=40, description="When it began to hold, or ceased to.")
    reason: str = Field(max_length=1024, description="Why, in one word.")
    message: str = Field(max_length=4096, description="Why, in words.")


Outcome = Literal["Running", "Succeeded", "Failed", "Interrupted", "Suspended", "Cancelled"]


class AttemptStatus(StatusModel):
    """One attempt: a RayJob that begins the run or resumes it from the newest checkpoint."""

    number: int = Field(ge=1, description="Counts from 1.")
    ray_job: str = Field(max_length=63, description="Name of its RayJob.")
    outcome: Outcome = Field(default="Running", description="How it stands or ended.")
    reason: str = Field(default="", max_length=1024, description="Why it ended, in one word.")
    message: str = Field(default="", max_length=1024, description="Why it ended, in words.")
    exit_code: int | None = Field(default=None, description="Exit code of the run, if it got so far.")
    started: str = Field(default="", max_length=40, description="When its RayJob was made.")
    ended: str | None = Field(default=None, max_length=40, description="When it ended.")


class Status(StatusModel):
    """How the job is doing."""

    observed_generation: int | None = Field(default=None, description="Generation of the job that this is about.")
    phase: str = Field(
        default="Pending",
        max_length=40,
        description="Rejected, Pending, Queued, Preparing, ScoringBefore, Training, ScoringAfter, Reporting, Retrying, "
        "Suspended, Complete, Cancelled or Failed; derived from the conditions.",
    )
    message: str = Field(default="", max_length=4096, description="The same in words, and what to do.")
    conditions: list[Condition] = Field(default_factory=list, max_length=20, description="Conditions by type.")
    attempts: list[AttemptStatus] = Field(default_factory=list, max_length=100, description="All attempts so far.")
    workers: str = Field(default="", max_length=40, description="Pods of the Ray cluster that are ready, and wanted.")
    ray_cluster: str | None = Field(default=None, max_length=63, description="The RayCluster of the newest attempt.")
    dashboard: str | None = Field(default=None, max_length=300, description="Ray's dashboard inside the cluster.")
    start_time: str | None = Field(default=None, max_length=40, description="When the first attempt was made.")
    completion_time: str | None = Field(default=None, max_length=40, description="When the job ended.")
    progress: RunProgress | None = Field(default=None, description="Written by the run: where it stands.")
    tasks: list[TaskStatus] = Field(default_factory=list, max_length=2000, description="Written by the run: scores.")
    result: RunResult | None = Field(default=None, description="Written by the run: how it ended.")
