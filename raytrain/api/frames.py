"""What a run measured, as pandas tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from raytrain.evaluation.results import ScoreCard

SCORE_COLUMNS = (
    *("stage", "step", "task", "probe", "split", "metric", "primary"),
    *("value", "low", "high", "rows", "scale", "better", "error"),
)


def metrics_frame(lines: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per step, by step; the entries of `loss_by_task` become the columns `loss/NAME`."""
    import pandas as pd

    rows = [_flat(line) for line in lines]
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=["step", "loss"])
    if "time" in frame:
        frame["time"] = pd.to_datetime(frame["time"], utc=True)
    return frame.set_index("step")


def scores_frame(cards: Iterable[ScoreCard]) -> pd.DataFrame:
    """One row per stage, task and metric, with the bounds of the 95 % interval."""
    import pandas as pd

    rows = [
        (
            *(card.stage, card.step, card.task, card.probe, card.split, name, name == card.primary_metric),
            *(score.value, score.low, score.high, score.rows, score.scale, score.better, score.error),
        )
        for card in cards
        for name, score in card.metrics.items()
    ]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _flat(line: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            flat |= {f"{name.partition('_by_')[0]}/{part}": number for part, number in value.items()}
        else:
            flat[name] = value
    return flat
