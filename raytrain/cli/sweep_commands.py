"""The command that runs a sweep."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytrain.cli import render_sweep
from raytrain.cli.options import Output, StorageFlag
from raytrain.cli.output import Format, print_note, print_output

if TYPE_CHECKING:
    from raytrain.sweeps.leaderboard import SweepLeaderboard
    from raytrain.sweeps.plan import SweepPlan

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
    submit: Annotated[
        bool, typer.Option("--submit", help="Run it in the cluster, as a FineTuneJob for each run.")
    ] = False,
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", metavar="NAME", help="With --submit: the Kubernetes namespace.")
    ] = "default",
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Run one job many times with other settings, and rank what they gained and forgot.

    The same command goes on with a sweep that was interrupted or killed; a finished one only writes
    its leaderboard again. A run that fails is a line of the leaderboard.
    """
    from raytrain.sweeps.plan import load_sweep
    from raytrain_core.errors import UsageError

    if plan and report:
        raise UsageError("--plan says what would run, --report what has run: give one of them")
    loaded = load_sweep(sweep_file)
    if plan:
        print_output(render_sweep.plan_as_json(loaded), render_sweep.plan(loaded), output)
        return
    board = (_in_cluster if submit else _here)(loaded, report=report, namespace=namespace, storage=storage)
    print_output(board, render_sweep.leaderboard(board), output)
    print_note(f"leaderboard: {board.storage}/sweeps/{board.name}/leaderboard.html")


def _here(loaded: "SweepPlan", *, report: bool, namespace: str, storage: str | None) -> "SweepLeaderboard":
    from raytrain.sweeps import local
    from raytrain_core.errors import UsageError

    if namespace != "default":
        raise UsageError("-n has no effect on this machine", hint="add --submit to run the sweep in a cluster")
    if report:
        return local.leaderboard_here(loaded, storage=storage)
    return local.run_here(loaded, storage=storage, say=print_note)


def _in_cluster(loaded: "SweepPlan", *, report: bool, namespace: str, storage: str | None) -> "SweepLeaderboard":
    from raytrain.kubernetes.client import KubernetesApi
    from raytrain.sweeps import in_cluster

    make = in_cluster.leaderboard_in_cluster if report else in_cluster.run_in_cluster
    return make(loaded, KubernetesApi.connect(), namespace, storage=storage, say=print_note)
