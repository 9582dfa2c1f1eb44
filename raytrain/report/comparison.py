"""Several runs against each other: scores, paired differences, curves, and the rows on which they differ most.

`compare_runs` reads what the runs left and makes the one object that Markdown, HTML and JSON are
rendered from.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.forgetting import compare
from raytrain.evaluation.metrics import Metric as AnyMetric
from raytrain.evaluation.metrics import find
from raytrain.evaluation.results import Prediction, read_predictions
from raytrain.report import charts
from raytrain.report import phrases as words
from raytrain.report.gather import gather
from raytrain.report.html import render_page
from raytrain.report.markdown import escape, fence, table
from raytrain.report.model import CurvePoint, Difference, Interval, Part, ReportData, Task, Verdict
from raytrain.report.safe_text import Piece, agreement, readable
from raytrain.report.side_by_side import COLOURS, ComparedRun, picture_of
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store

SAMPLES = 5  # of each task
VERDICTS: dict[str, Verdict] = {"better": "better", "worse": "worse", "inside the noise": "noise"}


class Contestant(Part):
    """One of the runs."""

    label: str
    run: str
    uri: str
    model: str
    steps: int
    chosen_step: int | None = None


class Standing(Part):
    """One run at one task, on test rows."""

    trained: bool
    before: Interval | None = None
    after: Interval | None = None
    against_first: Difference | None = Field(
        default=None, description="After training minus the first run's, paired over the rows that both answered."
    )
    validation: list[CurvePoint] = Field(default=[], description="Checkpoints, on validation rows.")


class ContestedRow(Part):
    """A row with every run's answer."""

    id: str
    template: int
    input: str
    references: list[str]
    answers: list[str | None]
    scores: list[float | None]


class ContestedTask(Part):
    """One task: the runs in their order, None for a run that does not have it."""

    name: str
    type: str
    metric: str
    label: str
    better: Literal["higher", "lower"]
    scale: Literal["percent", "raw"]
    standings: list[Standing | None]
    samples: list[ContestedRow] = Field(default=[], description="Rows on which the scores differ most.")


class Comparison(Part):
    """Runs side by side; differences are those from the first one."""

    format: Literal["raytrain.dev/comparison/v1"] = "raytrain.dev/comparison/v1"
    contestants: list[Contestant]
    tasks: list[ContestedTask]
    sentences: list[str]
    warnings: list[str] = Field(default=[], description="What a reader must not overlook.")


class Side(Part):
    """A run as it comes in: its report, and its answers after training by task."""

    label: str
    data: ReportData
    answers: dict[str, list[Prediction]]


def read_side(store: Store, layout: RunLayout, label: str) -> Side:
    """What a run left; StorageError if there is no such run."""
    data = gather(store, layout)
    answers = {task.name: read_predictions(store, layout, "after", task.name) or [] for task in data.tasks}
    return Side(label=label, data=data, answers=answers)


def compare_runs(sides: Sequence[Side]) -> Comparison:
    """The comparison; UsageError with fewer than two runs."""
    if len(sides) < 2:
        raise UsageError("one run alone cannot be compared", hint="Name two or more.")
    names = list(dict.fromkeys(task.name for side in sides for task in side.data.tasks))
    tasks = [_task(name, sides) for name in names]
    return Comparison(
        contestants=[
            Contestant(
                label=side.label,
                run=side.data.run,
                uri=side.data.uri,
                model=side.data.model,
                steps=side.data.training.steps,
                chosen_step=side.data.training.chosen_step,
            )
            for side in sides
        ],
        tasks=tasks,
        sentences=[_sentence(sides, tasks, number) for number in range(1, len(sides))],
        warnings=_warnings(sides, tasks),
    )


def _task(name: str, sides: Sequence[Side]) -> ContestedTask:
    found = [next((t for t in side.data.tasks if t.name == name), None) for side in sides]
    known = next(t for t in found if t is not None)
    metric, primary_metric = _metric(known), known.primary_metric
    first = sides[0].answers.get(name, [])
    standings: list[Standing | None] = []
    for number, (side, task) in enumerate(zip(sides, found, strict=True)):
        if task is None or task.primary_metric.name != primary_metric.name:
            standings.append(None)
            continue
        same = number == 0 or found[0] is None or found[0].primary_metric.name != primary_metric.name
        standings.append(
            Standing(
                trained=not task.probe,
                before=task.primary_metric.before,
                after=task.primary_metric.after,
                against_first=None if same or metric is None else _against(metric, first, side.answers.get(name, [])),
                validation=task.validation,
            )
        )
    return ContestedTask(
        name=name,
        type=known.type,
        metric=primary_metric.name,
        label=primary_metric.label,
        better=primary_metric.better,
        scale=primary_metric.scale,
        standings=standings,
        samples=_samples(name, sides),
    )


def _metric(task: Task) -> AnyMetric | None:
    try:
        return find(task.primary_metric.name)
    except UsageError:
        return None


def _against(metric: AnyMetric, first: Sequence[Prediction], other: Sequence[Prediction]) -> Difference | None:
    found = compare(metric, first, other)
    if found is None:
        return None
    return Difference(
        value=found.difference,
        low=found.low,
        high=found.high,
        gain=metric.improvement(found.difference),
        rows=found.rows,
        verdict=VERDICTS[found.verdict],
    )


def _samples(task: str, sides: Sequence[Side]) -> list[ContestedRow]:
    """The rows that all runs have an answer to, those first on which their scores lie furthest apart."""
    answers = [{(p.id, p.template): p for p in side.answers.get(task, [])} for side in sides]
    answers = [found for found in answers if found]
    common = set.intersection(*(set(found) for found in answers)) if len(answers) > 1 else set()

    def spread(key: tuple[str, int]) -> float:
        scores = [score for found in answers if (score := found[key].score) is not None]
        return max(scores) - min(scores) if scores else 0.0

    chosen = [key for key in sorted(common, key=lambda key: (-spread(key), key)) if spread(key) > 0][:SAMPLES]
    rows = []
    for key in chosen:
        given = [{(p.id, p.template): p for p in side.answers.get(task, [])}.get(key) for side in sides]
        row = next(p for p in given if p is not None)
        rows.append(
            ContestedRow(
                id=readable(row.id, 200),
                template=row.template,
                input=readable(row.input, 2000),
                references=[readable(t, 1200) for t in row.targets[:3]],
                answers=[None if p is None else readable(p.prediction, 1200) for p in given],
                scores=[None if p is None else p.score for p in given],
            )
        )
    return rows


def _sentence(sides: Sequence[Side], tasks: Sequence[ContestedTask], number: int) -> str:
    """What one run is worth against the first."""
    by_verdict: dict[str, list[str]] = {}
    for task in tasks:
        standing = task.standings[number]
        if standing is not None and standing.against_first is not None:
            by_verdict.setdefault(standing.against_first.verdict, []).append(task.name)
    label, first = sides[number].label, sides[0].label
    if not by_verdict:
        return f"{label} and {first} have no answers to the same rows."
    parts = []
    if better := by_verdict.get("better"):
        parts.append(f"better at {words.listing(better)}")
    if worse := by_verdict.get("worse"):
        parts.append(f"worse at {words.listing(worse)}")
    noise = by_verdict.get("noise", [])
    if not parts:
        return f"Between {label} and {first} no difference is larger than chance would make it."
    rest = f"; inside the noise: {words.listing(noise)}" if noise else ""
    return f"Against {first}, {label} is {' and '.join(parts)}{rest}."


def _warnings(sides: Sequence[Side], tasks: Sequence[ContestedTask]) -> list[str]:
    found = []
    if len({side.data.model_digest for side in sides}) > 1:
        found.append("The runs started from different models: their scores before differ for that reason.")
    for task in tasks:
        for side, standing in zip(sides, task.standings, strict=True):
            rows = standing.against_first.rows if standing and standing.against_first else None
            if rows is not None and rows < len(side.answers[task.name]):
                found.append(
                    f"{task.name}: only {words.count(rows, 'row')} were answered by both {side.label} and the first."
                )
    tests = sum(s.against_first is not None for t in tasks for s in t.standings if s)
    if tests > 5:
        found.append(
            f"{tests} differences were looked at: by chance about one of twenty leaves its 95 % interval, "
            "no correction is made."
        )
    return found


def render_markdown(comparison: Comparison) -> str:
    """As Markdown that reads well in a pull request."""
    labels = [escape(c.label) for c in comparison.contestants]
    rows = []
    for task in comparison.tasks:
        cells = []
        for standing in task.standings:
            if standing is None or standing.after is None:
                cells.append("–")
                continue
            span = words.interval(standing.after.low, standing.after.high, task.scale)
            text = f"**{words.number(standing.after.value, task.scale)}** {span}"
            if (d := standing.against_first) is not None:
                change = words.number(d.value, task.scale, sign=True)
                text += f"<br>{change} {words.interval(d.low, d.high, task.scale, sign=True)}, {_says(d.verdict)}"
            cells.append((text + ("" if standing.trained else " (probe)")).replace("[", "\\["))
        lower = ", lower is better" if task.better == "lower" else ""
        rows.append([f"**{escape(task.name)}**", task.label + lower, *cells])
    parts = [f"# {' against '.join(labels)}", *(escape(s) for s in comparison.sentences)]
    if comparison.warnings:
        parts.append("\n".join(["**Keep in mind:**", "", *(f"- {escape(w)}" for w in comparison.warnings)]))
    parts.append(table(["Task", "Metric", *labels], rows, numbers_from=2))
    parts.append(
        "Test rows after training with 95 % intervals; below them the paired difference from the first run, by "
        "bootstrap over the rows that both answered."
    )
    samples = [(task, row) for task in comparison.tasks for row in task.samples[:2]]
    if samples:
        parts.append("## Where they differ most")
    for task, row in samples:
        lines = [f"<details><summary>{escape(task.name)}, row {escape(row.id)}</summary>", "Asked:", fence(row.input)]
        lines += ["Reference:", *(fence(r) for r in row.references)]
        for label, answer, score in zip(labels, row.answers, row.scores, strict=True):
            if answer is not None:
                lines += [f"{label} ({task.label} {words.number(score, task.scale)}):", fence(answer)]
        parts.append("\n\n".join([*lines, "</details>"]))
    return "\n\n".join(parts) + "\n"


def render_html(comparison: Comparison, sides: Sequence[Side]) -> str:
    """As one self-contained page."""
    runs = [ComparedRun(side.label, side.data) for side in sides]
    steps = max([1, *(c.steps for c in comparison.contestants)])
    curves = [
        (
            task,
            charts.overlaid_curves(
                task.name,
                [
                    (c.label, s.validation if s else [])
                    for c, s in zip(comparison.contestants, task.standings, strict=True)
                ],
                steps,
                task.scale,
                COLOURS,
            ),
        )
        for task in comparison.tasks
        if any(s and len(s.validation) > 1 for s in task.standings)
    ]
    return render_page(
        "comparison.html.j2",
        scripts=("theme.js",),
        comparison=comparison,
        picture=picture_of(runs, "Scores before and after each run"),
        curves=curves,
        says=_says,
        pieces=_pieces,
    )


def _says(verdict: str) -> str:
    return {"noise": "inside the noise", "unknown": "not known"}.get(verdict, verdict)


def _pieces(task: ContestedTask, row: ContestedRow, answer: str) -> list[Piece]:
    """An answer in pieces that agree with the reference it is nearest to, and pieces that do not."""
    exact = task.type == "code-translation"
    found = [agreement(answer, reference, exact=exact) for reference in row.references or [""]]
    return max(found, key=lambda pieces: sum(len(p.text) for p in pieces if p.agrees))
