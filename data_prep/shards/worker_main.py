"""A process that makes items: `python -m data_prep.shards.worker_main`, started by `data_prep.shards.workers`.

It reads pickled items from standard input and answers on standard output: numbers of examples as
they are done, then what the item became, or the error. It ends when its input does, that is with
the process that started it.
"""

import os
import pickle
import sys
import traceback
from contextlib import suppress

from data_prep.shards.writer import WorkUnit, make
from raytrain_core.errors import UserError


def main() -> None:
    """Make items until there are no more."""
    # Nobody listens any more once the process that started this one was killed; closing what is
    # unsent says so again.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever a library prints is no answer

        def answer(message: object) -> None:
            pickle.dump(message, answers)
            answers.flush()

        while (item := _next()) is not None:
            try:
                answer(make(item, answer))
            except UserError as error:
                answer(error)
            except BrokenPipeError:
                raise
            except Exception as error:
                answer(RuntimeError(f"{error!r} in a process that prepares\n{traceback.format_exc()}"))


def _next() -> WorkUnit | None:
    try:
        item = pickle.load(sys.stdin.buffer)
    except (EOFError, pickle.UnpicklingError):  # the latter: killed while it sent one
        return None
    assert isinstance(item, WorkUnit)
    return item


if __name__ == "__main__":
    main()
