"""The review by people: a blinded page, and its choices read back as a metric."""

import json
import re

import pytest

from raytrain.report import add_choices, gather, render_html, render_markdown, review_page
from raytrain.report.review import choose_rows
from raytrain.report.stored import read_run
from raytrain_core.errors import DataError, UsageError


@pytest.fixture
def run(make_run, tmp_path):
    return make_run(tmp_path / "storage", rows=20)


def review_of(run, wanted=12, seed=3):
    return choose_rows(read_run(run.store, run.layout), run.name, wanted=wanted, seed=seed)


def exported(review, choose, **changes):
    choices = {row.key: choose(row) for row in review.rows}
    head = {"format": "raytrain.dev/review/v1", "run": review.run, "seed": review.seed, "rows": review.wanted}
    return head | {"digest": review.digest, "choices": choices} | changes


def prefer_after(row):
    return "first" if row.after_first else "second"


@pytest.fixture
def add(run, tmp_path):
    def add(content):
        path = tmp_path / "choices.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return add_choices(run.store, run.layout, path)

    return add


def test_rows_are_drawn_by_seed_from_every_task_and_in_both_orders(run):
    review = review_of(run)
    assert [row.key for row in review.rows] == [row.key for row in review_of(run).rows]
    assert [row.key for row in review.rows] != [row.key for row in review_of(run, seed=4).rows]
    counts = {task: sum(row.task == task for row in review.rows) for task in run.skill}
    assert set(counts.values()) == {2}
    assert {row.after_first for row in review_of(run, wanted=60).rows} == {True, False}
    assert all(row.before.prediction != row.after.prediction for row in review.rows)
    assert review.alike > 0


def test_the_page_does_not_say_which_answer_is_which(run):
    page = review_page(run.store, run.layout, rows=12, seed=3)
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    assert page.count('class="sample choice"') == 12
    articles = "".join(re.findall(r"<article.*?</article>", body, flags=re.DOTALL))
    assert not re.search(r"\b(before|after)\b", re.sub(r'<div class="text.*?</div>', "", articles, flags=re.DOTALL))
    head = json.loads(re.search(r'data-head="([^"]*)"', page)[1].replace("&#34;", '"'))
    assert head == {k: v for k, v in exported(review_of(run), prefer_after).items() if k != "choices"}


def test_choices_become_a_metric_with_an_exact_interval_and_ties_count_neither_way(run, add):
    review = review_of(run)
    ties = {row.key for row in review.rows[:4]}
    content = exported(review, lambda row: "tie" if row.key in ties else prefer_after(row))
    everything = add(content).preferences[0]
    assert (everything.after, everything.before, everything.ties, everything.share) == (8, 0, 4, 1.0)
    assert (everything.low, everything.p) == pytest.approx((0.0250 ** (1 / 8), 2 * 0.5**8))
    assert everything.verdict == "better"

    data = gather(run.store, run.layout)
    assert data.reviews[0].rows == 12
    sentence = "People chose the answer after training on 8 of 8 rows (100.0\u00a0%, 95\u00a0% interval [63.1, 100.0]"
    assert sentence in render_html(data)
    assert sentence in render_markdown(data)
    assert "preferred by people" in render_html(data)


def test_verdicts_on_single_tasks_are_corrected_for_their_number(run, add):
    review = review_of(run, wanted=60)
    everything, *of_tasks = add(exported(review, prefer_after)).preferences
    assert everything.p == pytest.approx(2 * 0.5**everything.after)
    least = min(2 * 0.5**one.after for one in of_tasks)
    assert min(one.p for one in of_tasks) == pytest.approx(min(1.0, len(of_tasks) * least))
    assert all((one.verdict == "better") == (one.p <= 0.05) for one in of_tasks)


def test_few_choices_are_said_to_be_chance(run, add):
    review = review_of(run, wanted=5)
    found = add(exported(review, prefer_after)).preferences[0]
    assert (found.after, found.verdict) == (5, "noise")  # 5 of 5: p = 0.0625


def test_the_same_review_again_replaces_the_older_one(run, add):
    review = review_of(run)
    add(exported(review, lambda row: "tie"))
    add(exported(review, prefer_after))
    assert [r.preferences[0].after for r in gather(run.store, run.layout).reviews] == [12]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c | {"run": "other"}, "is a review of run other, not of support-assistant"),
        (lambda c: c | {"digest": "0" * 32}, "are not those of the page any more"),
        (lambda c: c | {"seed": 4}, "are not those of the page any more"),
        (lambda c: c | {"rows": True}, "rows is missing or not what the page writes"),
        (lambda c: c | {"choices": c["choices"] | {"f" * 32: "first"}}, "not a row of the page: f"),
        (lambda c: c | {"choices": dict(list(c["choices"].items())[:7])}, "5 of 12 rows have no choice"),
        (lambda c: c | {"choices": dict.fromkeys(c["choices"], "left")}, r"not one of first, second, tie: .*12 in all"),
        (lambda c: c | {"choices": {key: ["first"] for key in c["choices"]}}, "not one of first, second, tie"),
        (lambda c: c | {"format": "something"}, "is not a file of choices"),
        (lambda c: "{", "is not JSON"),
        (lambda c: "[]", "is not a file of choices"),
    ],
)
def test_files_that_do_not_fit_are_refused_with_what_to_do(run, add, spoil, message):
    with pytest.raises(DataError, match=message) as found:
        add(spoil(exported(review_of(run), prefer_after)))
    assert found.value.hint
    assert gather(run.store, run.layout).reviews == []


def test_a_review_of_answers_that_changed_is_left_out_and_named(run, add, make_run, tmp_path):
    add(exported(review_of(run), prefer_after))
    again = make_run(tmp_path / "storage", rows=20, seed=8)
    data = gather(again.store, again.layout)
    assert data.reviews == []
    assert any("are not those of the page any more" in sentence for sentence in data.missing)


def test_a_run_without_two_different_answers_cannot_be_reviewed(make_run, tmp_path):
    run = make_run(tmp_path, stages=("before",), rows=5)
    with pytest.raises(UsageError, match="no row to review"):
        review_page(run.store, run.layout, rows=3, seed=0)


def test_a_missing_file_is_a_usage_error(run, tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        add_choices(run.store, run.layout, tmp_path / "none.json")
