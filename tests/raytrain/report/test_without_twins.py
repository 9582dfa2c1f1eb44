"""The score without the rows that training rows repeat: from stored answers, beside the score."""

import numpy as np
import pytest

from raytrain.evaluation.metrics import METRICS
from raytrain.report import gather, render_html
from raytrain.report.caveats import caveats
from raytrain.report.markdown import render_markdown
from raytrain.report.stored import read_run
from raytrain.report.verdicts import flags

TWINS = {
    "dialogues": [f"dialogues-{i:04d}" for i in range(37)],
    "reviews": ["reviews-0003"],
    "entities": [f"entities-{i:04d}" for i in range(60)],
    "code": [],
    "questions": ["a row that was not scored"],
}


ELSEWHERE = {
    "spanish": {"dialogues": [f"spanish-{i:04d}" for i in range(5)], "code": ["spanish-0004", "not scored"]},
    "code": {"reviews": ["not scored"]},
}


@pytest.fixture(scope="module")
def run(make_run, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("twins"), near_twins=TWINS, twins_elsewhere=ELSEWHERE)


@pytest.fixture(scope="module")
def data(run):
    return gather(run.store, run.layout)


def found(data, name):
    return next(task for task in data.tasks if task.name == name).without_twins


def test_scores_without_twins_are_those_of_the_other_rows(run, data):
    stages = read_run(run.store, run.layout).stages
    one = found(data, "dialogues")
    assert (one.rows, one.of) == (37, 60)
    for stage, score in (("before", one.before), ("after", one.after)):
        found_in = stages[stage]["dialogues"]
        others = np.array([a.stats for a in found_in.answers if a.id not in TWINS["dialogues"]])
        assert len(others) == 23
        assert score.value == METRICS[found_in.card.primary_metric].score(others)
        assert score.low < score.value < score.high


def test_it_is_said_beside_the_score(data):
    assert any("except for those listed below" in sentence for sentence in data.summary.sentences)
    one = found(data, "dialogues")
    after, before = (f"{100 * score.value:.1f}" for score in (one.after, one.before))
    said = (
        f"Of 60 test rows 37 have a near-twin in training; without them ROUGE-L is {after} (before training {before})."
    )
    assert one.sentence == said
    assert f"dialogues: {said}" in caveats(data.tasks)
    assert [w for w in data.summary.warnings if w.startswith("dialogues: ")] == [f"dialogues: {said}"], "once"
    html, markdown = render_html(data), render_markdown(data)
    assert html.count('<th scope="row">Without near-twins</th>') == 4
    assert said in html
    assert [flags(task) for task in data.tasks if task.name in ("dialogues", "reviews")] == [["near-twins"]] * 2
    assert [flags(task) for task in data.tasks if task.name == "code"] == [[]]
    assert f"ROUGE-L without near-twins | {said} | {before} \\[" in markdown


def test_one_row_and_every_row(data):
    assert found(data, "reviews").sentence.startswith("Of 60 test rows 1 has a near-twin in training; without them")
    every = found(data, "entities")
    assert (every.rows, every.before, every.after) == (60, None, None)
    assert every.sentence == "Of 60 test rows 60 have a near-twin in training; none is without."


def test_nothing_is_said_where_no_scored_row_has_a_twin(data):
    assert [found(data, name) for name in ("code", "questions")] == [None, None]


def test_rows_that_another_task_trains_on_are_left_out_and_the_tasks_named(data):
    one = found(data, "spanish")
    assert (one.rows, one.of) == (5, 60)
    assert one.sentence.startswith(
        "Of 60 test rows 5 have a near-twin in training (5 in dialogues and 1 in code); without them "
    )
    assert (
        "spanish: 5 of 60 test rows have a near-twin in the training rows of dialogues, equal inputs included."
        in data.data.leakage
    )


def test_the_data_section_says_how_many_rows_of_a_split_have_twins(data):
    assert "dialogues: 37 of 60 test rows have a near-twin in training, equal inputs included." in data.data.leakage
    assert not [sentence for sentence in data.data.leakage if sentence.startswith("code: 0")]
