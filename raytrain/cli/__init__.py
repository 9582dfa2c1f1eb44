"""The command line: parses arguments, calls one function and prints the result."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code (docs/reference/exit-codes.md)."""
    from raytrain.cli.app import app
    from raytrain.cli.error_output import call

    given = list(sys.argv[1:] if arguments is None else arguments)
    return call(app, given)
