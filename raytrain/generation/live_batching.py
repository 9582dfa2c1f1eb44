"""Greedy generation for requests as they arrive: whoever comes while others are decoded joins them.

All work of the model is done in the process's model thread, a turn at a time: if a slot is free, it
is given to what waits; then every request in a slot gets its next token. So a request waits for one
step at most where a slot is free, and a short answer never waits for a long one. Once something has
to be encoded for a free slot, more of what waits is encoded with it, because one prompt alone takes
longer than one of several.

What is generated for a prompt can depend on what happens to be decoded beside it where the two best
logits of a step are within about 1e-4 of each other (see `generator`); nothing else does.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

import torch

from data_prep.text.tokenizer import Ids
from raytrain.generation.continuous_batching import CACHE_TOKENS, PREFILL_TOKENS, prefill_batches
from raytrain.generation.model_thread import model_thread
from raytrain.generation.slots import Decoding, Slots
from raytrain.generation.t5_engine import EncoderOutput, T5Engine

_AHEAD = 8  # requests encoded at once, if so many wait, whether or not there are slots for all
_LOOK_SECONDS = 0.5  # between two looks whether the thread is still there


@dataclass(slots=True, eq=False)
class _Request:
    source: Ids
    limit: int
    answer: "Future[list[int]]"


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A request that waits for a slot, and its place in what was encoded together."""

    request: _Request
    encoded: EncoderOutput
    place: int


class LiveBatcher:
    """Decodes requests of one engine in at most `slots` slots, in the model thread.

    No prompt may be longer than `longest_input` tokens, no answer longer than `longest_output`.
    """

    def __init__(self, engine: T5Engine, *, slots: int, longest_input: int, longest_output: int) -> None:
        self._engine = engine
        self._longest_input, self._longest_output = longest_input, longest_output
        self.slots = max(1, min(slots, CACHE_TOKENS // longest_input))
        self._waiting: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._encoded: deque[_Encoded] = deque()
        self._answers: dict[Decoding, Future[list[int]]] = {}
        self._accepting = threading.Lock()
        self._closing, self._closed = False, threading.Event()
        self._busy_since: float | None = None
        self._in_slots = Slots(engine, self.slots, target_length=longest_output, source_length=longest_input)
        self._thread = model_thread()
        self._thread.join(self)

    def submit(self, source: Ids, limit: int) -> "Future[list[int]]":
        """Returns the future ids of an answer of at most `limit` tokens, EOS included if it ends.

        Cancelling it frees its slot. Raises ValueError for lengths beyond those of the batcher, and
        RuntimeError once it is closed.
        """
        if not 0 < len(source) <= self._longest_input or not 0 < limit <= self._longest_output:
            raise ValueError(f"{len(source)} tokens and a limit of {limit} are not within those of this engine")
        answer: Future[list[int]] = Future()
        with self._accepting:
            if self._closing:
                raise RuntimeError("the engine is closed")
            self._waiting.put(_Request(source, limit, answer))
        self._thread.wake()
        return answer

    def close(self) -> None:
        """Returns once every request that was accepted has its answer, or the thread has ended."""
        with self._accepting:
            self._closing = True
        self._thread.wake()
        while not self._closed.wait(_LOOK_SECONDS) and self._thread.is_alive:
            pass

    def seconds_in_step(self) -> float:
        """For how long the present step has been going on; 0 between requests."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def is_alive(self) -> bool:
        """Whether requests can be answered."""
        return self._thread.is_alive and not self._closed.is_set()

    def turn(self) -> bool:
        """Takes what waits, and decodes a token of each request; returns whether more is to do."""
        self._busy_since = time.monotonic()
        is_closing = self._closing  # nothing is accepted any more once this is true
        with torch.inference_mode():
            self._fill_slots()
            self._step()
        self._busy_since = None
        if self._in_slots.in_use or self._encoded or not self._waiting.empty():
            return True
        if is_closing and not self._closed.is_set():
            self._thread.leave(self)
            self._closed.set()
        return False

    def _fill_slots(self) -> None:
        missing = self._in_slots.free - len(self._encoded)
        if missing > 0:
            self._encode(self._take(max(missing, _AHEAD)))
        while self._in_slots.free and self._encoded:
            one = self._encoded.popleft()
            if not one.request.answer.cancelled():
                decoding = Decoding(len(one.request.source), one.request.limit)
                self._in_slots.add(decoding, one.encoded, one.place)
                self._answers[decoding] = one.request.answer

    def _take(self, most: int) -> list[_Request]:
        """Returns at most so many requests that wait, and not many tokens at once."""
        taken: list[_Request] = []
        tokens = 0
        while len(taken) < most and tokens < PREFILL_TOKENS:
            try:
                request = self._waiting.get(block=False)
            except queue.Empty:
                break
            if not request.answer.cancelled():
                taken.append(request)
                tokens += len(request.source)
        return taken

    def _encode(self, requests: list[_Request]) -> None:
        """Encodes requests; they wait for their slots in the order in which they came."""
        encoded: dict[int, _Encoded] = {}
        try:
            for batch in prefill_batches(self._engine, [r.source for r in requests], max_prompts=self.slots):
                for place, number in enumerate(batch.prompts):
                    encoded[number] = _Encoded(requests[number], batch.encoded, place)
        except Exception as error:
            for number, request in enumerate(requests):
                if number not in encoded:
                    _settle(request.answer, error)
        self._encoded.extend(encoded[number] for number in sorted(encoded))

    def _step(self) -> None:
        if not self._in_slots.in_use:
            return
        try:
            self._in_slots.step()
        except Exception as error:  # whoever asked is told; the next requests may well succeed
            for decoding in list(self._in_slots.in_use):
                _settle(self._answers.pop(decoding), error)
            self._in_slots.in_use.clear()
            return
        for slot in reversed(range(len(self._in_slots.in_use))):
            decoding = self._in_slots.in_use[slot]
            if decoding.has_ended or self._answers[decoding].cancelled():
                self._in_slots.drop(slot)
                _settle(self._answers.pop(decoding), decoding.generated)


def _settle(answer: "Future[list[int]]", outcome: list[int] | Exception) -> None:
    """Sets an answer, unless whoever asked has gone."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
