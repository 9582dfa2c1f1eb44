"""Formats sweeps as text for a terminal."""

import textwrap
from typing import TYPE_CHECKING, Any

from raytrain.cli.output import columns

if TYPE_CHECKING:
    from raytrain.sweeps.leaderboard import SweepLeaderboard
    from raytrain.sweeps.plan import SweepPlan

_LINE = 110


def leaderboard(found: "SweepLeaderboard") -> str:
    """Formats the takeaway, how to read it, and a line for each setting."""
    from raytrain.sweeps.page import cells
    from raytrain.sweeps.sentences import sentences, takeaway

    rows = [
        ("", "run", "setting", "gained, forgotten", "gained (test)", "forgotten (test)", "gained, against as written")
    ]
    notes = []
    for line in found.lines:
        place, label, name, validation, gained, forgotten, against, _ = cells(found, line)
        rows.append((place, name, label, "not ranked" if line.problem else validation, gained, forgotten, against))
        notes += [f"{name} ({label}): {line.problem}"] if line.problem else []
    said = [textwrap.fill(text, _LINE) for text in (takeaway(found), *sentences(found))]
    return "\n".join([said[0], "", columns(rows, right=(0,)), "", *said[1:], *notes])


def plan(found: "SweepPlan") -> str:
    """Formats the runs that a sweep would have."""
    settings, merged = found.settings()
    rows = [("run", "setting")]
    rows += [(found.run_name(one, seed), one.label) for one in settings for seed in found.seeds]
    lines = [columns(rows), "", *merged]
    if found.searches:
        lines.append(f"and {found.spec.samples} settings that depend on results")
    return "\n".join([*lines, f"{_total(found)} runs; everything checked, nothing was started"])


def plan_as_json(found: "SweepPlan") -> dict[str, Any]:
    """Returns the runs that a sweep would have as plain data."""
    settings, merged = found.settings()
    return {
        "sweep": found.name,
        "settings": [
            {"number": one.number, "chosen": dict(one.chosen), "runs": [found.run_name(one, s) for s in found.seeds]}
            for one in settings
        ],
        "merged": merged,
        "runs": _total(found),
    }


def _total(found: "SweepPlan") -> int:
    settings = len(found.settings()[0]) + ((found.spec.samples or 0) if found.searches else 0)
    return settings * len(found.seeds)
