"""The command line: it reads arguments, calls one function, and prints what came back."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code (docs/reference/exit-codes.md)."""
    from raytrain.cli.app import app
    from raytrain.cli.errors import call

    given = list(sys.argv[1:] if arguments is None else arguments)
    return call(app, given)
