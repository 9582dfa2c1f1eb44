"""Comparisons of runs: paired differences, the rows that differ most, three renderings."""

import dataclasses
import json
from html.parser import HTMLParser

import jsonschema
import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.report.compare_runs import compare, read_compared_run
from raytrain.report.comparison import Comparison, compare_runs
from raytrain.report.render_comparison import comparison_html, comparison_markdown
from raytrain.report.schema import schema
from raytrain_core.errors import UsageError

SKILL = {"dialogues": (0.1, 0.3), "reviews": (0.5, 0.55), "questions": (0.8, 0.8)}


@pytest.fixture(scope="module")
def runs(make_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first = make_run(folder, name="short", skill=SKILL, rows=60)
    second = make_run(folder, name="long", skill=SKILL | {"dialogues": (0.1, 0.95)}, rows=60)
    third = make_run(folder, name="forgetful", skill=SKILL | {"questions": (0.8, 0.1)}, rows=60)
    return [read_compared_run(run.store, run.layout, run.name) for run in (first, second, third)]


@pytest.fixture(scope="module")
def comparison(runs):
    return compare_runs(runs)


def test_differences_are_paired_and_from_the_first_run(comparison, runs):
    dialogues = next(t for t in comparison.tasks if t.name == "dialogues")
    first, second, _ = dialogues.results
    assert first.difference_from_first is None
    found = second.difference_from_first
    assert found.verdict == "better"
    assert found.rows == 60
    assert found.value == pytest.approx(second.after.value - first.after.value)
    assert found.low <= found.value <= found.high
    questions = next(t for t in comparison.tasks if t.name == "questions")
    assert questions.results[2].difference_from_first.verdict == "worse"
    assert not questions.results[2].trained


def test_sentences_name_what_is_better_and_what_is_noise(comparison):
    long, forgetful = comparison.sentences
    assert long.startswith("Compared with short, long is better at dialogues")
    assert "within the noise" in long
    assert "forgetful is worse at" in forgetful
    assert "questions" in forgetful


def test_samples_are_the_rows_that_differ_most(comparison, runs):
    task = next(t for t in comparison.tasks if t.name == "dialogues")
    assert 1 <= len(task.samples) <= 5
    spreads = [max(row.scores) - min(row.scores) for row in task.samples]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > 0
    answers = {p.id: p.prediction for p in runs[1].answers["dialogues"]}
    assert all(row.answers[1] == answers[row.id] for row in task.samples)


def test_runs_of_other_tasks_and_models_are_compared_where_they_can_be(make_run, tmp_path, runs):
    other = make_run(tmp_path, name="other", skill={"dialogues": (0.1, 0.5), "spanish": (0.2, 0.2)}, rows=40)
    run = read_compared_run(other.store, other.layout, "other")
    run = dataclasses.replace(run, data=run.data.model_copy(update={"model_digest": "another"}))
    with pytest.raises(UsageError, match=r"not scored on the same rows .* number of rows: 60 and 40") as refused:
        compare_runs([runs[0], run])
    assert "--force" in refused.value.hint
    found = compare_runs([runs[0], run], force=True)
    assert found.forced
    names = {t.name: t for t in found.tasks}
    assert names["reviews"].results[1] is None
    assert names["spanish"].results[0] is None
    assert names["spanish"].results[1].difference_from_first is None
    assert names["dialogues"].results[1].difference_from_first.rows == 40
    assert any("different models" in w for w in found.warnings)
    forced = names["dialogues"].results[1]
    assert forced.difference_from_first.verdict == "unknown"
    assert any(reason.startswith("other rows") for reason in forced.not_comparable)
    assert found.warnings[0].startswith("dialogues of other cannot be compared with short and was only by --force")
    assert "not comparable" in comparison_markdown(found)
    assert "Not comparable (--force): dialogues" in comparison_html(found, [runs[0], run])


def test_verdicts_are_corrected_for_the_number_of_differences(comparison):
    assert any("corrected for their number" in warning for warning in comparison.warnings)
    p_values = [r.difference_from_first.p for t in comparison.tasks for r in t.results if r and r.difference_from_first]
    assert len(p_values) == 6
    assert all(p is not None for p in p_values)


def test_json_comes_back_and_fits_the_schema(comparison):
    text = comparison.model_dump_json()
    assert Comparison.model_validate_json(text) == comparison
    jsonschema.validate(json.loads(text), schema("comparison.schema.json"))


def test_markdown_is_a_table_with_verdicts(comparison):
    text = comparison_markdown(comparison)
    assert text.startswith("# short compared with long compared with forgetful")
    assert "| **dialogues** | ROUGE-L |" in text
    assert "within the noise" in text


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_the_page_is_self_contained_and_hostile_texts_stay_texts(make_run, tmp_path, hostile_texts):
    stored = [make_run(tmp_path, name=n, hostile=True, rows=20, seed=s) for n, s in (("a", 1), ("b", 2))]
    runs = [read_compared_run(run.store, run.layout, f"{run.name} {hostile_texts['script']}") for run in stored]
    html = comparison_html(compare_runs(runs, force=True), runs)
    tags = Tags()
    tags.feed(html)
    assert [attributes for tag, attributes in tags.tags if tag == "script"] == [{}]
    assert not [a for _, attributes in tags.tags for a in attributes if a.startswith("on") or a == "style"]
    assert "<script>window.pwned" not in html
    assert len(html) < 2_000_000


def test_the_command_writes_three_files(make_run, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        run = make_run(tmp_path / "store", name=name, seed=seed, rows=12)
    places = [(run.store, RunLayout(name)) for name in ("a", "b")]
    with pytest.raises(UsageError, match="not scored on the same rows"):  # the seeds make other rows
        compare(places)
    found = compare(places, out=tmp_path / "out", force=True)
    assert sorted(path.name for path in found.files) == ["comparison.html", "comparison.json", "comparison.md"]
    assert json.loads((tmp_path / "out/comparison.json").read_text())["format"] == "raytrain.dev/comparison/v3"
    assert found.markdown.startswith("# a compared with b")
    with pytest.raises(UsageError, match="named twice"):
        compare([places[0], places[0]])
    with pytest.raises(UsageError, match="one run alone"):
        compare(places[:1])
