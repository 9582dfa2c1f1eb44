"""What goes wrong because of input, storage or surroundings, and the exit code each kind ends with.

A `UserError` is a sentence for a person: where, what, and what to do. The command line prints it
without a traceback (unless `--debug`) and exits with its code; `docs/reference/exit-codes.md` is
the table.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; 1 is left to bugs (an uncaught exception)."""

    OK = 0
    BUG = 1
    USAGE = 2
    DATA = 3
    STORAGE = 4
    CLUSTER = 5
    TRAINING = 6
    INTERRUPTED = 130


class UserError(Exception):
    """An error whose message is meant for the person at the keyboard.

    `hint` says what to do about it and is printed on a line of its own.
    """

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:  # survives the trip out of a Ray worker
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[UserError], message: str, hint: str | None) -> UserError:
    error = kind.__new__(kind)
    UserError.__init__(error, message, hint=hint)
    return error


class UsageError(UserError):
    """The job or the command line is wrong."""

    exit_code = ExitCode.USAGE


class DataError(UserError):
    """A source, a row, a shard or a tokenizer is missing, empty or broken."""

    exit_code = ExitCode.DATA


class StorageError(UserError):
    """The object store cannot be reached, refuses, is full, or gave back other bytes than were put."""

    exit_code = ExitCode.STORAGE


class ClusterError(UserError):
    """Ray or Kubernetes cannot give what the run needs."""

    exit_code = ExitCode.CLUSTER


class TrainingError(UserError):
    """The model cannot be loaded or the training cannot go on (not a number, out of memory)."""

    exit_code = ExitCode.TRAINING


class RowError(ValueError):
    """Why a row cannot be used; the message says what and is completed by file and line elsewhere."""
