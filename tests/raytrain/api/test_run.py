"""A run in Python: what a notebook reads of it."""

import json
import re
from types import SimpleNamespace

import pytest

import raytrain as rt
from raytrain.api.cluster_run import ClusterRun
from raytrain.api.stored_run import StoredRun
from raytrain.cluster import jobs
from raytrain.evaluation.evaluator import Stage
from raytrain.generation.generator import Generator, load_model
from raytrain.generation.requests import GenerationLimits
from raytrain.telemetry.attempts import Attempt
from raytrain.telemetry.progress import ProgressWriter
from raytrain.telemetry.segments import SegmentWriter
from raytrain_core.errors import ClusterError, TrainingError, UsageError


def step(number, loss):
    return {"step": number, "loss": loss, "loss_by_task": {"a": loss, "b": 2 * loss}, "seconds_by_part": {"data": 0.1}}


@pytest.fixture
def run(world):
    return StoredRun(world.store, world.layout)


def ended(world, phase, message=""):
    attempt = Attempt.begin(world.store, world.layout, {})
    with ProgressWriter(attempt) as progress:
        progress.update(phase=phase, message=message, step=3, steps=3)


def test_metrics_are_a_table_by_step_without_repeated_steps(world, run):
    for attempt, lines in ((1, [step(1, 3.0), step(2, 2.5), step(3, 9.0)]), (2, [step(3, 2.0)])):
        with SegmentWriter(world.store, world.layout, "metrics", attempt) as writer:
            for line in lines:
                writer.append(line)
    found = run.metrics()
    assert list(found.index) == [1, 2, 3]
    assert list(found["loss"]) == [3.0, 2.5, 2.0]
    assert list(found["loss/b"]) == [6.0, 5.0, 4.0]
    assert list(found["attempt"]) == [1, 1, 2]
    assert str(found["time"].dtype).startswith("datetime64")


def test_metrics_of_a_run_without_steps_are_an_empty_table(run):
    assert run.metrics().empty
    assert run.metrics()["loss"].empty


def test_scores_report_and_models(world, run, score_locally):
    base = load_model(
        world.base, world.base, store=world.store, cache_folder=world.folder, tokenizer_size=world.tokenizer.size
    )
    generator = Generator(base, world.tokenizer, GenerationLimits.from_job(world.job))
    score_locally(
        world.evaluator(), lambda model, asked: generator.generate(asked), Stage("before", world.base, "test")
    )
    scores = run.scores()
    assert set(scores["task"]) == {task.name for task in world.job.spec.tasks}
    primary = scores[scores["primary"]]
    assert len(primary) == len(world.job.spec.tasks)
    assert (primary["low"] <= primary["high"]).all()

    report = run.report()
    shown = report._repr_html_()
    assert re.match(r'<iframe srcdoc="[^"]+" sandbox="allow-scripts" title="report" [^>]*></iframe>$', shown)
    assert str(report).startswith("# ")
    assert report.data["run"] == run.name
    assert report.save(world.folder / "page.html").read_text() == report.page
    with pytest.raises(UsageError, match="cannot be written"):
        report.save(world.folder)

    world.export(world.checkpoint(4))
    task = world.job.spec.tasks[0].name
    answers = run.model.generate(["one text", "another"], task=task)
    assert len(answers) == 2
    assert run.model.generate("one text", task=task) == answers[0]
    assert run.base_model.generate("a whole prompt") == generator.generate(["a whole prompt"])[0].text
    with pytest.warns(UserWarning, match=r"text 2: the prompt has [\d,]+ tokens, of which the model read"):
        run.base_model.generate(["short", "long " * 4000])
    with pytest.raises(UsageError, match="the run has no task 'nope'"):
        run.model.generate(["a"], task="nope")


def test_waiting_for_a_run_that_has_ended_returns_it_or_says_how_it_ended(world, run):
    ended(world, "Complete")
    assert run.wait(timeout=0) is run
    ended(world, "Failed", "out of memory")
    with pytest.raises(TrainingError, match=r"ended as Failed: out of memory\n  run `raytrain run`"):
        run.wait()


def test_waiting_ends_after_its_time(world, run, monkeypatch, capsys):
    ended(world, "Training")
    monkeypatch.setattr("raytrain.api.stored_run._POLL_SECONDS", 0.01)
    with pytest.raises(ClusterError, match=r"is still Training after 0\.05 s"):
        run.wait(timeout=0.05)
    assert "Training: 3/3" in capsys.readouterr().err


def test_runs_are_found_by_name_and_a_wrong_name_is_told(world, run):
    storage = str(world.folder / "store")
    assert run.name in rt.list_runs(storage)
    assert repr(rt.open_run(run.name, storage)) == repr(run)
    with pytest.raises(UsageError, match=f"there is no run {run.name}x .*did you mean {run.name}"):
        rt.open_run(f"{run.name}x", storage)


def test_a_job_in_a_cluster_is_watched_until_its_end(world, monkeypatch, capsys):
    seen = [
        SimpleNamespace(phase="Running", step=2, steps=4, loss=1.5, ended=False, message=""),
        SimpleNamespace(phase="Failed", step=2, steps=4, loss=1.5, ended=True, message="node lost"),
    ]
    monkeypatch.setattr(jobs, "watch", lambda *_, **__: iter(seen))
    body = {
        "metadata": {"name": world.layout.name, "namespace": "team"},
        "spec": {},
        "status": {"storage": str(world.folder / "store")},
    }
    monkeypatch.setattr(jobs, "get", lambda *_: json.loads(json.dumps(body)))
    found = ClusterRun(None, world.layout.name, "team")
    with pytest.raises(ClusterError, match="ended as Failed: node lost"):
        found.wait()
    assert "Running: 2/4 (50%), loss 1.500" in capsys.readouterr().err
    assert found.status().run == world.layout.name
