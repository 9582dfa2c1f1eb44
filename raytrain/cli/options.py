"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raytrain.cli import completion
from raytrain.cli.output import Format

JobFile = Annotated[Path, typer.Argument(metavar="JOB_FILE", help="The job, e.g. job.yaml.", show_default=False)]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run: its name, its URI (.../runs/NAME), or its job.",
        autocompletion=completion.runs,
        show_default=False,
    ),
]
StorageFlag = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URI",
        help="Folder or s3://bucket/prefix; else the job's, RAYTRAIN_STORAGE, ./raytrain-storage.",
        show_default=False,
    ),
]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print the answer.")]


def open_run(run: str, storage: str | None) -> tuple[Any, Any]:
    """The store and the layout of a run that exists."""
    from raytrain.config.locations import locate_run
    from raytrain.runs import status

    return status.open_run(locate_run(run, storage))
