"""Evaluation learns of checkpoints from their manifests in storage, never from the trainer."""

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from raytrain.config.run_layout import RunLayout, parse_checkpoint, stage_of_step
from raytrain.generation.requests import ModelRef
from raytrain.model.source import WEIGHTS_FILE
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain_core.errors import UserError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import read_manifest

AT_ONCE = 2  # checkpoints given to the pool: while one ends, the actors that are free begin with the next


@dataclass(frozen=True, slots=True)
class Due:
    """A committed checkpoint that is to be scored."""

    step: int
    attempt: int
    prefix: str

    @property
    def stage(self) -> str:
        """Name of its stage."""
        return stage_of_step(self.step)


def due(prefixes: Iterable[str], *, every: int, last_step: int, submitted: Iterable[int] = ()) -> list[Due]:
    """The checkpoints to score, in the order of their steps.

    `prefixes` are those of committed checkpoints. Due are multiples of `every`, and `last_step`; of
    several attempts at a step the newest counts. Steps in `submitted` are not due again.
    """
    newest: dict[int, Due] = {}
    for prefix in prefixes:
        parsed = parse_checkpoint(prefix)
        if parsed is None:
            continue
        step, attempt = parsed
        if (
            step > 0
            and (step % every == 0 or step == last_step)
            and attempt >= newest.get(step, Due(0, -1, "")).attempt
        ):
            newest[step] = Due(step, attempt, prefix)
    return [newest[step] for step in sorted(newest.keys() - set(submitted))]


class CheckpointWatcher:
    """A thread that looks into storage every `interval` seconds and submits what is due, the oldest first.

    Not more than AT_ONCE of those submitted are unfinished at a time (`unfinished` counts them);
    the others wait. Where evaluation is slower than training and more than `max_waiting` wait, the
    oldest of them are skipped (`on_skip` hears of each): so the newest are scored, the last one
    always. Steps in `known` have scores of an earlier attempt: they are submitted at once, since
    there is hardly anything to do.

    `submit(stage, model)` must not block. Trouble with the store is borne (`on_trouble` hears of
    it, once in a row) and tried again at the next look; nothing reaches the training. Used as a
    context manager: leaving it takes a last look, so that the last checkpoint is always submitted.
    """

    def __init__(
        self,
        store: Store,
        layout: RunLayout,
        submit: Callable[[str, ModelRef], None],
        *,
        every: int,
        last_step: int,
        interval: float = 1.0,
        max_pending_checkpoints: int = 4,
        known: Collection[int] = (),
        unfinished: Callable[[], int] = lambda: 0,
        on_skip: Callable[[int], None] = lambda step: None,
        on_look: Callable[[int], None] = lambda count: None,
        on_trouble: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._store, self._layout, self._submit = store, layout, submit
        self._every, self._last_step, self._interval = every, last_step, interval
        self._known = frozenset(known)
        self._max_waiting, self._unfinished, self._on_skip = max_pending_checkpoints, unfinished, on_skip
        self._on_look, self._on_trouble = on_look, on_trouble
        self._submitted: set[int] = set()
        self.skipped: set[int] = set()
        """Steps that are not scored."""
        self._trouble = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint-watcher", daemon=True)

    def look(self, *, all_waiting: bool = False) -> list[Due]:
        """Submit what is due now and has room (with `all_waiting` whatever waits); what was submitted."""
        found = due(
            [checkpoint.prefix for checkpoint in committed_checkpoints(self._store, self._layout)],
            every=self._every,
            last_step=self._last_step,
            submitted=self._submitted | self.skipped,
        )
        new = [checkpoint for checkpoint in found if checkpoint.step in self._known and self._give(checkpoint)]
        waiting = [checkpoint for checkpoint in found if checkpoint.step not in self._known]
        self._skip(waiting)
        while waiting and (all_waiting or self._unfinished() < AT_ONCE):
            if self._give(checkpoint := waiting.pop(0)):
                new.append(checkpoint)
        self._on_look(len(waiting) + self._unfinished())
        return new

    def _give(self, checkpoint: Due) -> bool:
        """Submit it; False where it was removed since the listing."""
        manifest = read_manifest(self._store, checkpoint.prefix)
        if manifest is None:
            return False
        digest = manifest.file(WEIGHTS_FILE).sha256
        self._submit(checkpoint.stage, ModelRef("checkpoint", checkpoint.prefix, digest, checkpoint.step))
        self._submitted.add(checkpoint.step)
        return True

    def _skip(self, waiting: list[Due]) -> None:
        """Take the oldest out of `waiting` until no more wait than may."""
        while len(waiting) > self._max_waiting:
            step = waiting.pop(0).step
            self.skipped.add(step)
            self._on_skip(step)

    def __enter__(self) -> "CheckpointWatcher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look_and_bear(all_waiting=True)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._look_and_bear()

    def _look_and_bear(self, *, all_waiting: bool = False) -> None:
        try:
            self.look(all_waiting=all_waiting)
            self._trouble = False
        except (UserError, OSError, KeyError) as error:
            if not self._trouble:
                self._on_trouble(f"checkpoints cannot be looked for: {error}")
            self._trouble = True
