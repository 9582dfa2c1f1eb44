"""Renders a comparison of runs as Markdown and as one self-contained HTML page."""

from collections.abc import Sequence

from markupsafe import Markup

from raytrain.report import charts
from raytrain.report.comparison import ComparedRow, ComparedRun, ComparedTask, Comparison, TaskResult
from raytrain.report.formatting import format_interval, format_score, join_names
from raytrain.report.html import render_page
from raytrain.report.markdown_text import escape, fence, table
from raytrain.report.side_by_side import COLOURS, draw_scores
from raytrain.report.words import Span, closest_agreement

_MARKDOWN_SAMPLES = 2  # per task
_VERDICT_LABELS = {"noise": "within the noise", "few": "too few rows to tell", "unknown": "not known"}


def comparison_markdown(comparison: Comparison) -> str:
    """Renders the comparison as Markdown for a pull request."""
    labels = [escape(run.label) for run in comparison.runs]
    parts = [f"# {' compared with '.join(labels)}", *(escape(sentence) for sentence in comparison.sentences)]
    if comparison.warnings:
        parts.append("\n".join(["**Keep in mind:**", "", *(f"- {escape(w)}" for w in comparison.warnings)]))
    parts.append(table(["Task", "Metric", *labels], [_table_row(task) for task in comparison.tasks], numbers_from=2))
    parts.append(
        "Scores on test rows after training with 95 % intervals; below them the paired difference from the first "
        "run, over the rows that both answered."
    )
    samples = [(task, row) for task in comparison.tasks for row in task.samples[:_MARKDOWN_SAMPLES]]
    if samples:
        parts.append("## Where they differ most")
    parts += [_sample(task, row, labels) for task, row in samples]
    return "\n\n".join(parts) + "\n"


def _table_row(task: ComparedTask) -> list[str]:
    lower = ", lower is better" if task.better == "lower" else ""
    cells = [_cell(result, task).replace("[", "\\[") for result in task.results]
    return [f"**{escape(task.name)}**", task.label + lower, *cells]


def _cell(result: TaskResult | None, task: ComparedTask) -> str:
    if result is None or result.after is None:
        return "–"
    after = result.after
    text = f"**{format_score(after.value, task.scale)}** {format_interval(after.low, after.high, task.scale)}"
    if (difference := result.difference_from_first) is not None:
        change = format_score(difference.value, task.scale, sign=True)
        span = format_interval(difference.low, difference.high, task.scale, sign=True)
        verdict = "not comparable" if result.not_comparable else _verdict_label(difference.verdict)
        text += f"<br>{change} {span}, {verdict}"
    return text if result.trained else f"{text} (probe)"


def _sample(task: ComparedTask, row: ComparedRow, labels: Sequence[str]) -> str:
    lines = [f"<details><summary>{escape(task.name)}, row {escape(row.id)}</summary>", "Prompt:", fence(row.input)]
    lines += ["Reference:", *(fence(reference) for reference in row.references)]
    for label, answer, score in zip(labels, row.answers, row.scores, strict=True):
        if answer is not None:
            lines += [f"{label} ({task.label} {format_score(score, task.scale)}):", fence(answer)]
    return "\n\n".join([*lines, "</details>"])


def comparison_html(comparison: Comparison, runs: Sequence[ComparedRun]) -> str:
    """Renders the comparison as an HTML page; `runs` are those that it was made from."""
    steps = max([1, *(run.steps for run in comparison.runs)])
    return render_page(
        "comparison.html.j2",
        scripts=("theme.js",),
        comparison=comparison,
        picture=draw_scores(runs, "Scores before and after each run", note=_forced_note(comparison)),
        curves=[(task, _curves(task, comparison, steps)) for task in comparison.tasks if _has_curve(task)],
        verdict_of=_verdict_label,
        spans=_spans,
    )


def _forced_note(comparison: Comparison) -> str:
    """Names the tasks that only --force compares; part of the picture, which travels alone."""
    names = [task.name for task in comparison.tasks if any(r and r.not_comparable for r in task.results)]
    return f"Not comparable (--force): {join_names(names)}" if names else ""


def _has_curve(task: ComparedTask) -> bool:
    return any(result and len(result.validation) > 1 for result in task.results)


def _curves(task: ComparedTask, comparison: Comparison, steps: int) -> Markup:
    points = [
        (run.label, result.validation if result else [])
        for run, result in zip(comparison.runs, task.results, strict=True)
    ]
    return charts.overlaid_curves(task.name, points, steps, task.scale, COLOURS)


def _verdict_label(verdict: str) -> str:
    return _VERDICT_LABELS.get(verdict, verdict)


def _spans(task: ComparedTask, row: ComparedRow, answer: str) -> list[Span]:
    return closest_agreement(answer, row.references, task_type=task.type)
