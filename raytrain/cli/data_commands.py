"""`raytrain data`: looking at data before it is prepared and after."""

from pathlib import Path
from typing import Annotated

import typer

from raytrain.cli import completion, render_data
from raytrain.cli.options import JobFile, Output, StorageFlag
from raytrain.cli.output import Format, emit, say, tell

data = typer.Typer(
    name="data", help="Look at the data of a job or of a run.", no_args_is_help=True, rich_markup_mode=None
)

Prepared = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="A job, a run (its name or URI), or the digest of a shard set.",
        autocompletion=completion.runs,
        show_default=False,
    ),
]
TaskFlag = Annotated[str | None, typer.Option("--task", metavar="NAME", help="This task only.", show_default=False)]


@data.command("show")
def show(
    job_file: JobFile,
    task: TaskFlag = None,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="Rows of each task.")] = 3,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show the pieces that the model reads, too.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Show rows as the model will see them.

    The instruction in its wordings, and the answer; read from the sources, nothing is written.
    """
    from raytrain.config.load import load_job
    from raytrain.datasets.preview import preview

    loaded = load_job(job_file)
    shown = preview(loaded.job, base_folder=loaded.base_folder, task=task, rows=rows, tokens=tokens)
    emit(shown, render_data.preview(shown), output)


@data.command("plan")
def plan(job_file: JobFile, storage: StorageFlag = None, output: Output = Format.TEXT) -> None:
    """How often will each task's rows be seen?

    Shares, epochs, repeats, tokens and steps: exact once the data is prepared, before that
    estimated from the sources.
    """
    from raytrain.config.load import load_job
    from raytrain.datasets.mixture_plan import plan as plan_of

    loaded = load_job(job_file)
    found = plan_of(loaded.job, storage=storage, base_folder=loaded.base_folder)
    emit(found, render_data.plan(found), output)


@data.command("stats")
def stats(
    what: Prepared,
    task: TaskFlag = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="FOLDER", help="Draw them there as PNG.", show_default=False)
    ] = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Show prepared data in numbers.

    Lengths, what was cut, unknown tokens, answers; by task and split.
    """
    from data_prep.quality import statistics
    from raytrain.datasets.resolve import load_data

    found = load_data(what, storage)
    summaries = statistics.summarize(found.shard_set, found.store, found.cache, task=task)
    emit(summaries, render_data.statistics(found.name, found.shard_set, summaries), output)
    if plots is not None:
        from data_prep.quality import plots as drawing

        for path in drawing.write(found.shard_set, summaries, found.store, found.cache, plots):
            tell(f"wrote {path}")


@data.command("check")
def check(
    what: Prepared,
    examples: Annotated[int, typer.Option("--examples", min=0, max=1000, help="Rows shown of each finding.")] = 2,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Findings of this kind only.", show_default=False)
    ] = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Look for rows that leak, overlap, repeat, answer otherwise, say nothing, or lose text.

    Every prepared row is read; nothing is written.
    """
    from data_prep.quality import findings
    from raytrain.datasets.resolve import load_data
    from raytrain.telemetry.console import Console

    findings.require_kind(kind)
    found = load_data(what, storage)
    with Console() as console:
        console.phase("reading all rows")
        seen = findings.find(
            found.shard_set,
            found.store,
            found.cache,
            examples=examples,
            on_progress=lambda name, done, total: console.update(done, total, name),
        )
    shown = [one for one in seen if kind in (None, one.kind)]
    emit(shown, render_data.findings(found.name, found.shard_set, shown), output)


@data.command("card")
def card(
    what: Prepared,
    checked: Annotated[bool, typer.Option("--check", help="Read all rows and add what `data check` finds.")] = False,
    storage: StorageFlag = None,
) -> None:
    """Print the data card (Markdown).

    Sources, revisions, licences, filters, counts, checks, templates; from the manifests of the
    prepared data.
    """
    from data_prep.quality import card as writing
    from data_prep.quality import findings
    from raytrain.datasets.resolve import load_data

    found = load_data(what, storage)
    tasks = {} if found.job is None else {task.name: task for task in found.job.spec.tasks}
    seen = findings.find(found.shard_set, found.store, found.cache, examples=1) if checked else None
    say(writing.card(found.shard_set, title=found.name, tasks=tasks, findings=seen).rstrip())


@data.command("diff")
def diff(
    first: Prepared,
    second: Prepared,
    examples: Annotated[int, typer.Option("--examples", min=0, max=100, help="Rows shown of each change.")] = 2,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Show what differs between two jobs, runs or shard sets.

    Settings, tasks, and the rows themselves.
    """
    from raytrain.datasets.diff import compare
    from raytrain.datasets.resolve import load_data

    found = compare(load_data(first, storage), load_data(second, storage), examples=examples)
    emit(found, render_data.comparison(found), output)


@data.command("verify")
def verify(what: Prepared, storage: StorageFlag = None, output: Output = Format.TEXT) -> None:
    """Read everything that is stored of prepared data, or of a run, and compare checksums.

    Ends with exit code 4 and the names of what is corrupt or missing.
    """
    from raytrain.datasets import verify as verification
    from raytrain.telemetry.console import Console
    from raytrain_core.errors import ExitCode

    with Console() as console:
        console.phase("reading what is stored")
        found = verification.verify(what, storage, on_progress=lambda done, total: console.update(done, total, "bytes"))
    emit(found, render_data.verified(found), output)
    if found.corrupt:
        raise typer.Exit(ExitCode.STORAGE)
