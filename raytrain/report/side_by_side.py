"""Shows several runs of the same base model side by side: what each gained and what it forgot."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from raytrain.evaluation.comparability import obstacles
from raytrain.report import charts
from raytrain.report.comparison import ComparedRun
from raytrain.report.formatting import format_interval, format_score, join_names
from raytrain.report.html import render_page
from raytrain.report.markdown_text import escape, table
from raytrain.report.model import Interval, Task
from raytrain.report.verdicts import probe_fate, verdict_label

# Colours by Okabe and Ito, safe for colour-blind readers, some darkened for white paper. Marks
# differ in shape as well.
COLOURS = ("#1f63d6", "#b84a0c", "#0a7d5c", "#8a4fa3", "#8a6d00", "#2b7f9e")
_TITLE_CHARACTERS = 76  # of a line of the title
_WIDTH, _PAD, _LEFT, _RIGHT, _ROW, _GAP = 900, 20, 210, 100, 22, 18


@dataclass(frozen=True, slots=True)
class SideBySide:
    """The runs as a page, a stand-alone picture (e.g. for a README) and Markdown."""

    html: str
    svg: str
    markdown: str


@dataclass(frozen=True, slots=True)
class _Line:
    """One task: the score of the base model, and the task in the report of each run."""

    task: str
    metric: str
    probe: bool
    before: Interval | None
    after: list[Task | None]


def render_side_by_side(
    runs: Sequence[ComparedRun], *, title: str = "What each way of training gained and forgot"
) -> SideBySide:
    """Renders the runs side by side, task by task.

    Tasks that no run trained on are shown as probes; in the others, a mark says which run trained
    on them. A task that runs score by different metrics has a line for each metric. Raises
    ValueError without runs, if the runs started from different models, or if their score cards
    cannot be compared (`comparability`).
    """
    if not runs:
        raise ValueError("there are no runs to compare")
    if found := _incomparable(runs):
        raise ValueError(f"the runs were not scored alike: {'; '.join(found)}")
    if len({run.data.model_digest for run in runs}) > 1:
        raise ValueError(
            "the runs started from different models: " + ", ".join(f"{a.label}: {a.data.model}" for a in runs)
        )
    lines = _lines(runs)
    headline = takeaway(runs)
    picture = _svg(runs, lines, headline, shown=True)
    notes = list(dict.fromkeys(run.data.data.note for run in runs if run.data.data.note))
    html = render_page(
        "side_by_side.html.j2",
        scripts=("theme.js",),
        title=title,
        headline=headline,
        runs=runs,
        lines=lines,
        notes=notes,
        sentences=_sentences(runs, lines),
        picture=picture,
    )
    return SideBySide(html, str(picture), _markdown(runs, lines, title, notes))


def _incomparable(runs: Sequence[ComparedRun]) -> list[str]:
    """Says of each task that differs in more than its metric why it cannot share a picture."""
    first: dict[tuple[str, str], ComparedRun] = {}  # by task and metric: not every run has every task
    found = []
    for run in runs:
        for name, card in run.cards.items():
            other = first.setdefault((name, card.primary_metric), run)
            if other is not run and (reasons := obstacles(other.cards[name], card)):
                found.append(f"{name} of {run.label} and {other.label}: {', '.join(reasons)}")
    return sorted(found)


def draw_scores(runs: Sequence[ComparedRun], title: str, *, note: str = "") -> Markup:
    """Draws the picture alone, with a note in it; the runs may differ in where they started."""
    return _svg(runs, _lines(runs), title, note)


def _lines(runs: Sequence[ComparedRun]) -> list[_Line]:
    """One line a task and metric: scores by different metrics share no axis."""
    keys = list(dict.fromkeys((t.name, t.primary_metric.name) for run in runs for t in run.data.tasks))
    found = []
    for key in keys:
        by_run = [{(t.name, t.primary_metric.name): t for t in run.data.tasks} for run in runs]
        tasks = [tasks_of_run.get(key) for tasks_of_run in by_run]
        known = [t for t in tasks if t is not None]
        before = next((t.primary_metric.before for t in known if t.primary_metric.before), None)
        found.append(_Line(key[0], known[0].primary_metric.label, all(t.probe for t in known), before, tasks))
    return sorted(found, key=lambda line: line.probe)


def _sentences(runs: Sequence[ComparedRun], lines: Sequence[_Line]) -> list[tuple[str, str]]:
    """Returns (label, what the run gained and what happened to the probes) for each run."""
    out = []
    for number, run in enumerate(runs):
        trained = [t for t in (line.after[number] for line in lines) if t is not None and not t.probe]
        probes = [t for line in lines if line.probe and (t := line.after[number]) is not None]
        better = sum(t.verdict == "better" for t in trained)
        fates = "; ".join(f"{t.name}: {verdict_label(t)}, {_from_to(t)}" for t in probes)
        names = join_names([t.name for t in trained])
        gained = f"Trained on {names}; better at {better} of {len(trained)}."
        out.append((run.label, f"{gained} Probes: {fates}." if fates else gained))
    return out


def _from_to(task: Task) -> str:
    h = task.primary_metric
    before, after = (format_score(x.value if x else None, h.scale) for x in (h.before, h.after))
    return f"{before} → {after}"


def _markdown(runs: Sequence[ComparedRun], lines: Sequence[_Line], title: str, notes: Sequence[str]) -> str:
    rows = []
    for line in lines:
        scale = next(t.primary_metric.scale for t in line.after if t is not None)
        cells = []
        for task in line.after:
            after = task.primary_metric.after if task else None
            span = format_interval(after.low, after.high, scale).replace("[", "\\[") if after else ""
            seen = " ·" if task is not None and not task.probe else ""
            cells.append(f"{format_score(after.value if after else None, scale)} {span}".strip() + seen)
        name = f"**{escape(line.task)}**" + (" (probe)" if line.probe else "")
        rows.append([name, line.metric, format_score(line.before.value if line.before else None, scale), *cells])
    head = ["Task", "Metric", "Before", *(escape(run.label) for run in runs)]
    parts = [f"# {escape(title)}", *(f"> {escape(note)}" for note in notes)]
    parts += [table(head, rows, numbers_from=2), "Test rows, 95 % intervals; · marks a task that this run trained on."]
    return (
        "\n\n".join(
            [*parts, "\n".join(f"- **{escape(label)}**: {escape(text)}" for label, text in _sentences(runs, lines))]
        )
        + "\n"
    )


def takeaway(runs: Sequence[ComparedRun]) -> str:
    """Says in one sentence which run forgot most of what it did not train on, and which least."""
    counts = sorted(((*_forgotten(run), run.label) for run in runs), key=lambda count: (count[0], -count[1]))
    (least, asked, careful), (most, asked_of_most, forgetful) = counts[0], counts[-1]
    if not any(tested for _, tested, _ in counts):
        return "No run was tested on a skill that it did not train."
    if most == 0:
        return "No run is seen to forget any of the skills that it did not train."
    worst = f"“{forgetful}” forgot {most} of {asked_of_most} skills that it did not train"
    return f"{worst}." if len(runs) == 1 else f"{worst}, “{careful}” {least or 'none'} of {asked}."


def _forgotten(run: ComparedRun) -> tuple[int, int]:
    """Returns how many skills that the run did not train it forgot, and how many were tested."""
    fates = [probe_fate(task) for task in run.data.probes]
    return sum(fate in ("partly", "mostly") for fate in fates), len(fates)


def _svg(
    runs: Sequence[ComparedRun], lines: Sequence[_Line], title: str, note: str = "", *, shown: bool = False
) -> Markup:
    """Draws a ring for the base model and a mark with interval for each run, grouped by task.

    The title is for screen readers, and for everybody if `shown`.
    """
    parts = [Markup('<rect class="sheet" width="100%" height="100%" fill="#ffffff"/>')]
    title_lines = textwrap.wrap(title, _TITLE_CHARACTERS) if shown else []
    parts += [_text(_PAD, 30 + 24 * place, line, kind="title") for place, line in enumerate(title_lines)]
    legend, y = _legend(runs, top=26.0 + (24 * len(title_lines) + 8 if title_lines else 0))
    parts += legend
    if note:
        parts.append(_text(_PAD, y + 8, note, kind="section"))
        y += _ROW
    section = None
    for line in lines:
        if section is not line.probe:
            section = line.probe
            heading = "Only tested: what was kept or forgotten" if line.probe else "Trained on by at least one run"
            parts.append(_text(_PAD, y + 18, heading, kind="section"))
            parts += [
                _text(_x(charts.PERCENT, t), y + 38, f"{100 * t:.0f}", kind="note", anchor="middle")
                for t in charts.PERCENT.ticks
            ]
            y += 46
        parts += _group(line, y)
        y += _ROW * len(runs) + _GAP
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="side-by-side" viewBox="0 0 {w} {h}" role="img"'
        ' aria-label="{title}"'
        ' font-family="Inter, system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif" font-size="13">'
        "<title>{title}</title>{body}</svg>"
    ).format(w=_WIDTH, h=round(y), title=title, body=Markup("").join(parts))


def _legend(runs: Sequence[ComparedRun], *, top: float) -> tuple[list[Markup], float]:
    """Draws the legend in as many lines as needed; returns its parts and its lower edge."""
    parts: list[Markup] = []
    x_at, y = float(_PAD), top
    for number, label in enumerate([*(run.label for run in runs), "before"]):
        width = 42 + 7.4 * len(label)
        if x_at + width > _WIDTH - _PAD:
            x_at, y = float(_PAD), y + _ROW
        mark = _mark(number, x_at + 6, y, trained=True) if number < len(runs) else _ring(x_at + 6, y)
        parts += [mark, _text(x_at + 18, y + 4.5, label)]
        x_at += width
    note = "disc: trained on · diamond: only tested"
    if x_at + 6.2 * len(note) > _WIDTH - _PAD:
        y += _ROW
    parts.append(_text(_WIDTH - _PAD, y + 4.5, note, kind="note", anchor="end"))
    return parts, y + 20


def _x(axis: charts.Axis, value: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * axis.share(value)


def _group(line: _Line, top: float) -> list[Markup]:
    """Draws all runs on one task; the axis is 0 to 100 for fractions, else the task's own."""
    bottom = top + _ROW * len(line.after)
    found = [t for t in line.after if t is not None]
    scale = found[0].primary_metric.scale
    spans = [x for t in found for x in (t.primary_metric.before, t.primary_metric.after) if x]
    axis = charts.axis_for([v for x in spans for v in (x.value, x.low, x.high) if v is not None], scale)

    x = partial(_x, axis)
    parts = [_line(x(t), x(t), top, bottom, "rule", stroke="#e2e5e9") for t in axis.ticks]
    if axis != charts.PERCENT:  # a scale of its own, written under the group
        parts += [_text(x(t), bottom + 12, f"{t:g}", kind="note", anchor="middle") for t in axis.ticks]
    parts += [_text(_PAD, top + 16, line.task, kind="task"), _text(_PAD, top + 33, line.metric, kind="note")]
    for number, task in enumerate(line.after):
        after = task.primary_metric.after if task else None
        if task is None or after is None:
            continue
        y, colour = top + _ROW * (number + 0.5), COLOURS[number % len(COLOURS)]
        kind = f"run{number % len(COLOURS)}"
        if after.low is not None and after.high is not None:
            parts.append(_line(x(after.low), x(after.high), y, y, kind, stroke=colour, width=10, opacity=0.22))
        if task.primary_metric.before:
            start = x(task.primary_metric.before.value)
            parts += [_line(start, x(after.value), y, y, kind, stroke=colour, width=1.6), _ring(start, y)]
        parts.append(_mark(number, x(after.value), y, trained=not task.probe))
        parts.append(_text(_WIDTH - _PAD, y + 4.5, format_score(after.value, scale), anchor="end", kind="value"))
    return parts


_TEXTS = {
    "plain": Markup('fill="#16191d"'),
    "note": Markup('fill="#59616b" font-size="11.5"'),
    "task": Markup('fill="#16191d" font-weight="600" font-size="14"'),
    "title": Markup('fill="#16191d" font-weight="600" font-size="18"'),
    "section": Markup('fill="#59616b" font-size="12.5" font-weight="500"'),
    "value": Markup('fill="#16191d" font-weight="500"'),
}


def _text(x: float, y: float, text: str, *, kind: str = "plain", anchor: str = "start") -> Markup:
    return Markup('<text class="t-{}" x="{:.1f}" y="{:.1f}" text-anchor="{}" {}>{}</text>').format(
        kind, x, y, anchor, _TEXTS[kind], text
    )


def _line(
    x1: float, x2: float, y1: float, y2: float, kind: str, *, stroke: str, width: float = 1, opacity: float = 1
) -> Markup:
    return Markup(
        '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}" opacity="{}"/>'
    ).format(kind, x1, x2, y1, y2, stroke, width, opacity)


def _ring(x: float, y: float) -> Markup:
    return Markup(
        '<circle class="ring" cx="{:.1f}" cy="{:.1f}" r="4" fill="#ffffff" stroke="#78818c" stroke-width="2"/>'
    ).format(x, y)


def _mark(number: int, x: float, y: float, *, trained: bool) -> Markup:
    """Draws a disc if the run trained on the task, else a diamond."""
    kind, colour = f"run{number % len(COLOURS)}", COLOURS[number % len(COLOURS)]
    if trained:
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5.5" fill="{}"/>').format(kind, x, y, colour)
    points = f"{x:.1f},{y - 6.5:.1f} {x + 6.5:.1f},{y:.1f} {x:.1f},{y + 6.5:.1f} {x - 6.5:.1f},{y:.1f}"
    return Markup('<polygon class="{}" points="{}" fill="{}"/>').format(kind, points, colour)
