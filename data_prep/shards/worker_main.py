"""The worker process of a preparation, started by `data_prep.shards.workers`.

It reads pickled work from standard input and replies on standard output: to a span with its chunks
one by one, whose examples it leaves in temporary files, then with None; to a unit with numbers of
examples as they are finished, then with the parts; to training rows with the held-out rows that
they overlap with. Or with an error. It ends when its input does, that is, with the process that
started it.
"""

import os
import pickle
import sys
import traceback
from contextlib import suppress

from data_prep.shards.blocks import Spooled
from data_prep.shards.span_reading import Chunk, SpanJob, read_span
from data_prep.shards.twin_job import TwinJob, compare
from data_prep.shards.work_unit import UnitPlan
from data_prep.shards.writer import write_unit
from raytrain_core.errors import UserError
from raytrain_core.storage.scratch import full_disk


def main() -> None:
    """Reads spans and writes units until there are no more."""
    # If the parent was killed, writing fails with BrokenPipeError, and so does closing the stream
    # with what is still buffered.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what a library prints must not be read as a reply

        def reply(message: object) -> None:
            pickle.dump(message, replies)
            replies.flush()

        while (work := _next()) is not None:
            try:
                match work:
                    case SpanJob():
                        for chunk in read_span(work):
                            reply(_spooled(chunk))
                        reply(None)
                    case TwinJob():
                        reply(compare(work))
                    case UnitPlan():
                        reply(write_unit(work.load(), reply))
            except UserError as error:
                reply(error)
            except BrokenPipeError:
                raise
            except Exception as error:
                reply(_reported(error))


def _reported(error: Exception) -> Exception:
    """What the process that asked raises: a full disk in words, all else with where it happened."""
    trace = "".join(traceback.format_exception(error))
    return full_disk(error) or RuntimeError(f"{error!r} in a preparation process\n{trace}")


def _spooled(chunk: Chunk) -> Chunk:
    for block in chunk.blocks.values():
        block.examples = Spooled.write(block.examples.load())
    return chunk


def _next() -> SpanJob | UnitPlan | TwinJob | None:
    try:
        work = pickle.load(sys.stdin.buffer)
    except (EOFError, pickle.UnpicklingError):  # the latter if the parent was killed while sending
        return None
    assert isinstance(work, SpanJob | UnitPlan | TwinJob)
    return work


if __name__ == "__main__":
    main()
