"""Commands that inspect and compare runs, and clean up their storage."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raytrain.cli import completion, render
from raytrain.cli.options import Namespace, Output, Run, StorageFlag, open_run
from raytrain.cli.output import Format, print_note, print_output, print_text

run_commands = typer.Typer()


@run_commands.command()
def status(
    run: Run,
    namespace: Namespace = None,
    storage: StorageFlag = None,
    why: Annotated[bool, typer.Option("--why", help="Show what limits the speed of the latest steps.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Show the progress of a run and what to do next.

    With -n, the status is that of the FineTuneJob in the cluster.
    """
    if namespace is not None and not why:
        from raytrain.cluster import jobs
        from raytrain.kubernetes.client import KubernetesApi

        job = jobs.of_object(jobs.get(KubernetesApi.connect(), namespace, run))
        print_output(job, render.job(job), output)
        return
    from raytrain.runs import status as run_status

    store, layout = open_run(run, storage, namespace)
    if why:
        bottleneck = run_status.find_bottleneck(store, layout)
        print_output(bottleneck.as_json(), render.bottleneck(bottleneck), output)
        return
    found = run_status.read_status(store, layout.name)
    print_output(found.as_json(), render.status(found), output)


@run_commands.command()
def logs(
    run: Run,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Keep printing until the run has ended.")] = False,
    source: Annotated[
        str | None, typer.Option("--source", help="Only this log: driver, rank-000, ...", show_default=False)
    ] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Only this attempt.", show_default=False)
    ] = None,
    namespace: Namespace = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Print the logs of a run's driver and workers, merged by time.

    They are read from the run's storage. They lag at most half a minute behind and remain when the
    machines are gone.
    """
    from raytrain.runs import logs as run_logs

    store, layout = open_run(run, storage, namespace)
    if follow:
        entries = run_logs.follow(store, layout, source=source, attempt=attempt)
    else:
        entries = iter(run_logs.read(store, layout, source=source, attempt=attempt))
    if output is Format.JSON:
        print_output(list(entries), "", output)
        return
    for entry in entries:
        print_text(f"{entry.attempt} {entry.source}: {entry.text}")


@run_commands.command()
def watch(
    run: Run,
    *,
    web: Annotated[
        bool, typer.Option("--web", help="Serve the report as a page that fills up while the run goes on.")
    ] = False,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 127.0.0.1 accepts only this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 chooses a free one.")] = 8080,
    every: Annotated[float, typer.Option("--every", min=1, metavar="SECONDS", help="Look so often.")] = 5.0,
    namespace: Namespace = None,
    storage: StorageFlag = None,
) -> None:
    """Watch a run until it has ended: its status here, or its report in a browser with --web.

    It reads storage only, so it works from any machine, and stopping it (Ctrl-C) stops nothing
    else.
    """
    store, layout = open_run(run, storage, namespace)
    if web:
        from raytrain.serving.live_report import serve_report

        serve_report(
            store, layout, host=host, port=port, every=every, on_ready=lambda url: print_note(f"the report is at {url}")
        )
        return
    from raytrain.runs import status as run_status

    for found in run_status.follow_status(store, layout.name, every=every):
        print_text(render.status(found))


@run_commands.command()
def report(
    run: Run,
    *,
    namespace: Namespace = None,
    storage: StorageFlag = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Also save the HTML page to this file.", show_default=False),
    ] = None,
    review: Annotated[
        int | None,
        typer.Option(
            "--review",
            min=1,
            metavar="N",
            help="Write a page instead on which people choose between the answers before and after training, "
            "blinded, of N rows (RUN-review.html, or --save).",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws the rows and the order of --review.")] = 0,
    choices: Annotated[
        Path | None,
        typer.Option(
            "--review-choices",
            metavar="FILE",
            help="Add the choices saved from such a page to the run and its report.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Write the report of a run again and print it.

    It is made from what the run left in storage. The path of the HTML page is printed on standard
    error. The client alone, without the extra `train`, shows the report that the run itself wrote.
    """
    from raytrain_core.errors import UsageError

    if review is not None and choices is not None:
        raise UsageError("--review writes a page, --review-choices reads what was chosen on it: give one of them")
    store, layout = open_run(run, storage, namespace)
    if review is not None:
        from raytrain.report import review_page

        page = save or Path(f"{layout.name}-review.html")
        _save(page, review_page(store, layout, rows=review, seed=seed).encode())
        print_note(f"review page: {page}; open it in a browser, choose, save, then give the file to --review-choices")
        return
    if choices is not None:
        from raytrain.report import add_choices

        add_choices(store, layout, choices)
    where = _write_report(store, layout)
    if save is not None:
        _save(save, store.get(f"{layout.report}/index.html"))
        where = str(save)
    if output is Format.JSON:
        print_text(store.get(f"{layout.report}/report.json").decode())
    else:
        print_text(store.get(f"{layout.report}/report.md").decode().rstrip())
        print_note(f"report: {where}")


def _write_report(store: Any, layout: Any) -> str:
    """Writes the report again and returns the page's URI; the client alone finds the run's own."""
    from raytrain_core.extras import how_to_install, missing_extra

    try:
        from raytrain import report
    except ModuleNotFoundError as error:
        if missing_extra(error) is None:
            raise
        from raytrain.runs.stored_report import require_report

        found = require_report(store, layout)
        print_note(f"as the run wrote it; {how_to_install('train')} brings what writes it again")
        return found
    return str(report.write(store, layout))


def _save(path: Path, content: bytes) -> None:
    from raytrain_core.errors import UsageError

    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


@run_commands.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_A RUN_B...", help="Two or more runs.", autocompletion=completion.runs, show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write comparison.html, .md and .json into it.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Show results that cannot be compared, too, and mark them.")
    ] = False,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Compare runs with the first one.

    Shows scores, paired differences with their intervals, learning curves, and the rows on which
    the runs differ most. Refused where a task was scored on other rows or by other rules.
    """
    from raytrain.report.compare_runs import compare as compare_runs

    comparison = compare_runs([open_run(run, storage) for run in runs], out=out, force=force)
    print_text(comparison.json.rstrip() if output is Format.JSON else comparison.markdown.rstrip())
    for path in comparison.files:
        print_note(f"wrote {path}")


@run_commands.command()
def leaderboard(
    force: Annotated[
        bool, typer.Option("--force", help="Put scores that cannot be compared into one column, and say so.")
    ] = False,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Rank all runs and scored models of a storage.

    Ranks count the columns that all of them have. Runs that failed or are not finished come last,
    with the reason.
    """
    from raytrain.config.locations import storage_location
    from raytrain.report.leaderboard import rank_models
    from raytrain_core.storage import open_store

    ranking = rank_models(open_store(storage_location(storage)), force=force)
    print_output(ranking, render.leaderboard(ranking), output)


@run_commands.command()
def gc(
    storage: StorageFlag = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the garbage instead of only listing it.")] = False,
    sets: Annotated[bool, typer.Option("--sets", help="Include prepared data that no run has used.")] = False,
    grace: Annotated[
        float,
        typer.Option("--grace", min=0, metavar="HOURS", help="Keep anything younger, as it may still be in progress."),
    ] = 24.0,
    output: Output = Format.TEXT,
) -> None:
    """List what nothing in a storage needs, and delete it with --yes.

    Garbage is: shards that no prepared task names, tasks that no shard set names, incomplete
    checkpoints, and checkpoints that a finished run does not keep.
    """
    from raytrain.config.locations import storage_location
    from raytrain.runs import gc as garbage_collector
    from raytrain_core.storage import open_store

    store = open_store(storage_location(storage))
    found = garbage_collector.find_garbage(store, grace=grace * 3600, unused_sets=sets)
    if yes:
        found = garbage_collector.delete_garbage(store, found, grace=grace * 3600, unused_sets=sets)
    value = {"storage": store.uri, "deleted": yes, "garbage": found.garbage, "preparing": found.preparing}
    print_output(value, render.garbage(store.uri, found, deleted=yes), output)
