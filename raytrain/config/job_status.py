"""The status of a FineTuneJob in a cluster: one definition for the CRD, the operator and the run.

The operator writes everything except `progress`, `tasks` and `result`, which the run patches into
its own object.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from raytrain_core.config.base import SpecModel

CONDITIONS = (
    *("Ready", "Progressing", "Stalled", "Accepted", "PodsReady", "DataReady", "Running", "Evaluated", "Complete"),
    *("Failed", "Suspended"),
)

OBJECT_VARIABLE = "RAYTRAIN_KUBERNETES_OBJECT"
"""Environment variable with the FineTuneJob of a run in a pod: NAMESPACE/NAME."""
ATTEMPT_VARIABLE = "RAYTRAIN_KUBERNETES_ATTEMPT"
"""Environment variable with the number of the attempt."""
RAY_CLUSTER_VARIABLE = "RAY_CLUSTER_NAME"
"""KubeRay's environment variable with the name of a pod's RayCluster."""
OWNER_VARIABLE = "RAYTRAIN_KUBERNETES_OWNER"
"""Environment variable with the namespace to which the runs of a pod belong, and its UID."""
CPU_POD, CPU_POD_SHARE = "raytrain-cpu-pod", 0.001
"""Ray's name for a place in a pod without GPUs, and how much of it a process takes.

Preparation and the driver take one, so that they neither start pods with GPUs nor hold their CPUs.
"""
DRIVER_CPUS = 0.1
"""CPUs that a driver reserves: more than the head offers (0), so the CPU group gets it."""


class StatusModel(SpecModel):
    """Base of the status models: ignores fields that a newer version added."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, allow_inf_nan=False
    )


class RunProgress(StatusModel):
    """Progress of the run, written by the run at most every 10 seconds."""

    attempt: int = Field(description="Attempt that wrote this.")
    phase: str = Field(
        max_length=40, description="Preparing, ScoringBefore, Training, ScoringAfter, Reporting or Complete."
    )
    step: int = Field(default=0, description="Optimizer steps done.")
    steps: int | None = Field(default=None, description="Optimizer steps in total.")
    percent: str = Field(default="", max_length=10, description="Share of steps done, e.g. 62%.")
    tokens: int = Field(default=0, description="Source and target tokens trained so far.")
    tokens_per_second: float | None = Field(default=None, description="Training throughput in tokens per second.")
    eta_seconds: float | None = Field(default=None, description="Estimated seconds until training ends.")
    loss: float | None = Field(default=None, description="Training loss per target token.")
    rouge_l: str = Field(
        default="", max_length=60, description="ROUGE-L (0 to 100) before → now, mean of the trained tasks."
    )
    message: str = Field(default="", max_length=1024, description="What the run is doing.")
    report: str = Field(
        default="", max_length=2048, description="URI of the report, a page that fills up while the run goes on."
    )
    checkpointed: str = Field(default="", max_length=40, description="When the newest checkpoint was committed.")
    updated: str = Field(default="", max_length=40, description="When this was written.")


class TaskStatus(StatusModel):
    """Scores of one task, written by the run.

    Scores are fractions, or values in a unit of their own (`scale` raw).
    """

    name: str = Field(max_length=40, description="Name of the task.")
    metric: str = Field(max_length=60, description="Primary metric of the task.")
    probe: bool = Field(
        default=False, description="Whether the task is a probe: never trained on, it shows what is forgotten."
    )
    before: float | None = Field(default=None, description="Score of the base model on test rows.")
    now: float | None = Field(default=None, description="Score of the newest scored checkpoint on validation rows.")
    after: float | None = Field(default=None, description="Score of the tuned model on test rows.")
    scale: Literal["percent", "raw"] = Field(
        default="percent", description="percent: scores are fractions, shown as 0 to 100; raw: a unit of their own."
    )


class RunResult(StatusModel):
    """How the run of an attempt ended, written by the run just before it exits.

    If it is missing, the attempt was cut off.
    """

    attempt: int = Field(description="Attempt that ended.")
    ray_cluster: str = Field(
        default="",
        max_length=63,
        description=(
            "RayCluster in which it ended: an attempt that a queue stopped and resumed has had several, and a result "
            "judges only its own."
        ),
    )
    exit_code: int = Field(
        description=(
            "0 done; not retried: 2 usage, 3 data, 6 training; retried: 1 bug, 4 storage, 5 cluster; 130 interrupted."
        )
    )
    reason: str = Field(
        max_length=60, description="Reason in one word: Complete, UsageError, DataError, StorageError, ..."
    )
    message: str = Field(default="", max_length=1024, description="Reason as a sentence.")
    report: str = Field(default="", max_length=2048, description="URI of the report.")


class Condition(StatusModel):
    """A Kubernetes condition."""

    type: str = Field(max_length=316, description=", ".join(CONDITIONS) + ".")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that the condition refers to."
    )
    last_transition_time: str = Field(max_length=40, description="When the status last changed.")
    reason: str = Field(max_length=1024, description="Reason in one word.")
    message: str = Field(max_length=4096, description="Reason as a sentence.")


Outcome = Literal["Running", "Succeeded", "Failed", "Interrupted", "Suspended", "Released", "Cancelled"]
ObstacleKind = Literal["mistake", "capacity", "failure"]


class Obstacle(StatusModel):
    """What keeps pods of an attempt from starting."""

    kind: ObstacleKind = Field(
        description=(
            "mistake: something in the job or the namespace has to be corrected; capacity: no room, or no quota, at "
            "the moment; failure: anything else, which may pass."
        )
    )
    reason: str = Field(max_length=1024, description="Reason in one word, as Kubernetes calls it.")
    message: str = Field(max_length=1024, description="Reason as a sentence.")
    since: str = Field(default="", max_length=40, description="When the operator first saw it.")


class AttemptStatus(StatusModel):
    """One attempt: a RayJob that starts the run, or resumes it from the newest checkpoint."""

    number: int = Field(ge=1, description="Number of the attempt, counted from 1.")
    ray_job: str = Field(max_length=63, description="Name of its RayJob.")
    outcome: Outcome = Field(
        default="Running",
        description=(
            "Running, or how the attempt ended. Released: it gave its pods back because not enough of them started, "
            "or to take up a corrected job; the next start has the same number and costs no retry."
        ),
    )
    reason: str = Field(default="", max_length=1024, description="Why it ended, in one word.")
    message: str = Field(default="", max_length=1024, description="Why it ended, as a sentence.")
    exit_code: int | None = Field(default=None, description="Exit code of the run, if the run reported one.")
    started: str = Field(default="", max_length=40, description="When its RayJob was created.")
    ended: str | None = Field(default=None, max_length=40, description="When the operator saw that it had ended.")
    generation: int | None = Field(default=None, description="Generation of the spec that it was started with.")
    obstacle: Obstacle | None = Field(
        default=None, description="What keeps its pods from starting; the last one is kept when the attempt ends."
    )
    released: int | None = Field(
        default=None, description="How often it gave its pods back because not enough of them started."
    )


class Usage(StatusModel):
    """What the job has used, up to `since`; afterwards it holds `gpus`."""

    since: str = Field(max_length=40, description="Up to when everything is counted.")
    gpus: float = Field(default=0, description="GPUs of its ready pods since then.")
    waiting: bool = Field(default=False, description="Whether it waits for a turn, room or quota since then.")
    attempt: str = Field(default="", max_length=60, description="Number, releases and outcome of the attempt then.")
    checkpointed: str = Field(default="", max_length=40, description="When its newest checkpoint was committed.")
    gpu_seconds: float = Field(default=0, description="GPU-seconds used: of ready pods until their attempt's end.")
    wasted_gpu_seconds: float = Field(
        default=0, description="Those since the last checkpoint of attempts that did not succeed: they were repeated."
    )
    unsaved_gpu_seconds: float = Field(default=0, description="Those since the newest checkpoint, up to `since`.")
    waiting_seconds: float = Field(default=0, description="Seconds spent waiting for a turn, room or quota.")
    estimated_gpu_seconds: float | None = Field(
        default=None, description="What `raytrain submit` estimated; empty without it, or where it was unknown."
    )
    price: tuple[float, float] | None = Field(
        default=None, description="Lowest and highest price of a GPU-hour on the nodes it may have had."
    )
    cost: str | None = Field(default=None, max_length=60, description="Price of the GPU-seconds used.")
    currency: str = Field(default="", max_length=3, description="Currency of price and cost.")


class ServingStatus(StatusModel):
    """Serving of the model."""

    ready: bool = Field(default=False, description="Whether a model answers requests.")
    run: str = Field(default="", max_length=63, description="Run whose model answers, or is being started.")
    url: str = Field(default="", max_length=300, description="Address inside the cluster.")
    message: str = Field(default="", max_length=2048, description="State as a sentence.")


class Status(StatusModel):
    """State of the job in the cluster."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that the status refers to."
    )
    phase: str = Field(
        default="Pending",
        max_length=40,
        description=(
            "Rejected, Waiting (for the job whose model it starts from), Pending, Queued, Preparing, ScoringBefore, "
            "Training, ScoringAfter, Reporting, Retrying, Suspending, Suspended, Cancelling, Complete, Cancelled or "
            "Failed; a summary of the conditions."
        ),
    )
    message: str = Field(default="", max_length=4096, description="The phase as a sentence, and what to do about it.")
    conditions: list[Condition] = Field(default_factory=list, max_length=20, description="Conditions by type.")
    attempts: list[AttemptStatus] = Field(default_factory=list, max_length=100, description="All attempts so far.")
    place: int | None = Field(
        default=None, description="Place in the line of jobs that wait for a turn (maxRunningJobs); 1 is next."
    )
    not_before: str | None = Field(
        default=None, max_length=40, description="When the next start is tried, after one that failed or found no room."
    )
    waiting_since: str | None = Field(
        default=None, max_length=40, description="Since when the job has been waiting for a turn, room or quota."
    )
    storage: str = Field(
        default="", max_length=2048, description="URI of the storage in which the run is: it is runs/NAME there."
    )
    workers: str = Field(default="", max_length=40, description="Pods of the Ray cluster, ready/desired.")
    ray_cluster: str | None = Field(default=None, max_length=63, description="RayCluster of the newest attempt.")
    dashboard: str | None = Field(
        default=None, max_length=300, description="Address of Ray's dashboard inside the cluster."
    )
    start_time: str | None = Field(default=None, max_length=40, description="When the first attempt started.")
    completion_time: str | None = Field(default=None, max_length=40, description="When the job ended.")
    notified: list[Annotated[str, StringConstraints(max_length=200)]] = Field(
        default_factory=list, max_length=100, description="Notifications that were sent, or given up, by channel."
    )
    usage: Usage | None = Field(default=None, description="GPU-seconds, time in line and cost, beside the estimate.")
    serving: ServingStatus | None = Field(
        default=None, description="Serving of the model, if the job has spec.serving and is complete."
    )
    progress: RunProgress | None = Field(default=None, description="Progress of the run, written by the run.")
    tasks: list[TaskStatus] = Field(
        default_factory=list, max_length=2000, description="Scores of the tasks, written by the run."
    )
    links: dict[str, Annotated[str, StringConstraints(max_length=2048)]] = Field(
        default_factory=dict,
        max_length=10,
        description="Pages of the run at its experiment trackers, by tracker, written by the run.",
    )
    result: RunResult | None = Field(default=None, description="How the run ended, written by the run.")
