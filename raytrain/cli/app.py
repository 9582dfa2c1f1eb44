"""The `raytrain` command: its options, and its commands by group.

Each command parses its arguments, calls one function of another package and prints the result.
Heavy modules are imported inside the commands, so that `raytrain --help` answers in half a second.
"""

from typing import Annotated, Any

import typer
import typer.core

from raytrain import __version__
from raytrain.cli.cluster_commands import cluster_commands
from raytrain.cli.data_commands import data
from raytrain.cli.job_commands import job_commands
from raytrain.cli.model_commands import model_commands
from raytrain.cli.output import print_text
from raytrain.cli.run_commands import run_commands
from raytrain.cli.sweep_commands import sweep_commands

GROUPS = (
    ("Run a job", job_commands),
    ("Run a job many times", sweep_commands),
    ("Inspect runs", run_commands),
    ("Use models", model_commands),
    ("Use a cluster", cluster_commands),
)
"""Groups of commands with their headings in the help text."""


class _GroupedCommands(typer.core.TyperGroup):
    """Lists the commands under the headings of their groups."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # typer exports neither type
        for heading, names in _commands_by_heading().items():
            commands = [(name, command) for name in names if (command := self.get_command(ctx, name)) is not None]
            with formatter.section(heading):
                formatter.write_dl([(name, command.get_short_help_str(limit=200)) for name, command in commands])


app = typer.Typer(
    name="raytrain",
    cls=_GroupedCommands,
    help="Multitask fine-tuning of FLAN-T5, with a report of what improved and what was forgotten.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _, group in GROUPS:
    app.add_typer(group)
app.add_typer(data)


def _commands_by_heading() -> dict[str, list[str]]:
    headings = {
        heading: [info.name or info.callback.__name__ for info in group.registered_commands if info.callback]
        for heading, group in GROUPS
    }
    return headings | {"Inspect data": ["data"]}


def _print_version(requested: bool) -> None:
    if requested:
        print_text(__version__)
        raise typer.Exit


@app.callback(epilog="Exit codes: 0 ok, 1 bug, 2 usage, 3 data, 4 storage, 5 cluster, 6 training, 130 interrupted.")
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors; may be given after the command, too.")
    ] = False,
) -> None:
    """Declares the global options; `--debug` is handled before typer parses the arguments."""
