"""Kubernetes-native multitask fine-tuning of FLAN-T5 on Ray Train.

From Python:

    import raytrain as rt

    run = rt.Job.from_yaml("job.yaml").run()     # or rt.Job(...), or .submit(namespace=...)
    run.scores(), run.report(), run.model.generate(["..."], task="...")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raytrain.api import (
        Columns,
        Evaluation,
        Job,
        Lora,
        Mixture,
        Resources,
        Run,
        Source,
        SplitFractions,
        Storage,
        Task,
        Training,
        UserError,
        list_runs,
        open_job,
        open_run,
    )

__version__ = "0.1.0"
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


def __getattr__(name: str) -> Any:
    if name in __all__:  # on demand: `raytrain --help` needs none of it
        import raytrain.api

        return getattr(raytrain.api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
