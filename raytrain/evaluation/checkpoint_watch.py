"""Evaluation learns of checkpoints from their manifests in storage, never from the trainer."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from data_prep.errors import UserError
from data_prep.storage import Store
from data_prep.storage.commit import read_manifest
from raytrain.evaluation.scores import ModelRef
from raytrain.spec.layout import RunLayout, parse_checkpoint, stage_of_step
from raytrain.spec.listing import committed_checkpoints

WEIGHTS = "model.safetensors"


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

    `prefixes` are those of committed checkpoints. Due are multiples of `every`, and `last_step`; of several attempts
    at a step the newest counts. Steps in `submitted` are not due again.
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
    """A thread that looks into storage every `interval` seconds and submits what is due.

    `submit(stage, model)` must not block. Trouble with the store is borne (`on_trouble` hears of it, once in a row)
    and tried again at the next look; nothing reaches the training. Used as a context manager: leaving it takes a
    last look, so that the last checkpoint is always submitted.
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
        on_trouble: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._store, self._layout, self._submit = store, layout, submit
        self._every, self._last_step, self._interval = every, last_step, interval
        self._on_trouble = on_trouble
        self._submitted: set[int] = set()
        self._trouble = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint-watcher", daemon=True)

    def look(self) -> list[Due]:
        """Submit what is due now; what was submitted."""
        found = due(
            [checkpoint.prefix for checkpoint in committed_checkpoints(self._store, self._layout)],
            every=self._every,
            last_step=self._last_step,
            submitted=self._submitted,
        )
        new = []
        for checkpoint in found:
            manifest = read_manifest(self._store, checkpoint.prefix)
            if manifest is None:  # removed since the listing
                continue
            digest = manifest.file(WEIGHTS).sha256
            self._submit(checkpoint.stage, ModelRef("checkpoint", checkpoint.prefix, digest, checkpoint.step))
            self._submitted.add(checkpoint.step)
            new.append(checkpoint)
        return new

    def __enter__(self) -> "CheckpointWatcher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look_and_bear()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._look_and_bear()

    def _look_and_bear(self) -> None:
        try:
            self.look()
            self._trouble = False
        except (UserError, OSError, KeyError) as error:
            if not self._trouble:
                self._on_trouble(f"checkpoints cannot be looked for: {error}")
            self._trouble = True
