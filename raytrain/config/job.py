"""The FineTuneJob: tasks, probes, mixture, model, and the sections of the modules next to it.

These models are the one definition of a job. The JSON Schema, the CRD, `raytrain explain` and the
reference documentation are generated from them. Tasks and mixture are defined in
`data_prep.config`, the storage in `raytrain_core.storage.location`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from data_prep.config import Mixture, Name, Task
from data_prep.tasks.mixture import misfit
from raytrain.config.benchmark import Benchmark
from raytrain.config.cluster import ClusterSpec
from raytrain.config.evaluation import EvaluationSpec
from raytrain.config.resources import Resources
from raytrain.config.serving import ServingSpec
from raytrain.config.training import TrainingSpec
from raytrain_core.config.base import SpecModel, checked_by
from raytrain_core.storage import StorageLocation
from raytrain_core.storage.uri import check_model_uri

API_VERSION = "raytrain.dev/v1alpha1"
KIND = "FineTuneJob"


class Metadata(SpecModel):
    """Name of the run, and Kubernetes metadata."""

    name: Name = Field(description=("Name of the run."))
    namespace: str | None = Field(default=None, description="Kubernetes namespace; unused outside a cluster.")
    labels: dict[str, str] = Field(default_factory=dict, description="Kubernetes labels; unused outside a cluster.")
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Kubernetes annotations; unused outside a cluster."
    )


def _or_a_name(schema: dict[str, Any]) -> None:
    """Lets editors accept the name of a benchmark in place of its mapping."""
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


class Spec(SpecModel):
    """What to train, on which data, and how."""

    model: Annotated[str, checked_by(check_model_uri)] = Field(
        min_length=1,
        description=(
            "The model to start from: a Hugging Face id, if needed with @ and a branch, tag or commit; a local "
            "folder; a prefix in a bucket (s3://, gs://, az://); or run://NAME (the model of an "
            "earlier run). A run goes on with the commit that it started with. "
            "Private models need HF_TOKEN; HF_ENDPOINT names a mirror."
        ),
        examples=["google/flan-t5-base", "google/flan-t5-base@main", "./my-model", "run://samsum"],
    )
    storage: StorageLocation | None = Field(
        default=None,
        description=(
            "Where shards and runs are stored. Order of precedence: the flag --storage, this field, "
            "RAYTRAIN_STORAGE, ./raytrain-storage."
        ),
    )
    tasks: list[Task] = Field(min_length=1, max_length=2000, description="The tasks, including probes.")
    probes: list[Benchmark] = Field(
        default_factory=list,
        max_length=100,
        description=(
            "Standard benchmarks that are scored before and after training, to show what the model forgets; a name "
            "alone, such as mmlu, is short for {benchmark: mmlu}. For probes with rows of your own see tasks[].probe."
        ),
        examples=["[mmlu, bbh, arc_easy]"],
        json_schema_extra=_or_a_name,
    )
    mixture: Mixture = Field(default_factory=Mixture, description="Sampling rates of the tasks.")
    training: TrainingSpec = Field(description="Training settings.")
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec, description="Evaluation settings.")
    resources: Resources = Field(
        default_factory=Resources, description="Number of workers and actors, and the resources of each."
    )
    cluster: ClusterSpec | None = Field(default=None, description="Placement in a Kubernetes cluster.")
    serving: ServingSpec | None = Field(
        default=None,
        description=(
            "Serve the tuned model once the run is complete, in a Kubernetes cluster; elsewhere use raytrain serve. It "
            "may be added, changed and removed at any time."
        ),
    )

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        names = [*(t.name for t in self.tasks), *(benchmark.probe for benchmark in self.probes)]
        if double := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two {'tasks or probes' if self.probes else 'tasks'} are named {', '.join(double)}")
        trained = {t.name for t in self.tasks if not t.probe}
        if not trained:
            raise ValueError("every task is a probe: nothing would be trained")
        if wrong := misfit(self.mixture, trained):
            raise ValueError(wrong)
        if unknown := sorted(self.training.task_weights.keys() - trained):
            raise ValueError(f"training.taskWeights names tasks that are not trained: {', '.join(unknown)}")
        if not any(self.training.task_weights.get(name, 1.0) for name in trained):
            raise ValueError("training.taskWeights is 0 for every trained task: nothing would be learned")
        return self

    @model_validator(mode="after")
    def _sharding_fits(self) -> Self:
        if self.resources.training.sharding == "fsdp" and self.training.method == "lora":
            raise ValueError(
                "resources.training.sharding is fsdp, but training.method is lora: adapters leave little to shard; "
                "use sharding: ddp, and for a large model training.precision: bf16-pure"
            )
        return self

    @property
    def trained_tasks(self) -> list[Task]:
        """The tasks that are trained on: all but probes."""
        return [t for t in self.tasks if not t.probe]


class FineTuneJob(SpecModel):
    """A multitask fine-tuning of a T5 model, from raw rows to a before/after report."""

    api_version: Literal["raytrain.dev/v1alpha1"] = Field(description="Version of the format.")
    kind: Literal["FineTuneJob"] = Field(description="Always FineTuneJob.")
    metadata: Metadata = Field(description="Name of the run.")
    spec: Spec = Field(description="What to train, on which data, and how.")
