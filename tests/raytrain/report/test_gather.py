import json

import jsonschema
import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.report import ReportData, gather, render_html, render_json, render_markdown, write
from raytrain.report.curves import POINTS
from raytrain.report.gather import _event
from raytrain.report.schema import FOLDER, SCHEMAS, schema
from raytrain_core.errors import StorageError
from tests.support import REPOSITORY


@pytest.fixture(scope="module")
def data(run_folder) -> ReportData:
    return gather(run_folder.store, run_folder.layout)


def by_name(data):
    return {task.name: task for task in data.tasks}


def test_tasks_come_in_the_order_of_the_job_and_probes_apart(data):
    assert [t.name for t in data.trained] == ["dialogues", "reviews", "entities", "code"]
    assert [t.name for t in data.probes] == ["questions", "spanish"]
    assert data.missing == []


def test_gains_and_losses_are_distinguished_from_noise(data):
    tasks = by_name(data)
    assert all(tasks[name].difference.verdict == "better" for name in ("dialogues", "reviews", "entities"))
    assert tasks["questions"].difference.verdict == "worse"
    difference = tasks["reviews"].difference
    assert difference.low < difference.value < difference.high
    assert difference.value == pytest.approx(
        tasks["reviews"].primary_metric.after.value - tasks["reviews"].primary_metric.before.value
    )


def test_forgetting_is_before_minus_after_and_best_minus_last(data):
    task = by_name(data)["questions"]
    assert task.forgetting.before_minus_after == pytest.approx(-task.difference.value)
    values = [p.value for p in task.validation]
    assert task.forgetting.best_minus_now == pytest.approx(max(values) - values[-1])
    probes = [t.difference.value for t in data.probes]
    assert data.backward_transfer == pytest.approx(sum(probes) / 2)


def test_a_score_below_its_baseline_is_flagged(make_run, tmp_path):
    run = make_run(tmp_path, skill={"code": (0.0, 0.02), "reviews": (0.3, 0.9)}, rows=60, baseline=0.9)
    found = gather(run.store, run.layout)
    below = {t.name for t in found.tasks if t.baseline_verdict == "below"}
    assert below == {"code"}
    assert by_name(found)["reviews"].baseline_verdict == "noise"
    assert by_name(found)["reviews"].verdict == "not-above-baseline"
    assert any("below its baseline" in w for w in found.summary.warnings)


def test_the_model_before_training_is_not_held_against_a_baseline(make_run, tmp_path):
    run = make_run(tmp_path, skill={"code": (0.0, 0.9)}, rows=20, baseline=0.7, stages=("before",))
    found = gather(run.store, run.layout)
    assert by_name(found)["code"].primary_metric.before.value < 0.7
    assert {t.baseline_verdict for t in found.tasks} == {"unknown"}
    assert not any(b.difference for t in found.tasks for b in t.baselines)
    assert not any("below its baseline" in w for w in found.summary.warnings)


@pytest.mark.parametrize(
    ("answers", "references", "flagged"),
    [(0.44, 0.01, True), (0.25, 0.23, False), (1.0, 0.52, True), (0.05, 0.0, False)],
)
def test_one_answer_to_everything_is_flagged(make_run, tmp_path, monkeypatch, answers, references, flagged):
    """A constant sentence can reach the baseline of summaries (docs/explanation/metrics.md)."""
    run = make_run(tmp_path, rows=20, lengths={"same_prediction": answers, "same_reference": references})
    found = gather(run.store, run.layout)
    assert {t.one_answer for t in found.tasks} == {flagged}
    assert any("its score may be that of one sentence" in w for w in found.summary.warnings) == flagged


def test_cards_of_older_versions_do_not_say(make_run, tmp_path):
    run = make_run(tmp_path, rows=20, lengths={"cut_off": 0.1})
    assert not any(t.one_answer for t in gather(run.store, run.layout).tasks)


def test_curves_leave_out_what_a_later_attempt_did_again(data, run_folder):
    tokens = data.training.source_tokens + data.training.target_tokens
    assert tokens == 1000 * run_folder.steps  # each step once, although attempt 1 had gone beyond the checkpoint
    assert data.steps == [0, *run_folder.checkpoints]
    assert len(data.training.loss) <= POINTS
    assert data.training.loss[-1].step == run_folder.steps
    assert all(not t.loss for t in data.probes)


def test_ten_samples_a_task_of_three_kinds(data):
    for task in data.tasks:
        assert len(task.samples) == len({s.id for s in task.samples}) == 10
        gains = [s.after_score - s.before_score for s in task.samples if s.kind == "gain"]
        losses = [s.after_score - s.before_score for s in task.samples if s.kind == "loss"]
        assert gains == sorted(gains, reverse=True)
        assert all(g > 0 for g in gains)
        assert losses == sorted(losses)
        assert all(x < 0 for x in losses)
        assert any(s.kind == "random" for s in task.samples)


def test_the_data_card_tells_leaks_and_bad_rows(data):
    card = {c.task: c for c in data.data.tasks}["reviews"]
    assert card.bad_rows == 1
    assert card.share == pytest.approx(0.25)
    assert [s.split for s in card.splits] == ["train", "validation", "test"]
    assert data.data.leakage == ["reviews: the inputs of 2 test rows also occur in train rows."]
    assert data.data.leakage[0] in data.summary.warnings


def test_the_note_on_the_data_is_kept(data):
    assert data.data.note.startswith("All rows are generated")


def test_the_same_run_gives_the_same_report(data, run_folder):
    assert gather(run_folder.store, run_folder.layout) == data


@pytest.mark.parametrize("stages", [(), ("before",), ("before", "checkpoints"), ("after",)])
def test_an_unfinished_run_has_a_report_that_says_what_is_missing(make_run, tmp_path, stages):
    run = make_run(tmp_path, stages=stages, rows=12)
    found = gather(run.store, run.layout)
    absent = [s for s in ("before", "after") if s not in stages]
    assert [m for m in found.missing if m.startswith("Nothing has been scored")] == [
        f"Nothing has been scored {s} training yet." for s in absent
    ]
    assert all(t.difference is None for t in found.tasks)
    render_html(found)
    render_markdown(found)


def test_damaged_scores_are_left_out_and_named(make_run, tmp_path):
    run = make_run(tmp_path, rows=12)
    key = f"{run.layout.scores('after', 'code')}/scores.json"
    run.store.put(key, b"{}")
    found = gather(run.store, run.layout)
    assert by_name(found)["code"].primary_metric.after is None
    assert by_name(found)["reviews"].primary_metric.after is not None
    assert any(key in m and "left out" in m for m in found.missing)


def test_scores_without_a_manifest_do_not_exist(make_run, tmp_path):
    run = make_run(tmp_path, rows=12)
    run.store.delete([f"{run.layout.scores('after', 'code')}/manifest.json"])
    found = gather(run.store, run.layout)
    assert "Not scored after training: code." in found.missing


def test_a_missing_shard_set_is_named(make_run, tmp_path):
    run = make_run(tmp_path, rows=12)
    run.store.delete([s.key for s in run.store.list("shards/sets/")])
    found = gather(run.store, run.layout)
    assert found.data.tasks == []
    assert any("shards/sets" in m for m in found.missing)
    assert "could not be read" in render_html(found)


@pytest.mark.parametrize(
    ("kind", "notable"), [("ModelMoved", True), ("ScoresUnusable", True), ("CheckpointSaved", False)]
)
def test_events_that_a_reader_should_notice_are_marked(kind, notable):
    assert _event({"kind": kind, "message": "m"}).warning is notable


def test_no_such_run(run_folder):
    with pytest.raises(StorageError, match="there is no run nobody here"):
        gather(run_folder.store, RunLayout("nobody"))


def test_json_goes_there_and_back_and_fits_the_schema(data):
    text = render_json(data)
    assert ReportData.model_validate_json(text) == data
    jsonschema.validate(json.loads(text), schema("report.schema.json"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schema_is_the_one_in_force(name):
    stored = json.loads((REPOSITORY / FOLDER / name).read_text())
    assert stored == schema(name), "run `make generate`"


def test_write_commits_three_files(make_run, tmp_path):
    run = make_run(tmp_path, rows=12)
    uri = write(run.store, run.layout)
    assert uri == f"{run.store.uri}/runs/support-assistant/report/index.html"
    manifest = json.loads(run.store.get(f"{run.layout.report}/manifest.json"))
    assert sorted(f["name"] for f in manifest["files"]) == ["index.html", "report.json", "report.md"]
    assert run.store.get(f"{run.layout.report}/index.html").startswith(b"<!doctype html>")


def test_a_guard_stops_the_commit(make_run, tmp_path):
    run = make_run(tmp_path, rows=12)

    def guard():
        raise StorageError("superseded")

    with pytest.raises(StorageError, match="superseded"):
        write(run.store, run.layout, guard=guard)
    assert run.store.stat(f"{run.layout.report}/manifest.json") is None
