"""`raytrain data`: commands that inspect data before and after preparation."""

from pathlib import Path
from typing import Annotated

import typer

from raytrain.cli import completion, render_data
from raytrain.cli.options import JobFile, Output, StorageFlag
from raytrain.cli.output import Format, print_note, print_output, print_text

data = typer.Typer(
    name="data",
    help="Inspect data: show, plan, stats, check, card, diff, verify.",
    no_args_is_help=True,
    rich_markup_mode=None,
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
TaskFlag = Annotated[str | None, typer.Option("--task", metavar="NAME", help="Only this task.", show_default=False)]


@data.command("show")
def show(
    job_file: JobFile,
    task: TaskFlag = None,
    *,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="Rows per task.")] = 3,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also show the tokens.")] = False,
    raw: Annotated[
        str | None,
        typer.Option(
            "--raw",
            metavar="FILE:LINE",
            help="Show this row as the file has it, then step by step as the model gets it.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show rows as the model will see them.

    Rows are read from the sources and rendered with the instruction templates. Nothing is written.
    """
    from raytrain.config.load import load_job
    from raytrain.datasets.preview import preview

    loaded = load_job(job_file)
    if raw is not None:
        from raytrain.datasets.row_trace import trace_row

        traces = trace_row(loaded.job, raw, base_folder=loaded.base_folder, task=task)
        print_output(traces, render_data.row_traces(traces), output)
        return
    shown = preview(loaded.job, base_folder=loaded.base_folder, task=task, rows=rows, tokens=tokens)
    print_output(shown, render_data.preview(shown), output)


@data.command("plan")
def plan(job_file: JobFile, storage: StorageFlag = None, output: Output = Format.TEXT) -> None:
    """Show how often training will see the rows of each task.

    Prints shares, epochs, repetitions, tokens and steps. They are exact once the data is prepared,
    and estimated from the sources before that.
    """
    from raytrain.config.load import load_job
    from raytrain.datasets.mixture_plan import plan as plan_of

    loaded = load_job(job_file)
    found = plan_of(loaded.job, storage=storage, base_folder=loaded.base_folder)
    print_output(found, render_data.plan(found), output)


@data.command("stats")
def stats(
    what: Prepared,
    task: TaskFlag = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots", metavar="FOLDER", help="Also draw them as PNG files into this folder.", show_default=False
        ),
    ] = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Show statistics of prepared data.

    Prints lengths, truncation, unknown tokens and answers by task and split.
    """
    from data_prep.quality import statistics
    from raytrain.datasets.resolve import load_data

    found = load_data(what, storage)
    summaries = statistics.summarize(found.shard_set, found.store, found.cache, task=task)
    print_output(summaries, render_data.statistics(found.name, found.shard_set, summaries), output)
    if plots is not None:
        from data_prep.quality import plots as drawing

        for path in drawing.write(found.shard_set, summaries, found.store, found.cache, plots):
            print_note(f"wrote {path}")


@data.command("check")
def check(
    what: Prepared,
    examples: Annotated[int, typer.Option("--examples", min=0, max=1000, help="Example rows per finding.")] = 2,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only findings of this kind.", show_default=False)
    ] = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Find leaks, duplicates, contradicting answers and other problems in prepared data.

    Reads every prepared row. Nothing is written.
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
    print_output(shown, render_data.findings(found.name, found.shard_set, shown), output)


@data.command("card")
def card(
    what: Prepared,
    checked: Annotated[
        bool, typer.Option("--check", help="Read all rows and add the findings of `data check`.")
    ] = False,
    storage: StorageFlag = None,
) -> None:
    """Print the data card as Markdown.

    It lists sources, revisions, licences, filters, counts, checks and templates from the manifests
    of the prepared data.
    """
    from data_prep.quality import card as writing
    from data_prep.quality import findings
    from raytrain.datasets.resolve import load_data

    found = load_data(what, storage)
    tasks = {} if found.job is None else {task.name: task for task in found.job.spec.tasks}
    seen = findings.find(found.shard_set, found.store, found.cache, examples=1) if checked else None
    print_text(writing.card(found.shard_set, title=found.name, tasks=tasks, findings=seen).rstrip())


@data.command("diff")
def diff(
    first: Prepared,
    second: Prepared,
    examples: Annotated[int, typer.Option("--examples", min=0, max=100, help="Example rows per change.")] = 2,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Show what differs between two jobs, runs or shard sets.

    Compares settings, tasks and the rows themselves.
    """
    from raytrain.datasets.diff import compare
    from raytrain.datasets.resolve import load_data

    found = compare(load_data(first, storage), load_data(second, storage), examples=examples)
    print_output(found, render_data.comparison(found), output)


@data.command("verify")
def verify(what: Prepared, storage: StorageFlag = None, output: Output = Format.TEXT) -> None:
    """Verify the checksums of prepared data or of a run.

    Reads everything that is stored. Lists corrupt and missing objects and ends with exit code 4 if
    there are any.
    """
    from raytrain.datasets import verify as verification
    from raytrain.telemetry.console import Console
    from raytrain_core.errors import ExitCode

    with Console() as console:
        console.phase("reading what is stored")
        found = verification.verify(what, storage, on_progress=lambda done, total: console.update(done, total, "bytes"))
    print_output(found, render_data.verified(found), output)
    if found.corrupt:
        raise typer.Exit(ExitCode.STORAGE)
