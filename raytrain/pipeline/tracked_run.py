"""What trackers get of a run, read from its storage."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.evaluation.stored_cards import card_places
from raytrain.telemetry.segments import read_segments_after
from raytrain.telemetry.trackers import Steps
from raytrain_core.storage.commit import fetch, read_manifest
from raytrain_core.storage.scratch import scratch

if TYPE_CHECKING:
    from raytrain.config.run_layout import RunLayout
    from raytrain.evaluation.results import ScoreCard
    from raytrain_core.storage import Store

_STEP_NUMBERS = (
    *("loss", "learning_rate", "gradient_norm", "tokens_per_second", "seconds", "mfu", "peak_memory_bytes"),
    *("source_tokens", "target_tokens", "examples"),
)


class TrackedRun:
    """The steps, scores and files of a run that a tracker has not got yet."""

    def __init__(self, store: Store, layout: RunLayout) -> None:
        self._store, self._layout = store, layout

    def steps_after(self, position: tuple[int, int], step: int) -> Iterator[tuple[tuple[int, int], Steps]]:
        """Yields the numbers of later steps by segment, with each segment's position.

        Steps that a resumed run repeats have the same numbers, and are left out.
        """
        for found, lines in read_segments_after(self._store, self._layout, "metrics", position):
            new = [line for line in lines if int(line["step"]) > step]
            yield found, [(int(line["step"]), step_values(line)) for line in new]

    def scores_without(self, known: Collection[str]) -> Iterator[tuple[str, int, Mapping[str, float]]]:
        """Yields place (stage/task), step and scores of the cards that are not in `known`."""
        from raytrain.evaluation.results import read_card

        for stage, task in card_places(self._store, self._layout):
            place = f"{stage}/{task}"
            card = None if place in known else read_card(self._store, self._layout, stage, task)
            if card is not None:
                yield place, card.step, score_values(card)

    @contextmanager
    def report_files(self) -> Iterator[Path | None]:
        """A folder with the report; None if there is none."""
        with self._files(self._layout.report) as folder:
            yield folder

    @contextmanager
    def model_files(self) -> Iterator[Path | None]:
        """A folder with the exported model; None if there is none."""
        with self._files(self._layout.model) as folder:
            yield folder

    @contextmanager
    def _files(self, prefix: str) -> Iterator[Path | None]:
        manifest = read_manifest(self._store, prefix)
        if manifest is None:
            yield None
            return
        with scratch("tracker") as folder:
            yield fetch(self._store, manifest, folder)


def step_values(line: Mapping[str, Any]) -> dict[str, float]:
    """Returns the finite numbers of a step; `loss/NAME` is the loss of a task."""
    values = {name: line.get(name) for name in _STEP_NUMBERS}
    values |= {f"loss/{task}": loss for task, loss in (line.get("loss_by_task") or {}).items()}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def score_values(card: ScoreCard) -> dict[str, float]:
    """Returns the scores of a card as SPLIT/TASK/METRIC, with their 95 % intervals."""
    values: dict[str, float | None] = {}
    for metric, score in card.metrics.items():
        name = f"{card.split}/{card.task}/{metric}"
        values |= {name: score.value, f"{name}/low": score.low, f"{name}/high": score.high}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
