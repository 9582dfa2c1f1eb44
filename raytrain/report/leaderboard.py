"""All runs and scored models under one storage, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from raytrain.config.run_layout import EvaluationLayout, RunLayout
from raytrain_core.storage import CorruptError, NotFoundError, Store
from raytrain_core.storage.commit import MANIFEST

if TYPE_CHECKING:
    from raytrain.evaluation.results import ScoreCard


@dataclass(frozen=True, slots=True)
class Column:
    """One task as everybody in this column was asked it: the same rows, metric and split."""

    task: str
    metric: str
    better: Literal["higher", "lower"]
    scale: Literal["percent", "raw"]
    rows: int
    protocol: str = field(repr=False)

    @property
    def label(self) -> str:
        """`task metric`."""
        return f"{self.task} {self.metric}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A run after training, or a model that was scored by itself."""

    name: str
    kind: Literal["run", "model"]
    scores: tuple[tuple[float, float, float] | None, ...]
    """Value and 95 % interval in each column, None where it was not asked."""
    rank: float | None
    """Mean rank over the columns that it stands in: 1 is first everywhere."""


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Entries, the best mean rank first. A rank knows nothing of noise: look at the intervals."""

    storage: str
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]


def leaderboard(store: Store) -> Leaderboard:
    """Everything that was scored on test rows: runs as they ended, models by `raytrain evaluate`."""
    found: dict[tuple[str, Literal["run", "model"]], dict[Column, ScoreCard]] = {}
    for name, kind, card in _cards(store):
        score = card.metrics.get(card.primary_metric)
        if score is not None and score.value is not None:
            protocol = str((card.protocol.get("metrics") or {}).get(card.primary_metric, ""))
            settings = [protocol, card.protocol.get("decoding"), card.protocol.get("max_new_tokens"), _rows(card)]
            column = Column(card.task, card.primary_metric, score.better, score.scale, card.rows, repr(settings))
            found.setdefault((name, kind), {})[column] = card
    columns = tuple(sorted({c for cards in found.values() for c in cards}, key=lambda c: (c.task, c.label, c.protocol)))
    ranks = {
        column: _ranks({who: cards[column] for who, cards in found.items() if column in cards}) for column in columns
    }
    entries = []
    for who, cards in found.items():
        places = [ranks[column][who] for column in columns if column in cards]
        scores = tuple(_triple(cards[column]) if column in cards else None for column in columns)
        entries.append(Entry(*who, scores=scores, rank=sum(places) / len(places) if places else None))
    return Leaderboard(store.uri, columns, tuple(sorted(entries, key=lambda e: (e.rank or 1e9, e.name))))


def _cards(store: Store) -> Iterator[tuple[str, Literal["run", "model"], ScoreCard]]:
    """Committed test scores; what is damaged is passed over."""
    from raytrain.evaluation.results import read_card

    kinds: tuple[tuple[str, Literal["run", "model"], type[RunLayout], str], ...] = (
        ("runs/", "run", RunLayout, "after"),
        ("evaluations/", "model", EvaluationLayout, "test"),
    )
    for prefix, kind, layout, stage in kinds:
        for stat in store.list(prefix):
            name, _, rest = stat.key.removeprefix(prefix).partition("/")
            parts = rest.split("/")
            if len(parts) == 4 and parts[0] == "scores" and parts[1] == stage and parts[3] == MANIFEST:
                try:
                    card = read_card(store, layout(name), stage, parts[2])
                except (CorruptError, NotFoundError):
                    continue
                if card is not None:
                    yield name, kind, card


def _rows(card: ScoreCard) -> str:
    """Which rows were asked; older cards do not say, but baselines score the same only on the same rows."""
    return card.rows_digest or repr(sorted(card.baselines.items()))


def _triple(card: ScoreCard) -> tuple[float, float, float]:
    score = card.metrics[card.primary_metric]
    assert score.value is not None and score.low is not None and score.high is not None
    return score.value, score.low, score.high


def _ranks(cards: Mapping[tuple[str, Literal["run", "model"]], ScoreCard]) -> dict[tuple[str, str], float]:
    """1 for the best; equals share the mean of their ranks."""
    values = {}
    for who, card in cards.items():
        score = card.metrics[card.primary_metric]
        assert score.value is not None
        values[who] = score.value if score.better == "higher" else -score.value
    return {
        who: 1 + sum(other > value for other in values.values()) + (sum(o == value for o in values.values()) - 1) / 2
        for who, value in values.items()
    }
