"""What a run has in storage, found by listing."""

from typing import NamedTuple

from raytrain.config.run_layout import RunLayout, parse_checkpoint
from raytrain_core.storage import Store
from raytrain_core.storage.commit import MANIFEST


class CommittedCheckpoint(NamedTuple):
    """Steps done, the attempt that wrote it, and the prefix that it lies under."""

    step: int
    attempt: int
    prefix: str


def committed_checkpoints(store: Store, layout: RunLayout) -> list[CommittedCheckpoint]:
    """Every checkpoint that has a manifest, newest step first, and of one step the newest attempt first."""
    ending = f"/{MANIFEST}"
    found = []
    for stat in store.list(f"{layout.checkpoints}/"):
        prefix = stat.key.removesuffix(ending)
        place = parse_checkpoint(prefix) if prefix != stat.key else None
        if place is not None:
            found.append(CommittedCheckpoint(*place, prefix))
    return sorted(found, reverse=True)


def is_scored(step: int, *, every: int, last_step: int) -> bool:
    """Returns whether evaluation scores the checkpoint of `step`: every `every` steps, and the last."""
    return step > 0 and (step % every == 0 or step == last_step)
