"""Writes the leaderboard of a sweep: a page, a picture, Markdown and JSON."""

import json
from dataclasses import asdict

from raytrain.report.formatting import format_score
from raytrain.report.html import render_page
from raytrain.report.markdown_text import escape, table
from raytrain.sweeps.leaderboard import Line, SweepLeaderboard
from raytrain.sweeps.picture import draw
from raytrain.sweeps.sentences import OBJECTIVES, against_text, change_text, sentences, takeaway
from raytrain.sweeps.state import SweepLayout
from raytrain_core.storage import Store

HEADS = ("", "setting", "run", "validation", "gained", "forgotten", "gained vs as written",
         "forgotten vs as written")  # fmt: skip


def write_leaderboard(store: Store, board: SweepLeaderboard) -> None:
    """Stores leaderboard.html, .svg, .md and .json of the sweep; without a picture no .svg."""
    layout = SweepLayout(board.name)
    picture = draw(board)
    if picture:
        store.put(layout.leaderboard("svg"), str(picture).encode())
    store.put(layout.leaderboard("md"), markdown(board).encode())
    store.put(layout.leaderboard("json"), as_json(board).encode())
    store.put(layout.leaderboard("html"), html(board).encode())


def as_json(board: SweepLeaderboard) -> str:
    """Returns the leaderboard as JSON; shares are fractions."""
    body = {"takeaway": takeaway(board), "sentences": sentences(board), **asdict(board)}
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def markdown(board: SweepLeaderboard) -> str:
    """Renders the leaderboard for a pull request."""
    rows = [[escape(cell) for cell in cells(board, line)] for line in board.lines]
    parts = [f"# {escape(takeaway(board))}", *(escape(sentence) for sentence in sentences(board))]
    parts.append(table([head or "place" for head in HEADS], rows, numbers_from=3))
    return "\n\n".join(parts) + "\n"


def html(board: SweepLeaderboard) -> str:
    """Renders the leaderboard as a self-contained page."""
    return render_page(
        "sweep.html.j2",
        scripts=("theme.js",),
        board=board,
        headline=takeaway(board),
        sentences=sentences(board),
        picture=draw(board, titled=False),
        heads=HEADS,
        rows=[(line, cells(board, line)) for line in board.lines],
        objective=OBJECTIVES[board.objective],
    )


def cells(board: SweepLeaderboard, line: Line) -> list[str]:
    """Returns the cells of a line, in the order of `HEADS`; of an unranked one, the reason."""
    name = line.runs[0] if len(line.runs) == 1 else f"{line.runs[0]} and {len(line.runs) - 1} more"
    if line.problem or line.validation is None:
        return ["", line.label, name, line.problem, "", "", "", ""]
    place = str(1 + [one.number for one in board.ranked].index(line.number))
    validation = format_score(line.validation.gained, sign=True)
    if line.validation.forgotten is not None:
        validation += f", {format_score(line.validation.forgotten, sign=True)}"
    return [
        place,
        line.label,
        name,
        validation,
        change_text(line.gained),
        change_text(line.kept, sign=-1),
        against_text(line.against.gained),
        against_text(line.against.kept, sign=-1),
    ]
