"""Finds the checkpoints of a run in storage."""

from typing import NamedTuple

from raytrain.config.run_layout import RunLayout, parse_checkpoint
from raytrain_core.storage import Store
from raytrain_core.storage.commit import MANIFEST


class CommittedCheckpoint(NamedTuple):
    """A checkpoint with a manifest: its step, the attempt that wrote it, and its prefix."""

    step: int
    attempt: int
    prefix: str


def committed_checkpoints(store: Store, layout: RunLayout) -> list[CommittedCheckpoint]:
    """Returns all checkpoints with a manifest, newest step first, then newest attempt."""
    suffix = f"/{MANIFEST}"
    checkpoints = []
    for stat in store.list(f"{layout.checkpoints}/"):
        prefix = stat.key.removesuffix(suffix)
        step_and_attempt = parse_checkpoint(prefix) if prefix != stat.key else None
        if step_and_attempt is not None:
            checkpoints.append(CommittedCheckpoint(*step_and_attempt, prefix))
    return sorted(checkpoints, reverse=True)


def is_scored(step: int, *, every: int, last_step: int) -> bool:
    """Whether the checkpoint of `step` is scored: every `every` steps, and the last one."""
    return step > 0 and (step % every == 0 or step == last_step)
