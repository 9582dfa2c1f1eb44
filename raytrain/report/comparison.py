"""The comparison of several runs as data.

It has scores, paired differences from the first run, and the rows on which runs differ most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from pydantic import Field

from raytrain.evaluation.comparability import obstacles
from raytrain.evaluation.results import Prediction, ScoreCard
from raytrain.report.differences import corrected, paired_difference
from raytrain.report.formatting import format_count, join_names
from raytrain.report.model import (
    CurvePoint,
    Difference,
    Interval,
    ReportData,
    ReportPart,
    Task,
    Text200,
    Text1200,
    Text2000,
)
from raytrain_core.errors import UsageError

SAMPLES = 5  # per task
_NAMED = 3  # tasks that a refusal names


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run to be compared: its label and report, its answers and score cards after training."""

    label: str
    data: ReportData
    answers: dict[str, list[Prediction]] = field(default_factory=dict)
    cards: dict[str, ScoreCard] = field(default_factory=dict)


class RunEntry(ReportPart):
    """One of the compared runs."""

    label: str
    run: str
    uri: str
    model: str
    steps: int
    chosen_step: int | None = None


class TaskResult(ReportPart):
    """The result of one run on one task, on test rows."""

    trained: bool
    before: Interval | None = None
    after: Interval | None = None
    difference_from_first: Difference | None = Field(
        default=None, description="After training, minus the first run's score; paired over rows that both answered."
    )
    not_comparable: list[str] = Field(
        default=[], description="Why this cannot be compared with the first run's result; only with --force."
    )
    validation: list[CurvePoint] = Field(default=[], description="Checkpoints, on validation rows.")


class ComparedRow(ReportPart):
    """A row with the answer of every run; null for runs that did not answer it."""

    id: Text200
    template: int
    input: Text2000
    references: list[Text1200]
    answers: list[Text1200 | None]
    scores: list[float | None]


class ComparedTask(ReportPart):
    """One task with one result for each run, in the order of the runs."""

    name: str
    type: str
    metric: str
    label: str
    better: Literal["higher", "lower"]
    scale: Literal["percent", "raw"]
    results: list[TaskResult | None] = Field(description="null for a run that does not have the task.")
    samples: list[ComparedRow] = Field(default=[], description="Rows on which the scores differ most.")


class Comparison(ReportPart):
    """Several runs, task by task; differences are taken from the first run."""

    format: Literal["raytrain.dev/comparison/v3"] = "raytrain.dev/comparison/v3"
    runs: list[RunEntry]
    tasks: list[ComparedTask]
    forced: bool = Field(default=False, description="Whether results are shown that cannot be compared.")
    sentences: list[str]
    warnings: list[str] = Field(default=[], description="Caveats for the reader, one sentence each.")


def compare_runs(runs: Sequence[ComparedRun], *, force: bool = False) -> Comparison:
    """Compares all runs with the first one.

    Raises UsageError for fewer than two runs, and for tasks that were scored on other rows or by
    other rules (`comparability`); with `force` those are shown, marked, and without a verdict.
    """
    if len(runs) < 2:
        raise UsageError("one run alone cannot be compared", hint="name two or more runs")
    names = list(dict.fromkeys(task.name for run in runs for task in run.data.tasks))
    pairs = [(name, run) for name in names for run in runs]
    found = {(name, run.label): reasons for name, run in pairs if (reasons := _obstacles(name, run, runs[0]))}
    if found and not force:
        _refuse(found, runs[0].label)
    tasks = _corrected([_task(name, runs) for name in names])
    return Comparison(
        runs=[_entry(run) for run in runs],
        tasks=tasks,
        forced=bool(found),
        sentences=[_sentence(runs, tasks, number) for number in range(1, len(runs))],
        warnings=_warnings(runs, tasks),
    )


def _obstacles(task: str, run: ComparedRun, first: ComparedRun) -> list[str]:
    ours, theirs = first.cards.get(task), run.cards.get(task)
    return [] if run is first or ours is None or theirs is None else obstacles(ours, theirs)


def _refuse(found: Mapping[tuple[str, str], list[str]], first: str) -> NoReturn:
    named = [f"{task} of {label}: {', '.join(reasons)}" for (task, label), reasons in list(found.items())[:_NAMED]]
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise UsageError(
        f"not scored on the same rows by the same rules as {first}: {'; '.join(named)}{more}",
        hint="Score the models on one job's rows (raytrain evaluate RUN --job JOB), or add --force, which compares "
        "all the same and marks what cannot be compared.",
    )


def _corrected(tasks: Sequence[ComparedTask]) -> list[ComparedTask]:
    """Corrects all differences of the comparison for their number."""
    differences = iter(corrected([r.difference_from_first if r else None for task in tasks for r in task.results]))

    def of(result: TaskResult | None) -> TaskResult | None:
        difference = next(differences)
        return result.model_copy(update={"difference_from_first": difference}) if result else None

    return [task.model_copy(update={"results": [of(result) for result in task.results]}) for task in tasks]


def _entry(run: ComparedRun) -> RunEntry:
    return RunEntry(
        label=run.label,
        run=run.data.run,
        uri=run.data.uri,
        model=run.data.model,
        steps=run.data.training.steps,
        chosen_step=run.data.training.chosen_step,
    )


def _task(name: str, runs: Sequence[ComparedRun]) -> ComparedTask:
    by_run = [next((task for task in run.data.tasks if task.name == name), None) for run in runs]
    known = next(task for task in by_run if task is not None)
    metric = known.primary_metric
    return ComparedTask(
        name=name,
        type=known.type,
        metric=metric.name,
        label=metric.label,
        better=metric.better,
        scale=metric.scale,
        results=[_result(task, run, runs[0], by_run[0], metric.name) for task, run in zip(by_run, runs, strict=True)],
        samples=_samples(name, runs),
    )


def _result(
    task: Task | None, run: ComparedRun, first: ComparedRun, task_of_first: Task | None, metric: str
) -> TaskResult | None:
    """Returns None if the run does not have the task or scores it by another metric."""
    if task is None or task.primary_metric.name != metric:
        return None
    same_metric = run is not first and task_of_first is not None and task_of_first.primary_metric.name == metric
    first_answers, answers = first.answers.get(task.name, []), run.answers.get(task.name, [])
    difference = paired_difference(metric, first_answers, answers) if same_metric else None
    reasons = _obstacles(task.name, run, first)
    if difference is not None and reasons:
        difference = difference.model_copy(update={"verdict": "unknown", "p": None})
    return TaskResult(
        trained=not task.probe,
        before=task.primary_metric.before,
        after=task.primary_metric.after,
        difference_from_first=difference,
        not_comparable=reasons,
        validation=task.validation,
    )


def _samples(task: str, runs: Sequence[ComparedRun]) -> list[ComparedRow]:
    """Returns the rows that all runs answered and on which their scores differ most."""
    answers = [{(p.id, p.template): p for p in run.answers.get(task, [])} for run in runs]
    known = [by_row for by_row in answers if by_row]
    common = set.intersection(*(set(by_row) for by_row in known)) if len(known) > 1 else set()

    def spread(key: tuple[str, int]) -> float:
        scores = [score for by_row in known if (score := by_row[key].score) is not None]
        return max(scores) - min(scores) if scores else 0.0

    chosen = [key for key in sorted(common, key=lambda key: (-spread(key), key)) if spread(key) > 0][:SAMPLES]
    return [_row([by_row.get(key) for by_row in answers]) for key in chosen]


def _row(predictions: Sequence[Prediction | None]) -> ComparedRow:
    row = next(prediction for prediction in predictions if prediction is not None)
    return ComparedRow(
        id=row.id,
        template=row.template,
        input=row.input,
        references=list(row.targets[:3]),
        answers=[None if p is None else p.prediction for p in predictions],
        scores=[None if p is None else p.score for p in predictions],
    )


def _sentence(runs: Sequence[ComparedRun], tasks: Sequence[ComparedTask], number: int) -> str:
    """Compares one run with the first in a sentence."""
    by_verdict: dict[str, list[str]] = {}
    for task in tasks:
        result = task.results[number]
        if result is not None and result.difference_from_first is not None:
            by_verdict.setdefault(result.difference_from_first.verdict, []).append(task.name)
    label, first = runs[number].label, runs[0].label
    if not by_verdict:
        return f"{label} and {first} did not answer the same rows."
    parts = []
    if better := by_verdict.get("better"):
        parts.append(f"better at {join_names(better)}")
    if worse := by_verdict.get("worse"):
        parts.append(f"worse at {join_names(worse)}")
    rest = "; ".join(f"{words}: {join_names(by_verdict[v])}" for v, words in _REST.items() if v in by_verdict)
    if not parts and "noise" not in by_verdict:
        return f"It cannot be told whether {label} differs from {first}: {rest}."
    if not parts:
        return f"No difference between {label} and {first} is larger than chance."
    return f"Compared with {first}, {label} is {' and '.join(parts)}{'; ' if rest else ''}{rest}."


_REST = {"noise": "within the noise", "few": "too few rows to tell", "unknown": "not comparable"}


def _warnings(runs: Sequence[ComparedRun], tasks: Sequence[ComparedTask]) -> list[str]:
    warnings = [
        f"{task.name} of {run.label} cannot be compared with {runs[0].label} and was only by --force: "
        f"{', '.join(result.not_comparable)}."
        for task in tasks
        for run, result in zip(runs, task.results, strict=True)
        if result is not None and result.not_comparable
    ]
    if len({run.data.model_digest for run in runs}) > 1:
        warnings.append("The runs started from different models, so their scores before training differ as well.")
    differences = [
        (task.name, run, result.difference_from_first)
        for task in tasks
        for run, result in zip(runs, task.results, strict=True)
        if result is not None and result.difference_from_first is not None
    ]
    for task_name, run, difference in differences:
        if difference.rows < len(run.answers[task_name]):
            rows = format_count(difference.rows, "row")
            warnings.append(f"{task_name}: only {rows} were answered by both {run.label} and the first run.")
    if len(differences) > 1:
        warnings.append(
            f"The table shows {len(differences)} differences. Verdicts are corrected for their number (Holm); "
            "intervals are not."
        )
    return warnings
