"""Writes the tables and figures of docs/explanation/forgetting.md from stored results.

    python -m examples.forgetting.page

There is one table and one picture for each world, and a table of the sweep over guards, whose
picture is the sweep's own. Only the text between `<!-- WORLD -->` and
`<!-- end -->` is generated.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from markupsafe import Markup

from examples.forgetting.runs import HERE

ROOT = Path(__file__).parents[2]
RESULTS, WORLDS = HERE / "results", ("quickstart", "real")
PAGE, IMAGES = ROOT / "docs/explanation/forgetting.md", ROOT / "docs/images"

GUARDS, GUARDS_PICTURE = RESULTS / "guards.json", IMAGES / "guards.svg"

LABELS = {
    "alone": "one task",
    "alone-replay": "one task + replay",
    "alone-anchor": "one task + anchor",
    "mixture": "four tasks",
    "mixture-replay": "four tasks + replay",
    "mixture-anchor": "four tasks + anchor",
}
COLUMNS: dict[str, tuple[str, ...]] = {
    "summaries": ("summaries",),
    "the other three": ("reviews", "news", "functions"),
    "questions (kept?)": ("questions",),
    "Spanish (kept?)": ("spanish",),
}
"""The tasks that each column averages.

The base model was pre-trained on the last two, and no cell trains on them.
"""
_LEFT, _TOP, _PANEL, _GAP, _ROW = 170, 58, 160, 40, 34
_COLOURS = {"alone": "#b84a0c", "mixture": "#1f63d6"}

Runs = Sequence[dict[str, Any]]


def values(runs: Runs, cell: str, tasks: Sequence[str], stage: str = "after") -> list[float]:
    """Returns the mean primary metric of these tasks, times 100, for each seed."""
    return [100 * mean(run["tasks"][task][stage] for task in tasks) for run in runs if run["cell"] == cell]


def table(runs: Runs) -> str:
    """Returns a Markdown table with the mean, the smallest and the largest value over the seeds."""
    seeds = sorted({run["seed"] for run in runs})
    before = [mean(values(runs, runs[0]["cell"], tasks, "before")) for tasks in COLUMNS.values()]
    lines = [
        f"| {len(seeds)} seeds | " + " | ".join(COLUMNS) + " |",
        "| --- |" + " ---: |" * len(COLUMNS),
        "| base model | " + " | ".join(f"{value:.1f}" for value in before) + " |",
    ]
    for cell, label in LABELS.items():
        found = [values(runs, cell, tasks) for tasks in COLUMNS.values()]
        if all(found):
            spans = [f"{mean(column):.1f} ({min(column):.1f} to {max(column):.1f})" for column in found]
            lines.append(f"| {label} | " + " | ".join(spans) + " |")
    return "\n".join(lines)


def picture(runs: Runs, title: str) -> str:
    """Returns an SVG with a panel for each column, a row for each cell and a dot for each seed.

    The dashed line is the base model.
    """
    cells = [cell for cell in LABELS if any(run["cell"] == cell for run in runs)]
    width, height = _LEFT + len(COLUMNS) * (_PANEL + _GAP), _TOP + _ROW * len(cells) + 34
    parts = [Markup('<rect width="100%" height="100%" fill="#ffffff"/>')]
    for row, cell in enumerate(cells):
        parts.append(_text(16, _TOP + _ROW * (row + 0.5) + 4, LABELS[cell]))
    for column, (name, tasks) in enumerate(COLUMNS.items()):
        left = _LEFT + column * (_PANEL + _GAP)
        bottom = _TOP + _ROW * len(cells)
        parts.append(_text(left, 26, name, weight=600))
        for tick in (0, 50, 100):
            x = left + _PANEL * tick / 100
            parts.append(_rule(x, x, _TOP, bottom, "#e2e5e9"))
            parts.append(_text(x, bottom + 18, str(tick), anchor="middle", fill="#59616b"))
        base = left + _PANEL * mean(values(runs, cells[0], tasks, "before")) / 100
        parts.append(_rule(base, base, _TOP - 6, bottom, "#16191d", dash="3 3"))
        parts.append(_text(base, _TOP - 12, "before", anchor="middle", fill="#59616b"))
        for row, cell in enumerate(cells):
            colour, y = _COLOURS[cell.split("-")[0]], _TOP + _ROW * (row + 0.5)
            found = [left + _PANEL * value / 100 for value in values(runs, cell, tasks)]
            parts.append(_rule(base, mean(found), y, y, colour))
            parts += [
                Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" fill="{}" fill-opacity="0.75"/>').format(x, y, colour)
                for x in found
            ]
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" role="img" aria-label="{title}" '
            'font-family="Inter, system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif" '
            'font-size="13"><title>{title}</title>{body}</svg>\n'
        ).format(w=width, h=height, title=title, body=Markup("").join(parts))
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#16191d", weight: int = 400) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}" font-weight="{}">{}</text>').format(
        x, y, anchor, fill, weight, text
    )


def _rule(x1: float, x2: float, y1: float, y2: float, colour: str, *, dash: str = "none") -> Markup:
    return Markup(
        '<line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="1.4" stroke-dasharray="{}"/>'
    ).format(x1, x2, y1, y2, colour, dash)


def runs_of(world: str) -> Runs:
    """Returns the results of a world, or none if it has not run yet."""
    path = RESULTS / f"{world}.json"
    found: Runs = json.loads(path.read_text())["runs"] if path.exists() else []
    return found


def guards_table(board: dict[str, Any]) -> str:
    """Returns a Markdown table of the sweep over guards, best first, in points of 100."""
    lines = ["| setting | gained | forgotten | gained vs as written | forgotten vs as written |"]
    lines.append("| --- |" + " ---: |" * 4)
    for line in board["lines"]:
        against = line["against"]
        cells = [_points(line["gained"]), _points(line["kept"], -1)]
        cells += [_against(against["gained"]), _against(against["kept"], -1)]
        lines.append(
            f"| {line['label']} | " + " | ".join([line["problem"], "", "", ""] if line["problem"] else cells) + " |"
        )
    return "\n".join(lines)


def _points(found: dict[str, Any], sign: int = 1) -> str:
    values = [100 * sign * value for value in found["by_seed"]]
    return f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _against(found: dict[str, Any] | None, sign: int = 1) -> str:
    if found is None:
        return "–"
    ends = sorted(100 * sign * found["difference"][end] for end in ("low", "high"))
    return f"{100 * sign * found['difference']['value']:+.1f} [{ends[0]:+.1f}, {ends[1]:+.1f}]"


def filled(page: str) -> str:
    """Returns the page with its tables replaced by those of the current results."""
    tables = {world: table(runs) for world in WORLDS if (runs := runs_of(world))}
    if GUARDS.exists():
        tables["guards"] = guards_table(json.loads(GUARDS.read_text()))
    for name, text in tables.items():
        head, _, rest = page.partition(f"<!-- {name} -->")
        tail = rest.partition("<!-- end -->")[2]
        page = f"{head}<!-- {name} -->\n\n{text}\n\n<!-- end -->{tail}"
    return page


def pictures() -> dict[Path, str]:
    """Returns every picture by its path."""
    titles = {
        "quickstart": "Generated tasks: what was learned and kept",
        "real": "Public sets: what was learned and kept",
    }
    return {
        IMAGES / f"forgetting-{world}.svg": picture(runs, titles[world]) for world in WORLDS if (runs := runs_of(world))
    }


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
    for path, svg in pictures().items():
        path.write_text(svg)
