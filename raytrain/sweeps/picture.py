"""The Pareto picture: what each setting gained against what it forgot, as an SVG of its own."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from raytrain.sweeps.leaderboard import Line, SweepLeaderboard
from raytrain.sweeps.sentences import takeaway

_WIDTH, _PLOT_HEIGHT = 900, 440
_LEFT, _RIGHT, _BOTTOM, _PAD = 74, 250, 62, 20
_TITLE_CHARACTERS, _LABEL_CHARACTERS = 92, 38
_BLUE, _GREY, _INK, _RULE = "#1f63d6", "#78818c", "#16191d", "#e2e5e9"
_LEAST_GAP = 15.0  # between two labels


@dataclass(frozen=True, slots=True)
class _Point:
    """A setting on test rows in points: of 100, with the ends of both intervals and the seeds."""

    line: Line
    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    seeds: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps points to pixels; ticks are round numbers."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def draw(board: SweepLeaderboard, *, titled: bool = True) -> Markup:
    """Draws the picture; without a probe there is no second axis, and the picture is empty.

    On a page that says it already, the title is for screen readers alone.
    """
    points = [point for line in board.ranked if (point := _point(line)) is not None]
    if not points:
        return Markup("")
    title = takeaway(board)
    lines = textwrap.wrap(title, _TITLE_CHARACTERS) if titled else []
    top = 46.0 + 22 * len(lines)
    bottom = top + _PLOT_HEIGHT
    x = _scale([value for p in points for value in (*p.x_ends, *(s[0] for s in p.seeds))], _LEFT, _WIDTH - _RIGHT)
    y = _scale([value for p in points for value in (*p.y_ends, *(s[1] for s in p.seeds))], bottom, top)
    parts = [Markup('<rect class="sheet" width="100%" height="100%" fill="#ffffff"/>')]
    parts += [_text(_PAD, 30 + 22 * i, one, size=17, weight=600) for i, one in enumerate(lines)]
    parts += _grid(x, y, top, bottom)
    parts += _front_line(points, x, y)
    parts += [mark for point in sorted(points, key=lambda p: p.line.on_front) for mark in _marks(point, x, y)]
    parts += _labels(points, x, y, top, bottom)
    return _svg(parts, title, bottom + _BOTTOM)


def _point(line: Line) -> _Point | None:
    if line.gained is None or line.kept is None:
        return None
    gained, kept = line.gained, line.kept
    return _Point(
        line,
        -100 * kept.value,
        100 * gained.value,
        (-100 * kept.high, -100 * kept.low),
        (100 * gained.low, 100 * gained.high),
        tuple((-100 * k, 100 * g) for k, g in zip(kept.by_seed, gained.by_seed, strict=True)),
    )


def _scale(values: Sequence[float], start: float, end: float) -> _Scale:
    low, high = min(0.0, *values), max(0.0, *values)
    high = high if high - low > 1e-6 else low + 1
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1e9) if (high - low) / s <= 8)
    first, last = int(low // step), -int(-high // step)
    ticks = tuple(step * n for n in range(first, last + 1))
    return _Scale(ticks[0], ticks[-1], start, end, ticks)


def _grid(x: _Scale, y: _Scale, top: float, bottom: float) -> list[Markup]:
    parts = []
    for tick in x.ticks:
        parts.append(_line(x.at(tick), x.at(tick), top, bottom, _GREY if tick == 0 else _RULE))
        parts.append(_text(x.at(tick), bottom + 18, f"{tick:g}", anchor="middle", fill="#59616b"))
    for tick in y.ticks:
        parts.append(_line(x.start, x.end, y.at(tick), y.at(tick), _GREY if tick == 0 else _RULE))
        parts.append(_text(x.start - 8, y.at(tick) + 4, f"{tick:g}", anchor="end", fill="#59616b"))
    middle = (x.start + x.end) / 2
    parts.append(_text(middle, bottom + 40, "forgotten: points lost on the probes (less is better)", anchor="middle"))
    parts.append(_text(x.start, top - 12, "gained: points on the trained tasks (more is better)"))
    return parts


def _front_line(points: Sequence[_Point], x: _Scale, y: _Scale) -> list[Markup]:
    front = sorted((p for p in points if p.line.on_front), key=lambda p: (p.x, p.y))
    if len(front) < 2:
        return []
    path = " ".join(f"{x.at(p.x):.1f},{y.at(p.y):.1f}" for p in front)
    return [
        Markup('<polyline class="front" points="{}" fill="none" stroke="{}" stroke-dasharray="4 4"/>').format(
            path, _BLUE
        )
    ]


def _marks(point: _Point, x: _Scale, y: _Scale) -> list[Markup]:
    """Draws the mean with both intervals and, with several seeds, a dot for each."""
    colour = _INK if point.line.number == 0 else _BLUE if point.line.on_front else _GREY
    at_x, at_y = x.at(point.x), y.at(point.y)
    parts = [
        _line(x.at(point.x_ends[0]), x.at(point.x_ends[1]), at_y, at_y, colour, opacity=0.35),
        _line(at_x, at_x, y.at(point.y_ends[0]), y.at(point.y_ends[1]), colour, opacity=0.35),
    ]
    if len(point.seeds) > 1:
        parts += [_circle(x.at(one), y.at(other), 2.5, colour, opacity=0.5) for one, other in point.seeds]
    if point.line.number == 0:
        ring = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="6.5" fill="#ffffff" stroke="{}" stroke-width="2.5"/>')
        parts.append(ring.format(at_x, at_y, colour))
    else:
        parts.append(_circle(at_x, at_y, 5.5, colour))
    return parts


def _labels(points: Sequence[_Point], x: _Scale, y: _Scale, top: float, bottom: float) -> list[Markup]:
    """Names the settings at the right edge, each with a leader line.

    Where there is no room for all, it is the front and the job as written.
    """
    most = int((bottom - top) // _LEAST_GAP)
    some = [p for p in points if p.line.on_front or p.line.number == 0 or len(points) <= most]
    named = sorted(some, key=lambda p: y.at(p.y))
    parts, height = list[Markup](), top
    for place, point in enumerate(named[:most]):
        latest = bottom - _LEAST_GAP * (min(len(named), most) - 1 - place)
        height = min(max(height, y.at(point.y)), latest)
        text = "the job as written" if point.line.number == 0 else point.line.label
        cut = text if len(text) <= _LABEL_CHARACTERS else f"{text[: _LABEL_CHARACTERS - 1]}…"
        parts.append(_line(x.at(point.x) + 8, x.end + 6, y.at(point.y), height, _GREY, opacity=0.5, width=0.7))
        parts.append(_text(x.end + 10, height + 4, cut, size=12))
        height += _LEAST_GAP
    return parts


def _svg(parts: Sequence[Markup], title: str, height: float) -> Markup:
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="pareto" viewBox="0 0 {w} {h:.0f}" role="img"'
        ' aria-label="{title}" font-size="13"'
        ' font-family="Inter, system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">'
        "<title>{title}</title>{body}</svg>"
    ).format(w=_WIDTH, h=height, title=title, body=Markup("").join(parts))


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = _INK, size: int = 13, weight: int = 400
) -> Markup:
    return Markup(
        '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}" font-size="{}" font-weight="{}">{}</text>'
    ).format(x, y, anchor, fill, size, weight, text)


def _line(x1: float, x2: float, y1: float, y2: float, stroke: str, *, opacity: float = 1, width: float = 1.2) -> Markup:
    return Markup(
        '<line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}" opacity="{}"/>'
    ).format(x1, x2, y1, y2, stroke, width, opacity)


def _circle(x: float, y: float, radius: float, fill: str, *, opacity: float = 1) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}" fill-opacity="{}"/>').format(
        x, y, radius, fill, opacity
    )
