"""Errors caused by input, storage or environment, and their exit codes.

The message of a `UserError` is written for a person: where, what, and what to do. The command line
prints it without a traceback (unless `--debug`) and exits with its code; see
`docs/reference/exit-codes.md`.
"""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of all commands; 1 is reserved for bugs (uncaught exceptions)."""

    OK = 0
    BUG = 1
    USAGE = 2
    DATA = 3
    STORAGE = 4
    CLUSTER = 5
    TRAINING = 6
    INTERRUPTED = 130


class UserError(Exception):
    """An error whose message is written for the user.

    `hint` says what to do about it and is printed on a line of its own.
    """

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message, without a traceback."""
        return [f"{type(self).__name__}: {self}"]

    def __reduce__(self) -> tuple[object, ...]:  # so that it can leave a Ray worker
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[UserError], message: str, hint: str | None) -> UserError:
    error = kind.__new__(kind)
    UserError.__init__(error, message, hint=hint)
    return error


def joined(problems: Sequence[UserError], what: str) -> UserError:
    """One error that lists all problems with `what`, with their hints; of the first one's kind."""
    if len(problems) == 1:
        return problems[0]
    return type(problems[0])("\n".join([f"{len(problems)} problems with {what}:", *map(str, problems)]))


class UsageError(UserError):
    """The job or the command line is invalid."""

    exit_code = ExitCode.USAGE


class DataError(UserError):
    """A source, a row, a shard or a tokenizer is missing, empty or broken."""

    exit_code = ExitCode.DATA


class StorageError(UserError):
    """The object store is unreachable, refuses, is full, or returned other bytes than stored."""

    exit_code = ExitCode.STORAGE


class ClusterError(UserError):
    """Ray or Kubernetes cannot provide what the run needs."""

    exit_code = ExitCode.CLUSTER


class TrainingError(UserError):
    """The model cannot be loaded, or training cannot continue (NaN, out of memory)."""

    exit_code = ExitCode.TRAINING


class RowError(ValueError):
    """A row cannot be used; the caller adds file and line to the message."""
