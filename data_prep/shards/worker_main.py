"""The worker process of a preparation, started by `data_prep.shards.workers`.

It reads pickled work units from standard input and replies on standard output: with numbers of
examples as they are finished, then with the parts of the unit, or with an error. It ends when its
input does, that is, with the process that started it.
"""

import os
import pickle
import sys
import traceback
from contextlib import suppress

from data_prep.shards.work_unit import WorkUnit
from data_prep.shards.writer import write_unit
from raytrain_core.errors import UserError


def main() -> None:
    """Writes work units until there are no more."""
    # If the parent was killed, writing fails with BrokenPipeError, and so does closing the stream
    # with what is still buffered.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what a library prints must not be read as a reply

        def reply(message: object) -> None:
            pickle.dump(message, replies)
            replies.flush()

        while (unit := _next()) is not None:
            try:
                reply(write_unit(unit, reply))
            except UserError as error:
                reply(error)
            except BrokenPipeError:
                raise
            except Exception as error:
                reply(RuntimeError(f"{error!r} in a preparation process\n{traceback.format_exc()}"))


def _next() -> WorkUnit | None:
    try:
        unit = pickle.load(sys.stdin.buffer)
    except (EOFError, pickle.UnpicklingError):  # the latter if the parent was killed while sending
        return None
    assert isinstance(unit, WorkUnit)
    return unit


if __name__ == "__main__":
    main()
