"""Ranks all runs and scored models of a storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from raytrain.config.run_layout import EvaluationLayout, RunLayout
from raytrain_core.storage import CorruptError, NotFoundError, Store
from raytrain_core.storage.commit import MANIFEST

if TYPE_CHECKING:
    from raytrain.evaluation.results import ScoreCard

Kind = Literal["run", "model"]
_Who = tuple[str, Kind]


@dataclass(frozen=True, slots=True)
class Column:
    """One task with one metric, scored on the same rows by the same rules (`comparability`)."""

    task: str
    metric: str
    better: Literal["higher", "lower"]
    scale: Literal["percent", "raw"]
    rows: int
    conditions: str = field(repr=False)
    """Empty in a forced leaderboard, whose columns may mix what cannot be compared."""

    @property
    def label(self) -> str:
        """Task and metric."""
        return f"{self.task} {self.metric}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A run after training, or a model scored by `raytrain evaluate`."""

    name: str
    kind: Kind
    scores: tuple[tuple[float, float, float] | None, ...]
    """Value and 95 % interval for each column; None where the entry was not scored."""
    rank: float | None
    """Mean rank over the columns that all entries have; 1 is first everywhere."""
    problem: str | None = None
    """Why the entry is not ranked: the run failed, is not finished, or has a damaged score card."""


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Entries by mean rank, best first, then those that are not ranked.

    Only columns that all ranked entries have count (`ranked_by`, their places): a run that is alone
    in a column is not first in it. Ranks ignore noise: look at the intervals, too. `mixed` names
    the columns of a forced leaderboard whose scores cannot be compared.
    """

    storage: str
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    ranked_by: tuple[int, ...] = ()
    mixed: tuple[str, ...] = ()


def rank_models(store: Store, *, force: bool = False) -> Leaderboard:
    """Ranks everything that was scored on test rows: runs after training, and models.

    With `force`, scores of a task share a column whatever they were scored on, which is said.
    """
    problems: dict[_Who, str] = {}
    found: dict[_Who, dict[Column, ScoreCard]] = {}
    for name, problem in _problems(store).items():
        found[name, "run"] = {}
        problems |= {(name, "run"): problem} if problem else {}
    for who, card in _cards(store):
        found.setdefault(who, {})
        if isinstance(card, CorruptError | NotFoundError):
            problems.setdefault(who, f"a score card is damaged: {card.message}")
        elif card.value is not None:
            found[who][_column(card, force=force)] = card
    columns = _sorted({column for cards in found.values() for column in cards})
    ranked = {who: cards for who, cards in found.items() if cards and who not in problems}
    common = [column for column in columns if all(column in cards for cards in ranked.values())]
    ranks = [_ranks({who: cards[column] for who, cards in ranked.items()}) for column in common]
    entries = []
    for who, cards in found.items():
        scores = tuple(_triple(cards[column]) if column in cards else None for column in columns)
        mean = sum(rank[who] for rank in ranks) / len(ranks) if ranks and who in ranked else None
        entries.append(Entry(*who, scores, mean, None if who in ranked else problems.get(who, "it has no score")))
    return Leaderboard(
        store.uri,
        columns,
        tuple(sorted(entries, key=lambda e: (e.problem is not None, e.rank or 0, e.name))),
        tuple(columns.index(column) for column in common),
        _mixed(columns, found.values()) if force else (),
    )


def _column(card: ScoreCard, *, force: bool) -> Column:
    from raytrain.evaluation.comparability import conditions

    score = card.metrics[card.primary_metric]
    if force:
        return Column(card.task, card.primary_metric, score.better, score.scale, 0, "")
    same = repr(sorted(conditions(card).items()))
    return Column(card.task, card.primary_metric, score.better, score.scale, card.rows, same)


def _sorted(columns: set[Column]) -> tuple[Column, ...]:
    return tuple(sorted(columns, key=lambda column: (column.task, column.label, column.conditions)))


def _mixed(columns: Sequence[Column], found: Iterable[dict[Column, ScoreCard]]) -> tuple[str, ...]:
    """Says of each column with scores that cannot be compared why not."""
    from raytrain.evaluation.comparability import obstacles

    cards_of = list(found)
    sentences = []
    for column in columns:
        first, *others = [cards[column] for cards in cards_of if column in cards]
        reasons = dict.fromkeys(reason for other in others for reason in obstacles(first, other))
        if reasons:
            sentences.append(f"{column.label}: {', '.join(reasons)}")
    return tuple(sentences)


def _problems(store: Store) -> dict[str, str | None]:
    """Maps every run to why it is not ranked, None for a finished one."""
    from raytrain.runs.status import run_names
    from raytrain.telemetry.progress import read_progress

    problems: dict[str, str | None] = {}
    for name in run_names(store):
        progress = read_progress(store, RunLayout(name))
        if progress is None or progress.phase in ("Complete", "Reporting"):
            problems[name] = None
        elif progress.phase in ("Failed", "Interrupted"):
            problems[name] = f"{progress.phase.lower()} at step {progress.step}" + (
                f": {progress.message}" if progress.message else ""
            )
        else:
            problems[name] = f"not finished ({progress.phase}, step {progress.step})"
    return problems


def _cards(store: Store) -> Iterator[tuple[_Who, ScoreCard | CorruptError | NotFoundError]]:
    """Yields committed test scores, and for a damaged one what is wrong with it."""
    from raytrain.evaluation.results import read_card

    kinds: tuple[tuple[str, Kind, type[RunLayout], str], ...] = (
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
                except (CorruptError, NotFoundError) as error:
                    yield (name, kind), error
                    continue
                if card is not None:
                    yield (name, kind), card


def _triple(card: ScoreCard) -> tuple[float, float, float]:
    score = card.metrics[card.primary_metric]
    assert score.value is not None
    assert score.low is not None
    assert score.high is not None
    return score.value, score.low, score.high


def _ranks(cards: Mapping[_Who, ScoreCard]) -> dict[_Who, float]:
    """Ranks by score, 1 for the best; equal scores share the mean of their ranks."""
    values = {who: card.selection_value or 0.0 for who, card in cards.items()}
    return {
        who: 1 + sum(other > value for other in values.values()) + (sum(o == value for o in values.values()) - 1) / 2
        for who, value in values.items()
    }
