"""A blinded comparison by people: the rows, their order, and the page that shows them."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest

from raytrain.evaluation.results import Prediction
from raytrain.report.html import render_page
from raytrain.report.safe_text import readable
from raytrain.report.stored import StoredRun
from raytrain_core.errors import UsageError

FORMAT = "raytrain.dev/review/v1"
_PROMPT, _ANSWER = 6000, 4000  # characters shown


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """A row with two different answers, the one after training first or second.

    `key` is a digest of the run, the row and both answers: where any of them changes, it does.
    """

    key: str
    task: str
    before: Prediction
    after: Prediction
    after_first: bool


@dataclass(frozen=True, slots=True)
class Review:
    """The rows of a review in the order in which they are shown; the same for the same seed."""

    run: str
    seed: int
    wanted: int
    rows: list[ReviewRow]
    alike: int

    @property
    def digest(self) -> str:
        """Digest of the rows, their answers and their order."""
        return _digest(self.run, str(self.seed), *(row.key for row in self.rows))


def choose_rows(run: StoredRun, name: str, *, wanted: int, seed: int) -> Review:
    """Chooses up to `wanted` rows by lot, the same number from each task as far as it has them.

    Rows whose answers are alike are counted in `alike` and not shown: there is nothing to choose.
    Raises UsageError if no row was answered differently before and after training.
    """
    by_task = [_differing(run, name, task, seed) for task in _tasks(run)]
    turns = chain.from_iterable(zip_longest(*(rows for rows, _ in by_task)))
    chosen = [row for row in turns if row is not None][:wanted]
    if not chosen:
        raise UsageError(
            f"run {name} has no row to review: none was answered differently before and after training",
            hint="A review needs the answers of both; `raytrain status` says whether the run has them.",
        )
    chosen.sort(key=lambda row: _digest("order", str(seed), row.key))
    return Review(name, seed, wanted, chosen, sum(alike for _, alike in by_task))


def _tasks(run: StoredRun) -> list[str]:
    return [task for task in run.stages.get("before", {}) if task in run.stages.get("after", {})]


def _differing(run: StoredRun, name: str, task: str, seed: int) -> tuple[list[ReviewRow], int]:
    """Returns a task's rows with different answers, shuffled, and the number of those alike."""
    old = {(row.id, row.template): row for row in run.stages["before"][task].answers}
    pairs = [(old[at], row) for row in run.stages["after"][task].answers if (at := (row.id, row.template)) in old]
    rows = [
        _row(name, task, before, after, seed)
        for before, after in pairs
        if before.prediction.split() != after.prediction.split()
    ]
    return sorted(rows, key=lambda row: _digest("lot", str(seed), row.key)), len(pairs) - len(rows)


def _row(name: str, task: str, before: Prediction, after: Prediction, seed: int) -> ReviewRow:
    key = _digest(name, task, after.id, str(after.template), after.input, before.prediction, after.prediction)
    return ReviewRow(key, task, before, after, after_first=int(_digest("side", str(seed), key), 16) % 2 == 1)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:32]


def render_review(review: Review) -> str:
    """Renders the page: one self-contained file without a word on which answer is which."""
    return render_page(
        "review.html.j2",
        scripts=("theme.js", "review.js"),
        review=review,
        rows=list(_shown(review)),
        head=json.dumps(
            {"format": FORMAT, "run": review.run, "seed": review.seed, "rows": review.wanted}
            | {"digest": review.digest}
        ),
    )


def _shown(review: Review) -> Iterator[dict[str, object]]:
    for row in review.rows:
        answers = (row.after, row.before) if row.after_first else (row.before, row.after)
        yield {
            "key": row.key,
            "task": row.task,
            "input": readable(row.after.input, _PROMPT),
            "references": [readable(text, _ANSWER) for text in row.after.targets[:3]],
            "answers": [readable(answer.prediction, _ANSWER) for answer in answers],
        }
