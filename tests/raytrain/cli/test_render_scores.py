"""Scores as commands print them: in the unit of the report, with what could not be read."""

from raytrain.cli import render
from raytrain.cluster.jobs import ClusterStatus
from raytrain.evaluation.evaluate_model import ModelScores
from raytrain.evaluation.results import MetricScore, ScoreCard
from raytrain.report.formatting import format_score


def card(task, name, score, **other):
    return ScoreCard(
        "test", task, "rating", False, "test", 0, {}, rows=200, scored=200, primary_metric=name,
        metrics={name: score, **other},
    )  # fmt: skip


def test_evaluate_prints_0_to_100_and_the_share_of_unparsable_answers():
    cards = (
        card(
            "reviews",
            "accuracy",
            MetricScore(0.985, 0.9612, 1.0, "higher", unparsable=0.015),
            mae=MetricScore(0.03, 0.0, 0.1, "lower", "raw"),
        ),
        card("notes", "rougeL", MetricScore(0.3, 0.25, 0.35, "higher")),
    )
    lines = render.evaluated(ModelScores("m", "m-1", "file:///s", "test", cards)).splitlines()
    assert lines[2:] == [
        "task     metric    score  95 % interval  unparsable  rows  best baseline",
        "reviews  accuracy   98.5  96.1 to 100.0       1.5 %   200  -",
        "notes    rougeL     30.0  25.0 to 35.0            -   200  -",
        "",
        "reviews: mae 0.03",
    ]


def test_commands_and_report_write_the_same_number():
    for value, scale in ((0.985, "percent"), (0.0, "percent"), (1.234, "raw")):
        assert render.score(value, scale) == format_score(value, scale)
    assert render.score(None, "percent") == "-"
    assert render.score(-0.27, "raw") == "-0.27"


def test_where_no_browser_opens_the_report_the_command_that_does_is_given():
    def shown(uri):
        fields = dict.fromkeys(("phase", "message", "percent", "workers"), "")
        job = ClusterStatus("small", "team", **fields, step=1, steps=2, eta_seconds=None, loss=None, attempts=[],
                            tasks=[], report=uri)  # fmt: skip
        return [" ".join(line.split()) for line in render.job(job).splitlines() if "report" in line or "watch" in line]

    address = "s3://bucket/runs/small/report.html"
    assert shown(address) == [f"report {address}", "in a browser raytrain watch small -n team --web"]
    assert shown("file:///s/runs/small/report.html") == ["report file:///s/runs/small/report.html"]
    assert shown("") == []
