"""Finds checkpoints to score by looking for their manifests in storage; never asks the trainer."""

import threading
from collections.abc import Callable, Collection, Iterable

from raytrain.config.run_layout import RunLayout, stage_of_step
from raytrain.generation.requests import ModelRef
from raytrain.model.source import WEIGHTS_FILE
from raytrain.runs.checkpoints import CommittedCheckpoint, committed_checkpoints, is_scored
from raytrain_core.errors import UserError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import read_manifest

MAX_UNFINISHED = 2
"""Checkpoints submitted at once: while one finishes, idle actors begin with the next."""


def due_checkpoints(
    checkpoints: Iterable[CommittedCheckpoint], *, every: int, last_step: int, submitted: Collection[int] = ()
) -> list[CommittedCheckpoint]:
    """Returns the checkpoints to score, in the order of their steps.

    Of several attempts at a step the newest counts. Steps in `submitted` are left out.
    """
    newest: dict[int, CommittedCheckpoint] = {}
    for checkpoint in checkpoints:
        step = checkpoint.step
        if step in submitted or not is_scored(step, every=every, last_step=last_step):
            continue
        if step not in newest or checkpoint.attempt >= newest[step].attempt:
            newest[step] = checkpoint
    return [newest[step] for step in sorted(newest)]


class CheckpointWatcher:
    """A thread that looks for checkpoints every `interval` seconds and submits those to score.

    The oldest are submitted first, at most MAX_UNFINISHED at a time (`unfinished` returns how many
    are being scored). The others wait; when more than `max_pending_checkpoints` wait because
    evaluation is slower than training, the oldest of them are skipped and `on_skip` is called for
    each. So the newest are scored, and the last one always. Steps in `known` were scored by an
    earlier attempt: they are submitted at once, because their scores are only read back.

    `submit(stage, model)` must not block. Storage errors are tolerated and the next look tries
    again; `on_error` is called for the first of consecutive errors. `on_look` is called after each
    look with the number of checkpoints that are being scored or wait.

    Use it as a context manager: leaving it takes a last look, so that the last checkpoint is always
    submitted.
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
        on_error: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._store, self._layout, self._submit = store, layout, submit
        self._every, self._last_step, self._interval = every, last_step, interval
        self._known = frozenset(known)
        self._max_pending, self._unfinished = max_pending_checkpoints, unfinished
        self._on_skip, self._on_look, self._on_error = on_skip, on_look, on_error
        self._submitted: set[int] = set()
        self.skipped: set[int] = set()
        """Steps that will not be scored."""
        self._last_look_failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint-watcher", daemon=True)

    def __enter__(self) -> "CheckpointWatcher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look_tolerantly(submit_all=True)

    def look(self, *, submit_all: bool = False) -> None:
        """Submits what there is room for now, with `submit_all` everything that waits."""
        due = due_checkpoints(
            committed_checkpoints(self._store, self._layout),
            every=self._every,
            last_step=self._last_step,
            submitted=self._submitted | self.skipped,
        )
        for checkpoint in due:
            if checkpoint.step in self._known:
                self._submit_checkpoint(checkpoint)
        pending = [checkpoint for checkpoint in due if checkpoint.step not in self._known]
        self._skip_oldest(pending)
        while pending and (submit_all or self._unfinished() < MAX_UNFINISHED):
            self._submit_checkpoint(pending.pop(0))
        self._on_look(len(pending) + self._unfinished())

    def _submit_checkpoint(self, checkpoint: CommittedCheckpoint) -> None:
        """Submits a checkpoint unless it was removed since it was listed."""
        manifest = read_manifest(self._store, checkpoint.prefix)
        if manifest is None:
            return
        digest = manifest.file(WEIGHTS_FILE).sha256
        model = ModelRef("checkpoint", checkpoint.prefix, digest, checkpoint.step)
        self._submit(stage_of_step(checkpoint.step), model)
        self._submitted.add(checkpoint.step)

    def _skip_oldest(self, pending: list[CommittedCheckpoint]) -> None:
        """Removes the oldest from `pending` until no more wait than allowed."""
        while len(pending) > self._max_pending:
            step = pending.pop(0).step
            self.skipped.add(step)
            self._on_skip(step)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._look_tolerantly()

    def _look_tolerantly(self, *, submit_all: bool = False) -> None:
        try:
            self.look(submit_all=submit_all)
            self._last_look_failed = False
        except (UserError, OSError, KeyError) as error:
            if not self._last_look_failed:
                self._on_error(f"cannot look for checkpoints to score: {error}")
            self._last_look_failed = True
