"""Draws the report's charts as inline SVG.

There is no script and no style attribute; colours come from CSS classes and follow the theme. Dot
rows use percent coordinates and stretch with their cell, curves have a fixed viewBox. `markupsafe`
escapes all text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from raytrain.report.formatting import format_score
from raytrain.report.model import CurvePoint, Interval, LossPoint, Task

WIDTH, HEIGHT = 300, 168
LEFT, RIGHT, TOP, BOTTOM = 30, 46, 12, 24  # margins of a curve: tick labels left, value label right


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from `low` to `high` with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Returns the position of `value` on the axis, clamped to 0..1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


PERCENT = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def axis_for(values: Sequence[float], scale: str) -> Axis:
    """Chooses 0 to 1 for fractions, else a range of round numbers with zero and all values."""
    low = min([0.0, *values])
    if scale == "percent" and low >= 0 and max([0.0, *values]) <= 1:
        return PERCENT
    high = max([1e-9, *values])
    step = 10 ** math.floor(math.log10(high - low))
    step = next(step * m for m in (0.2, 0.5, 1, 2) if (high - low) / (step * m) <= 5.0001)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(i * step for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def task_axis(task: Task) -> Axis:
    """Chooses an axis that fits all values of a task's primary metric."""
    found = [x for x in (task.primary_metric.before, task.primary_metric.after) if x]
    values = [v for x in found for v in (x.value, x.low, x.high) if v is not None]
    values += [b.value for b in task.baselines]
    values += [v for p in task.validation for v in (p.value, p.low, p.high) if v is not None]
    values += [v for w in task.templates for v in (w.before, w.after) if v is not None]
    return axis_for(values, task.primary_metric.scale)


def dots(
    before: Interval | None,
    after: Interval | None,
    axis: Axis,
    *,
    verdict: str,
    label: str,
    baselines: Sequence[tuple[str, float]] = (),
    people: Sequence[tuple[str, float]] = (),
) -> Markup:
    """Draws one row of marks.

    Baselines are ticks, people diamonds, intervals bars, before is a ring and after a disc.
    """

    def x(value: float) -> str:
        return f"{3 + 94 * axis.share(value):.2f}%"

    parts = [Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(x(t)) for t in axis.ticks]
    for name, value in baselines:
        parts.append(
            Markup('<g class="base"><title>{1}</title><line x1="{0}" x2="{0}" y1="7" y2="29"/></g>').format(
                x(value), name
            )
        )
    for name, value in people:  # a nested svg, because a path cannot have percent coordinates
        parts.append(
            Markup(
                '<svg class="people" x="{}" y="18" overflow="visible"><title>{}</title>'
                '<path d="M0 -6.5L6.5 0 0 6.5 -6.5 0z"/></svg>'
            ).format(x(value), name)
        )
    for kind, found in (("before", before), ("after", after)):
        if found and found.low is not None and found.high is not None:
            parts.append(
                Markup('<line class="ci {}" x1="{}" x2="{}" y1="18" y2="18"/>').format(
                    kind, x(found.low), x(found.high)
                )
            )
    if before and after:
        parts.append(
            Markup('<line class="move" x1="{}" x2="{}" y1="18" y2="18"/>').format(x(before.value), x(after.value))
        )
    if before:
        parts.append(Markup('<circle class="before" cx="{}" cy="18" r="4.5"/>').format(x(before.value)))
    if after:
        parts.append(Markup('<circle class="after" cx="{}" cy="18" r="5.5"/>').format(x(after.value)))
    return Markup('<svg class="dots v-{}" width="100%" height="36" role="img" aria-label="{}">{}</svg>').format(
        verdict, label, Markup("").join(parts)
    )


def scale_row(axis: Axis, scale: str) -> Markup:
    """Draws the tick labels of dot rows."""
    parts = [
        Markup('<text x="{:.2f}%" y="12" text-anchor="middle">{}</text>').format(
            3 + 94 * axis.share(t), _tick(t, scale)
        )
        for t in axis.ticks
    ]
    return Markup('<svg class="scale" width="100%" height="16" aria-hidden="true">{}</svg>').format(
        Markup("").join(parts)
    )


def _tick(value: float, scale: str) -> str:
    return f"{value * 100:.0f}" if scale == "percent" else f"{value:g}"


def _count(step: int) -> str:
    return f"{step / 1000:g}k" if step >= 10_000 and step % 100 == 0 else f"{step:,}"


@dataclass(frozen=True, slots=True)
class _Frame:
    axis: Axis
    steps: int

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(self.steps, 1)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - self.axis.share(value))

    def at(self, step: float, value: float) -> tuple[float, float]:
        return self.x(step), self.y(value)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{'L' if i else 'M'}{self.x(s):.1f} {self.y(v):.1f}" for i, (s, v) in enumerate(points))

    def background(self, scale: str) -> Markup:
        """Draws the grid lines, their labels, and the first and last step."""
        parts = []
        for tick in self.axis.ticks:
            parts.append(
                Markup(
                    '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                    '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
                ).format(
                    LEFT, WIDTH - RIGHT, self.y(tick), self.y(tick), LEFT - 6, self.y(tick) + 3.5, _tick(tick, scale)
                )
            )
        parts.append(
            Markup(
                '<text x="{}" y="{}" text-anchor="middle">0</text><text x="{}" y="{}" text-anchor="middle">{}</text>'
            ).format(LEFT, HEIGHT - 6, WIDTH - RIGHT, HEIGHT - 6, f"step {_count(self.steps)}")
        )
        return Markup("").join(parts)


def _svg(label: str, verdict: str, *parts: Markup) -> Markup:
    return Markup('<svg class="curve v-{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        verdict, WIDTH, HEIGHT, label, Markup("").join(parts)
    )


def validation_curve(task: Task, steps: int, chosen: int | None) -> Markup:
    """Draws the validation scores over steps, with the test scores before and after."""
    scale = task.primary_metric.scale
    frame = _Frame(task_axis(task), steps)
    parts = [frame.background(scale)]
    points = task.validation
    band = [p for p in points if p.low is not None and p.high is not None]
    if len(band) > 1:
        around = [(p.step, p.high or 0.0) for p in band] + [(p.step, p.low or 0.0) for p in reversed(band)]
        parts.append(Markup('<path class="band" d="{}Z"/>').format(frame.path(around)))
    if chosen is not None and 0 < chosen <= steps:
        parts.append(
            Markup('<line class="chosen" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
                frame.x(chosen), TOP, HEIGHT - BOTTOM
            )
        )
    if points:
        parts.append(Markup('<path class="line" d="{}"/>').format(frame.path([(p.step, p.value) for p in points])))
        for p in points:
            parts.append(
                _dot("point", frame.at(p.step, p.value), 2.4, f"step {p.step:,}: {format_score(p.value, scale)}")
            )
    before, after = task.primary_metric.before, task.primary_metric.after
    if before:
        parts.append(
            _dot("before", frame.at(0, before.value), 4, f"before, test rows: {format_score(before.value, scale)}")
        )
    if after:
        parts.append(
            _dot(
                "after",
                frame.at(chosen or steps, after.value),
                4.6,
                f"after, test rows: {format_score(after.value, scale)}",
            )
        )
        parts.append(_direct(frame, chosen or steps, after.value, format_score(after.value, scale)))
    known = task.difference is not None and task.difference.verdict != "few"
    verdict = task.difference.verdict if task.difference and known else "unknown"
    return _svg(f"{task.name}: {task.primary_metric.label} over training steps", verdict, *parts)


def overlaid_curves(
    name: str,
    runs: Sequence[tuple[str, Sequence[CurvePoint]]],
    steps: int,
    scale: Literal["percent", "raw"],
    colours: Sequence[str],
) -> Markup:
    """Draws one task's primary metric on validation rows, one line for each run."""
    values = [v for _, points in runs for p in points for v in (p.value, p.low, p.high) if v is not None]
    frame = _Frame(axis_for(values, scale), steps)
    parts = [frame.background(scale)]
    for place, (label, points) in enumerate(runs):
        if not points:
            continue
        line = frame.path([(p.step, p.value) for p in points])
        last = frame.at(points[-1].step, points[-1].value)
        shown = f"{label}: {format_score(points[-1].value, scale)}"
        parts.append(
            Markup(
                '<path d="{}" fill="none" stroke="{}" stroke-width="1.8"><title>{}</title></path>'
                '<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"><title>{}</title></circle>'
            ).format(line, colours[place % len(colours)], label, *last, colours[place % len(colours)], shown)
        )
    return _svg(f"{name} over the training steps of each run", "noise", *parts)


def loss_curve(name: str, points: Sequence[LossPoint], steps: int, axis: Axis) -> Markup:
    """Draws the training loss over steps."""
    frame = _Frame(axis, steps)
    line = Markup('<path class="line" d="{}"/>').format(frame.path([(p.step, p.loss) for p in points]))
    last = _direct(frame, points[-1].step, points[-1].loss, f"{points[-1].loss:.2f}") if points else Markup("")
    return _svg(f"{name}: training loss over training steps", "loss", frame.background("raw"), line, last)


def loss_axis(curves: Sequence[Sequence[LossPoint]]) -> Axis:
    """Chooses a common axis for all loss curves."""
    return axis_for([p.loss for curve in curves for p in curve if math.isfinite(p.loss)], "raw")


def _dot(kind: str, at: tuple[float, float], radius: float, title: str) -> Markup:
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
        kind, *at, radius, title
    )


def _direct(frame: _Frame, step: float, value: float, text: str) -> Markup:
    """Labels a point: to its right at the end of the curve, else above it."""
    x, y = frame.at(step, value)
    ends = step >= frame.steps
    return Markup('<text class="direct" x="{:.1f}" y="{:.1f}"{}>{}</text>').format(
        x + (9 if ends else 0), y + 4 if ends else y - 9, Markup("" if ends else ' text-anchor="middle"'), text
    )


def heat_class(value: float, reference: float, better: str, scale: str) -> str:
    """Returns the CSS class of a heat-map cell: `up1` to `up5` or `down1` to `down5`."""
    gain = value - reference if better == "higher" else reference - value
    size = abs(gain) if scale == "percent" else abs(gain) / max(abs(reference), 1e-9)
    level = next((i for i, edge in enumerate((0.02, 0.06, 0.15, 0.3, 0.5)) if size < edge), 5)
    return "" if level == 0 else f"{'up' if gain > 0 else 'down'}{level}"
