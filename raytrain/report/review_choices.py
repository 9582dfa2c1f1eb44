"""Reads what people chose on a review page, and turns it into a metric with an interval."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from raytrain.evaluation import holm
from raytrain.report.binomial import LEVEL, share_interval, sign_test
from raytrain.report.model import Preference, ReviewResult, Verdict
from raytrain.report.review import FORMAT, Review, ReviewRow, choose_rows
from raytrain.report.stored import StoredRun
from raytrain_core.errors import DataError

_CHOICES = ("first", "second", "tie")
_PLACES = 3
_AGAIN = "Make the page again with `raytrain report RUN --review N` and choose there."


def read_choices(text: str, run: StoredRun, name: str, *, where: str) -> ReviewResult:
    """Reads an exported file against the run that it is about.

    Raises DataError, with what to do, for another run's file, rows that the page did not show or
    whose answers have changed since, rows without a choice, and choices that are none.
    """
    content = _parse(text, where)
    if content["run"] != name:
        raise DataError(
            f"{where} is a review of run {content['run']}, not of {name}", hint="Name the run that was reviewed."
        )
    review = choose_rows(run, name, wanted=content["rows"], seed=content["seed"])
    choices = content["choices"]
    if review.digest != content["digest"]:
        raise DataError(
            f"{where}: the rows or answers of run {name} are not those of the page any more, or the file was edited",
            hint=_AGAIN,
        )
    known = {row.key for row in review.rows}
    _refuse(where, [key for key in choices if key not in known], "not a row of the page", hint=_AGAIN)
    _refuse(
        where,
        [f"{key}: {value!r}" for key, value in choices.items() if value not in _CHOICES],
        f"not one of {', '.join(_CHOICES)}",
        hint=_AGAIN,
    )
    missing = [row.key for row in review.rows if row.key not in choices]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(review.rows)} rows have no choice",
            hint="Open the page in the same browser (it remembers the choices), finish it and save the file again.",
        )
    return _result(review, choices)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}", hint=_AGAIN) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{where} is not a file of choices (format {FORMAT})", hint=_AGAIN)
    fields: dict[str, type] = {"run": str, "seed": int, "rows": int, "digest": str, "choices": dict}
    for field, kind in fields.items():
        if not isinstance(content.get(field), kind) or isinstance(content[field], bool):
            raise DataError(f"{where}: {field} is missing or not what the page writes", hint=_AGAIN)
    return content


def _refuse(where: str, found: Sequence[str], reason: str, *, hint: str) -> None:
    if found:
        places = ", ".join(found[:_PLACES])
        raise DataError(f"{where}: {reason}: {places} ({len(found)} in all)", hint=hint)


def _result(review: Review, choices: Mapping[str, str]) -> ReviewResult:
    tasks = sorted({row.task for row in review.rows})
    of_tasks = [_preference(task, [r for r in review.rows if r.task == task], choices) for task in tasks]
    return ReviewResult(
        digest=review.digest,
        seed=review.seed,
        rows=len(review.rows),
        alike=review.alike,
        preferences=[_preference(None, review.rows, choices), *_corrected(of_tasks)],
    )


def _preference(task: str | None, rows: Sequence[ReviewRow], choices: Mapping[str, str]) -> Preference:
    counts = Counter(_winner(row, choices[row.key]) for row in rows)
    after, before = counts["after"], counts["before"]
    decided = after + before
    low, high = share_interval(after, decided)
    p = sign_test(after, decided)
    verdict: Verdict = "noise" if p > LEVEL or not decided else "better" if after > before else "worse"
    share = after / decided if decided else None
    return Preference(
        task=task, after=after, before=before, ties=counts["tie"], share=share, low=low, high=high, p=p, verdict=verdict
    )


def _corrected(of_tasks: Sequence[Preference]) -> list[Preference]:
    """Corrects p-values and verdicts of single tasks for their number."""
    adjusted = holm.adjust([one.p for one in of_tasks])
    return [
        one.model_copy(update={"p": p, "verdict": one.verdict if p is not None and p <= LEVEL else "noise"})
        for one, p in zip(of_tasks, adjusted, strict=True)
    ]


def _winner(row: ReviewRow, choice: str) -> str:
    if choice == "tie":
        return "tie"
    return "after" if (choice == "first") == row.after_first else "before"
