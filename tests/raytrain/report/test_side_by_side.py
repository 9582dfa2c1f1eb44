import xml.etree.ElementTree as ET

import pytest

from raytrain.evaluation.results import ScoreCard
from raytrain.report import gather
from raytrain.report.comparison import ComparedRun
from raytrain.report.side_by_side import render_side_by_side

PROBES = ("questions", "spanish")


@pytest.fixture(scope="module")
def runs(make_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    skill = {"dialogues": (0.1, 0.8), "reviews": (0.5, 0.95), "questions": (0.85, 0.8)}
    forgetful = skill | {"reviews": (0.5, 0.1), "questions": (0.85, 0.05)}
    alone = make_run(folder, name="alone", skill=forgetful, probes=("reviews", *PROBES), rows=40, note="Generated.")
    mixture = make_run(folder, name="mixture", skill=skill, rows=40, note="Generated.")
    return [
        ComparedRun("summaries <alone>", gather(alone.store, alone.layout)),
        ComparedRun("mixture", gather(mixture.store, mixture.layout)),
    ]


@pytest.fixture(scope="module")
def rendered(runs):
    return render_side_by_side(runs)


def test_the_svg_stands_alone(rendered):
    root = ET.fromstring(rendered.svg)
    name = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{name}svg"
    values = [t.text for t in root.iter(f"{name}text") if t.get("class") == "t-value"]
    assert len(values) == 3 * 2
    assert "summaries <alone>" in [t.text for t in root.iter(f"{name}text")]
    # reviews and questions were not trained on by the first run, questions not by the second
    assert len(list(root.iter(f"{name}polygon"))) == 3


def test_the_picture_is_titled_by_its_takeaway(rendered):
    takeaway = "“summaries <alone>” forgot 2 of 2 skills that it did not train, “mixture” none of 1."
    root = ET.fromstring(rendered.svg)
    name = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{name}title").text == takeaway
    assert " ".join(t.text for t in root.iter(f"{name}text") if t.get("class") == "t-title") == takeaway
    assert "“mixture” none of 1.</h1>" in rendered.html


def test_the_page_says_what_each_run_forgot(rendered):
    assert "summaries &lt;alone&gt;" in rendered.html
    assert "<alone>" not in rendered.html
    assert "questions: mostly forgotten" in rendered.html
    assert rendered.html.count("Generated.") == 1
    assert "default-src &#39;none&#39;" in rendered.html


def test_the_table_marks_who_trained_on_what(rendered):
    rows = {line.split("|")[1].strip(): line for line in rendered.markdown.splitlines() if line.startswith("| **")}
    assert rows["**reviews**"].count("·") == 1
    assert rows["**dialogues**"].count("·") == 2
    assert rows["**questions** (probe)"].count("·") == 0


def test_probes_come_last(rendered):
    order = [line.split("|")[1].strip() for line in rendered.markdown.splitlines() if line.startswith("| **")]
    assert order == ["**dialogues**", "**reviews**", "**questions** (probe)"]


def test_a_task_with_two_metrics_has_a_line_for_each(runs):
    first, second = runs
    task = next(t for t in second.data.tasks if t.name == "dialogues")
    raw = task.primary_metric.model_copy(update={"name": "mae", "label": "mean error", "scale": "raw"})
    tasks = [t.model_copy(update={"primary_metric": raw}) if t is task else t for t in second.data.tasks]
    other = ComparedRun("other", second.data.model_copy(update={"tasks": tasks}))
    rendered = render_side_by_side([first, other])
    rows = [line.split("|")[1:] for line in rendered.markdown.splitlines() if line.startswith("| **dialogues")]
    assert [row[1].strip() for row in rows] == [task.primary_metric.label, "mean error"]
    assert [[cell.strip()[:1] == "–" for cell in row[3:5]] for row in rows] == [[False, True], [True, False]]


def test_runs_scored_on_other_rows_or_with_other_limits_share_no_picture(runs, make_card):
    first, second = (
        ComparedRun(run.label, run.data, cards={"reviews": make_card(limit)})
        for run, limit in zip(runs, (160, 512), strict=True)
    )
    with pytest.raises(ValueError, match="reviews of mixture and summaries <alone>: max input tokens: 160 and 512"):
        render_side_by_side([first, second])
    render_side_by_side([first, ComparedRun("mixture", second.data, cards={"reviews": make_card(160)})])
    third = ComparedRun("third", first.data)  # it was not scored on the task in which the others differ
    with pytest.raises(ValueError, match="reviews of mixture and summaries <alone>: max input tokens: 160 and 512"):
        render_side_by_side([third, first, second])


@pytest.fixture
def make_card():
    def card(limit):
        model = {"kind": "run", "uri": "x", "digest": "x"}
        return ScoreCard(
            "after",
            "reviews",
            "rating",
            False,
            "test",
            1,
            model,
            10,
            10,
            "accuracy",
            rows_digest="the same",
            protocol={"max_input_tokens": limit},
        )

    return card


def test_runs_of_different_models_are_not_compared(runs):
    other = ComparedRun("other", runs[1].data.model_copy(update={"model_digest": "00" * 32, "model": "another"}))
    with pytest.raises(ValueError, match="different models"):
        render_side_by_side([runs[0], other])
    with pytest.raises(ValueError, match="no runs"):
        render_side_by_side([])
