"""Turns errors into a message on standard error and an exit code."""

import logging
import os
import sys
import traceback

import typer

from raytrain_core.errors import ExitCode, UserError
from raytrain_core.extras import missing_extra
from raytrain_core.storage.scratch import full_disk

BUG = "this is a bug in raytrain; run the same command with --debug to see where it comes from"


def call(app: typer.Typer, arguments: list[str]) -> int:
    """Runs `app` and returns its exit code; errors become messages, with a traceback under --debug.

    `--debug` may be anywhere before a `--`: people add it at the end of the command that failed.
    """
    own, rest = _split(arguments)
    debug = "--debug" in own or bool(os.environ.get("RAYTRAIN_DEBUG"))
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    try:
        code = app([a for a in own if a != "--debug"] + rest, prog_name="raytrain", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, for example `| head`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - replaces the stream until the process ends
        return ExitCode.OK
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except Exception as error:
        return _report(error, debug=debug)
    code = code if isinstance(code, int) else ExitCode.OK
    if code == ExitCode.INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code


def _report(error: Exception, *, debug: bool) -> int:
    """Prints an error as people should see it and returns its exit code."""
    if (message := _usage(error)) is not None:
        print(message, file=sys.stderr)
        return ExitCode.USAGE
    if debug:
        traceback.print_exception(error)
    known = _known(error)
    if known is not None:
        print(describe(known), file=sys.stderr)
        return known.exit_code
    print(f"error: {type(error).__name__}: {_first_line(error)}\n  {BUG}", file=sys.stderr)
    return ExitCode.BUG


def _known(error: Exception) -> UserError | None:
    """The error as people should read it; None for what nobody expected."""
    if isinstance(error, UserError):
        return error
    return missing_extra(error) if isinstance(error, ImportError) else full_disk(error)


def describe(error: UserError) -> str:
    """Formats a user error: the problems of a job file line by line, else one sentence."""
    from raytrain_core.config.loader import ConfigError

    if isinstance(error, ConfigError) and len(error.lines) > 1:
        text = "\n".join([*error.lines, f"error: {len(error.lines)} problems in the job; nothing was done"])
    else:
        text = f"error: {error.message}"
    return text if error.hint is None else f"{text}\n  {error.hint}"


def _usage(error: Exception) -> str | None:
    """Returns the message of a usage error of typer's parser; None for other errors."""
    show = getattr(error, "format_message", None)
    if show is None or getattr(error, "exit_code", None) != ExitCode.USAGE:
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "raytrain"
    message = str(show()).rstrip(".")
    return f"error: {message}\n  see `{command} --help`"


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else "(no message)"


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end:]
