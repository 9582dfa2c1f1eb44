"""What a notebook or a script uses, as `import raytrain as rt`: jobs, runs and their models."""

from raytrain.api.cluster_run import open_job
from raytrain.api.fields import (
    Columns,
    Evaluation,
    Lora,
    Mixture,
    Resources,
    Source,
    SplitFractions,
    Storage,
    Task,
    Training,
)
from raytrain.api.job import Job
from raytrain.api.run import Run
from raytrain.api.stored_run import list_runs, open_run
from raytrain_core.errors import UserError

__all__ = [
    "Columns",
    "Evaluation",
    "Job",
    "Lora",
    "Mixture",
    "Resources",
    "Run",
    "Source",
    "SplitFractions",
    "Storage",
    "Task",
    "Training",
    "UserError",
    "list_runs",
    "open_job",
    "open_run",
]
