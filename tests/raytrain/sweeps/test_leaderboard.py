"""What a leaderboard says of runs in storage: ranks by validation rows, verdicts by test rows."""

import json

import pytest
from markupsafe import escape

from raytrain.sweeps.leaderboard import make_leaderboard
from raytrain.sweeps.page import html, markdown, write_leaderboard
from raytrain.sweeps.picture import draw
from raytrain.sweeps.sentences import sentences, takeaway
from raytrain.sweeps.state import open_state
from raytrain_core.storage import open_store
from tests.support.sweep_runs import score_run, tiny_sweep

ROWS = 60
SPEC = "  parameters:\n    training.anchor: {values: [1, 2]}"


def share(right, rows=ROWS):
    return [int(i < right) for i in range(rows)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


def board_of(folder, tmp_path, results, spec=SPEC, rows=ROWS, **cards):
    """Makes the leaderboard of runs that got so many of `rows` of echo, stars and first right."""
    plan, store = tiny_sweep(folder, spec), open_store(str(tmp_path))
    state = open_state(store, plan)
    for run in state.runs:
        if (found := results.get(run.name)) is None:
            continue
        if isinstance(found, str):
            run.state, run.reason = "failed", found
            continue
        echo, stars, first = found
        before = (share(10, rows), share(10, rows), share(50, rows))
        after = (share(echo, rows), share(stars, rows), share(first, rows))
        scores = dict(zip(("echo", "stars", "first"), zip(before, after, strict=True), strict=True))
        score_run(store, run.name, scores, **cards.get(run.name.replace("-", "_"), {}))
        run.state = "complete"
    return make_leaderboard(plan, state, lambda name: store, storage=store.uri)


def test_the_best_is_better_only_where_test_rows_show_it(folder, tmp_path):
    board = board_of(folder, tmp_path, {"guards-0": (20, 20, 40), "guards-1": (50, 50, 40), "guards-2": (21, 20, 10)})
    assert [line.number for line in board.lines] == [1, 2, 0]
    best = board.lines[0]
    assert best.against.gained.verdict == "better"
    assert best.against.gained.difference.value == pytest.approx(0.5)
    assert takeaway(board).startswith("Better than the job as written: anchor 1 (+50.0 [+")
    forgot = board.lines[1]
    assert forgot.against.gained.verdict == "not shown"
    assert forgot.against.kept.verdict == "worse"
    assert "1 gained more, 1 forgot more" in " ".join(sentences(board))


def test_a_best_that_could_be_chance_is_said_not_to_be_better(folder, tmp_path):
    board = board_of(folder, tmp_path, {"guards-0": (20, 20, 40), "guards-1": (22, 20, 40), "guards-2": (19, 20, 40)})
    assert board.lines[0].number == 1
    assert takeaway(board).startswith("The best setting is not shown to be better than the job as written: anchor 1")
    assert "p " in takeaway(board)
    assert "none differs from the job as written by more than chance" in " ".join(sentences(board))


def test_the_job_as_written_can_be_the_best(folder, tmp_path):
    board = board_of(folder, tmp_path, {"guards-0": (50, 50, 40), "guards-1": (22, 20, 40), "guards-2": (19, 20, 40)})
    assert takeaway(board) == "No setting is ahead of the job as written."


def test_few_rows_show_nothing(folder, tmp_path):
    results = {"guards-0": (0, 0, 5), "guards-1": (5, 5, 5), "guards-2": (0, 0, 5)}
    board = board_of(folder, tmp_path, results, rows=5)
    assert board.lines[0].against.gained.verdict == "too few rows"
    assert takeaway(board).startswith("The best setting is not shown to be better")


def test_a_failed_run_is_a_line_with_its_reason(folder, tmp_path):
    results = {"guards-0": (20, 20, 40), "guards-1": "the loss is not a number", "guards-2": (50, 50, 40)}
    board = board_of(folder, tmp_path, results)
    assert board.lines[-1].problem == "the loss is not a number"
    assert [line.number for line in board.ranked] == [2, 0]
    assert "Not ranked: 1 setting, with the reason in the table." in sentences(board)
    assert "the loss is not a number" in markdown(board)
    assert "the loss is not a number" in html(board)


def test_without_the_job_as_written_nothing_is_called_better(folder, tmp_path):
    board = board_of(folder, tmp_path, {"guards-0": "boom", "guards-1": (50, 50, 40), "guards-2": (20, 20, 40)})
    assert "it is not known whether a setting is better" in takeaway(board)


def test_unfinished_runs_are_counted_and_said(folder, tmp_path):
    board = board_of(folder, tmp_path, {"guards-0": (20, 20, 40)})
    assert board.waiting == 2
    assert board.lines[-1].problem == "not finished"
    assert "2 runs not finished: this is not the last word." in sentences(board)


def test_other_rows_are_not_compared(folder, tmp_path):
    results = {"guards-0": (20, 20, 40), "guards-1": (50, 50, 40), "guards-2": (20, 20, 40)}
    board = board_of(folder, tmp_path, results, guards_1={"rows_digest": "other"})
    assert board.lines[-1].number == 1
    assert board.lines[-1].problem.startswith("not comparable with the job as written: echo: other rows")


def test_seeds_are_averaged_and_have_to_agree(folder, tmp_path):
    spec = "  seeds: [1, 2]\n  parameters:\n    training.anchor: {values: [1, 2]}"
    results = {
        "guards-0-1": (20, 20, 40),
        "guards-0-2": (20, 20, 40),
        "guards-1-1": (60, 60, 40),
        "guards-1-2": (19, 19, 40),
        "guards-2-1": (50, 50, 40),
        "guards-2-2": (40, 40, 40),
    }
    board = board_of(folder, tmp_path, results, spec)
    lines = {line.number: line for line in board.lines}
    assert lines[1].against.gained.difference.by_seed == pytest.approx((2 / 3, -1 / 60))
    assert lines[1].against.gained.p < 0.05
    assert lines[1].against.gained.verdict == "not shown"
    assert lines[2].against.gained.verdict == "better"
    assert lines[2].runs == ("guards-2-1", "guards-2-2")


def test_a_setting_counts_when_all_its_seeds_have_ended(folder, tmp_path):
    spec = "  seeds: [1, 2]\n  parameters:\n    training.anchor: {values: [1]}"
    results = {"guards-0-1": (20, 20, 40), "guards-0-2": (20, 20, 40), "guards-1-1": (60, 60, 40), "guards-1-2": "boom"}
    assert board_of(folder, tmp_path, results, spec).lines[-1].problem == "boom"


def test_the_objective_decides_what_is_best(folder, tmp_path):
    results = {"guards-0": (20, 20, 40), "guards-1": (50, 50, 5), "guards-2": (20, 20, 50)}
    best = {}
    for objective in ("gained", "forgotten", "gained-minus-forgotten", "pareto"):
        spec = f"  objective: {objective}\n  parameters:\n    training.anchor: {{values: [1, 2]}}"
        board = board_of(folder, tmp_path / objective, results, spec)
        best[objective] = board.lines[0].number
        assert {line.number for line in board.lines if line.on_front} == {1, 2}
    assert best == {"gained": 1, "forgotten": 2, "gained-minus-forgotten": 2, "pareto": 1}


def test_page_picture_and_json_are_stored(folder, tmp_path):
    results = {"guards-0": (20, 20, 40), "guards-1": (50, 50, 20), "guards-2": (30, 20, 45)}
    board = board_of(folder, tmp_path, results)
    store = open_store(str(tmp_path))
    write_leaderboard(store, board)
    picture = store.get("sweeps/guards/leaderboard.svg").decode()
    assert picture == str(draw(board))
    assert f"<title>{escape(takeaway(board))}</title>" in picture
    assert "the job as written" in picture
    body = json.loads(store.get("sweeps/guards/leaderboard.json"))
    assert body["takeaway"] == takeaway(board)
    assert [line["number"] for line in body["lines"]] == [1, 2, 0]
    assert picture[:40] in store.get("sweeps/guards/leaderboard.html").decode()
    assert "| 1 | anchor 1 | guards-1 |" in store.get("sweeps/guards/leaderboard.md").decode()
