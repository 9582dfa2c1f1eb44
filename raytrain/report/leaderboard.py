"""Ranks all runs and scored models of a storage."""

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
    """One task with one metric, scored on the same rows by the same protocol."""

    task: str
    metric: str
    better: Literal["higher", "lower"]
    scale: Literal["percent", "raw"]
    rows: int
    protocol: str = field(repr=False)

    @property
    def label(self) -> str:
        """Task and metric."""
        return f"{self.task} {self.metric}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A run after training, or a model scored by `raytrain evaluate`."""

    name: str
    kind: Literal["run", "model"]
    scores: tuple[tuple[float, float, float] | None, ...]
    """Value and 95 % interval for each column; None where the entry was not scored."""
    rank: float | None
    """Mean rank over the columns in which the entry was scored; 1 is first everywhere."""


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Entries by mean rank, best first. Ranks ignore noise: look at the intervals, too."""

    storage: str
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]


def rank_models(store: Store) -> Leaderboard:
    """Ranks everything that was scored on test rows: runs after training, and models."""
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
    """Yields committed test scores; skips damaged ones."""
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
    """Identifies the scored rows; older cards by their baselines, which depend on the rows."""
    return card.rows_digest or repr(sorted(card.baselines.items()))


def _triple(card: ScoreCard) -> tuple[float, float, float]:
    score = card.metrics[card.primary_metric]
    assert score.value is not None
    assert score.low is not None
    assert score.high is not None
    return score.value, score.low, score.high


def _ranks(cards: Mapping[tuple[str, Literal["run", "model"]], ScoreCard]) -> dict[tuple[str, str], float]:
    """Ranks by score, 1 for the best; equal scores share the mean of their ranks."""
    values = {}
    for who, card in cards.items():
        score = card.metrics[card.primary_metric]
        assert score.value is not None
        values[who] = score.value if score.better == "higher" else -score.value
    return {
        who: 1 + sum(other > value for other in values.values()) + (sum(o == value for o in values.values()) - 1) / 2
        for who, value in values.items()
    }
