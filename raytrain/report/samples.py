"""Selects sample rows: the largest gains, the largest losses, and a random draw."""

import hashlib
from collections.abc import Sequence

from raytrain.evaluation.results import Prediction
from raytrain.report.model import Sample, SampleKind

GAINS, LOSSES, DRAWN = 4, 3, 3
REFERENCES = 3


def choose_samples(
    before: Sequence[Prediction], after: Sequence[Prediction], *, run: str, task: str, better: str = "higher"
) -> list[Sample]:
    """Returns up to ten rows that both stages answered: gains first, then losses, then a draw.

    If only one stage was scored, its rows are used. The draw is by hash of run, task and row id, so
    it is the same each time. `better` says which direction of a row's score is a gain.
    """
    olds, news = {a.id: a for a in before}, {a.id: a for a in after}
    ids = sorted(news.keys() & olds.keys() or news.keys() | olds.keys())
    sign = 1 if better == "higher" else -1

    def gain(key: str) -> float:
        old, new = olds.get(key), news.get(key)
        if old is None or new is None or old.score is None or new.score is None:
            return 0.0
        return sign * (new.score - old.score)

    def order(key: str) -> str:
        return hashlib.sha256(f"{run}\0{task}\0{key}".encode(errors="replace")).hexdigest()

    shuffled = sorted(ids, key=order)
    drawn = shuffled[:DRAWN]
    rest = [key for key in shuffled if key not in set(drawn)]
    gains = [key for key in sorted(rest, key=gain, reverse=True) if gain(key) > 0][:GAINS]
    losses = [key for key in sorted(rest, key=gain) if gain(key) < 0][:LOSSES]
    taken = {*drawn, *gains, *losses}
    total = min(len(ids), GAINS + LOSSES + DRAWN)
    drawn += [key for key in shuffled if key not in taken][: total - len(taken)]
    kinds: list[tuple[SampleKind, list[str]]] = [("gain", gains), ("loss", losses), ("random", drawn)]
    return [_sample(kind, olds.get(key), news.get(key)) for kind, keys in kinds for key in keys]


def _sample(kind: SampleKind, old: Prediction | None, new: Prediction | None) -> Sample:
    row = new or old
    if row is None:
        raise ValueError("a sample needs an answer")
    return Sample(
        id=row.id,
        kind=kind,
        template=row.template,
        input=row.input,
        references=list(row.targets[:REFERENCES]),
        before=None if old is None else old.prediction,
        after=None if new is None else new.prediction,
        before_score=None if old is None else old.score,
        after_score=None if new is None else new.score,
    )
