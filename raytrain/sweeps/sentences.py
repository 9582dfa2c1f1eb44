"""Says in sentences what a sweep found, and what it did not."""

from raytrain.report.formatting import format_count, format_interval, format_score, join_names
from raytrain.sweeps.differences import MeanDifference
from raytrain.sweeps.leaderboard import Against, Line, SweepLeaderboard

OBJECTIVES = {
    "gained": "the mean gain of the trained tasks",
    "forgotten": "the least loss of the probes",
    "gained-minus-forgotten": "gained minus forgotten",
    "pareto": "gained and forgotten, neither before the other",
}


def takeaway(board: SweepLeaderboard) -> str:
    """Says whether a setting is better than the job as written, which rests on test rows."""
    if not board.ranked:
        return "No setting can be ranked."
    if board.as_written is None:
        return "The job as written has no result, so it is not known whether a setting is better."
    if len(board.ranked) == 1:
        return "Only the job as written has a result."
    best = board.ranked[0]
    if best.number == 0:
        return f"No setting is ahead of the job as written{_others_better(board)}."
    verdict = best.against.objective
    if verdict is None or verdict.verdict != "better":
        return f"The best setting is not shown to be better than the job as written: {best.label}{_by(verdict)}."
    return f"Better than the job as written: {best.label}{_by(verdict)}."


def sentences(board: SweepLeaderboard) -> list[str]:
    """Returns how to read the leaderboard, and its caveats."""
    seeds = "one seed" if board.seeds == 1 else f"{board.seeds} seeds"
    found = [
        f"Settings are ranked on validation rows by {OBJECTIVES[board.objective]}; everything else is on test rows, "
        f"which nothing was chosen by. {seeds[0].upper()}{seeds[1:]} each.",
        _noticed(board),
        _front(board),
    ]
    if board.seeds == 1:
        found.append("With one seed it is not known how much of a difference is the luck of the seed.")
    if not board.probes:
        found.append("The job has no probe that no run trains, so what was forgotten is not known.")
    unranked = [line for line in board.lines if line.problem]
    if unranked:
        found.append(f"Not ranked: {format_count(len(unranked), 'setting')}, with the reason in the table.")
    if board.waiting:
        found.append(f"{format_count(board.waiting, 'run')} not finished: this is not the last word.")
    return [sentence for sentence in [*found, *board.notes] if sentence]


def change_text(difference: MeanDifference | None, *, sign: int = 1) -> str:
    """Formats a change in points with its interval: `+3.1 [+1.0, +5.2]`."""
    if difference is None:
        return "–"
    low, high = sorted((sign * difference.low, sign * difference.high))
    return f"{format_score(sign * difference.value, sign=True)} {format_interval(low, high, 'percent', sign=True)}"


def against_text(against: Against | None, *, sign: int = 1) -> str:
    """Formats a comparison with the job as written, and its verdict."""
    return "–" if against is None else f"{change_text(against.difference, sign=sign)}, {against.verdict}"


def _by(against: Against | None) -> str:
    if against is None:
        return ""
    p = "" if against.p is None else f", {_p(against.p)} after Holm's correction"
    disagree = "" if against.difference.seeds_agree else ", and the seeds disagree"
    return f" ({change_text(against.difference)} points on test rows{p}{disagree})"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _others_better(board: SweepLeaderboard) -> str:
    better = [line for line in board.ranked if line.against.objective and line.against.objective.verdict == "better"]
    if not better:
        return ""
    return f" on validation rows; on test rows {join_names([line.label for line in better], 3)} would be"


def _noticed(board: SweepLeaderboard) -> str:
    """Says how many settings gained more or less, and forgot more or less, than the job itself."""
    compared = [line.against for line in board.ranked if line.number != 0]
    counted = [
        ("gained more", sum(one.gained is not None and one.gained.verdict == "better" for one in compared)),
        ("gained less", sum(one.gained is not None and one.gained.verdict == "worse" for one in compared)),
        ("forgot less", sum(one.kept is not None and one.kept.verdict == "better" for one in compared)),
        ("forgot more", sum(one.kept is not None and one.kept.verdict == "worse" for one in compared)),
    ]
    parts = [f"{count} {words}" for words, count in counted if count]
    if not compared:
        return ""
    if not parts:
        return f"Of {format_count(len(compared), 'setting')}, none differs from the job as written by more than chance."
    return f"Of {format_count(len(compared), 'setting')}, compared with the job as written: {', '.join(parts)}."


def _front(board: SweepLeaderboard) -> str:
    front: list[Line] = [line for line in board.ranked if line.on_front]
    if not board.probes or len(board.ranked) < 2:
        return ""
    return f"No other setting gained more without forgetting more: {join_names([one.label for one in front], 6)}."
