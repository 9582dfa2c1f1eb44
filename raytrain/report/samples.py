"""Which rows are shown: the largest gains, the largest losses, and a draw that does not look at the scores."""

import hashlib
from collections.abc import Sequence

from raytrain.evaluation.results import Prediction
from raytrain.report.model import Sample, SampleKind
from raytrain.report.safe_text import readable

GAINS, LOSSES, DRAWN = 4, 3, 3
INPUT_CHARACTERS, ANSWER_CHARACTERS, REFERENCES = 2000, 1200, 3


def choose(
    before: Sequence[Prediction], after: Sequence[Prediction], *, run: str, task: str, better: str = "higher"
) -> list[Sample]:
    """Up to ten rows that both stages answered (else the only stage's): gains first, then losses, then a draw.

    The draw is by hash of run, task and row id: the same rows each time, whatever the scores.
    `score` of a row is turned by `better`.
    """
    answers = {a.id: a for a in after}
    olds = {a.id: a for a in before}
    ids = sorted(answers.keys() & olds.keys() or answers.keys() | olds.keys())
    sign = 1 if better == "higher" else -1

    def gain(key: str) -> float:
        old, new = olds.get(key), answers.get(key)
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
    wanted = min(len(ids), GAINS + LOSSES + DRAWN)
    drawn += [key for key in shuffled if key not in taken][: wanted - len(taken)]
    kinds: list[tuple[SampleKind, list[str]]] = [("gain", gains), ("loss", losses), ("random", drawn)]
    return [_sample(kind, olds.get(key), answers.get(key)) for kind, keys in kinds for key in keys]


def _sample(kind: SampleKind, old: Prediction | None, new: Prediction | None) -> Sample:
    row = new or old
    if row is None:
        raise ValueError("a sample needs an answer")
    return Sample(
        id=readable(row.id, 200),
        kind=kind,
        template=row.template,
        input=readable(row.input, INPUT_CHARACTERS),
        references=[readable(t, ANSWER_CHARACTERS) for t in row.targets[:REFERENCES]],
        before=None if old is None else readable(old.prediction, ANSWER_CHARACTERS),
        after=None if new is None else readable(new.prediction, ANSWER_CHARACTERS),
        before_score=None if old is None else old.score,
        after_score=None if new is None else new.score,
    )
