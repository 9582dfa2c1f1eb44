"""The command that runs a sweep."""

from pathlib import Path
from typing import Annotated

import typer

from raytrain.cli import render_sweep
from raytrain.cli.options import Output, StorageFlag
from raytrain.cli.output import Format, print_note, print_output

sweep_commands = typer.Typer()

SweepFile = Annotated[
    Path, typer.Argument(metavar="SWEEP_FILE", help="The sweep's file, for example sweep.yaml.", show_default=False)
]


@sweep_commands.command()
def sweep(
    sweep_file: SweepFile,
    *,
    plan: Annotated[
        bool, typer.Option("--plan", help="Check everything and list the runs; start and write nothing.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the leaderboard of what has run so far; start nothing.")
    ] = False,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Run one job many times with other settings, and rank what they gained and forgot.

    The same command goes on with a sweep that was interrupted or killed; a finished one only writes
    its leaderboard again. A run that fails is a line of the leaderboard.
    """
    from raytrain.sweeps import local
    from raytrain.sweeps.plan import load_sweep
    from raytrain_core.errors import UsageError

    if plan and report:
        raise UsageError("--plan says what would run, --report what has run: give one of them")
    loaded = load_sweep(sweep_file)
    if plan:
        print_output(render_sweep.plan_as_json(loaded), render_sweep.plan(loaded), output)
        return
    make = local.leaderboard_here if report else None
    board = make(loaded, storage=storage) if make else local.run_here(loaded, storage=storage, say=print_note)
    print_output(board, render_sweep.leaderboard(board), output)
    print_note(f"leaderboard: {board.storage}/sweeps/{board.name}/leaderboard.html")
