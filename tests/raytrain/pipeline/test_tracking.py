"""A tracker gets the whole run once; one that is down, slow or broken costs nothing."""

import threading
import time

import pytest

from raytrain.pipeline import tracking as feeding
from raytrain.pipeline.tracking import check_trackers, tracking
from raytrain.telemetry.attempts import SupersededError
from raytrain.telemetry.trackers.base import flat
from raytrain.telemetry.trackers.mlflow import parameter_name
from raytrain_core.config.loader import ConfigError
from raytrain_core.errors import UsageError
from tests.support.tracked_run import TrackedContext, job_with


class Kept:
    """A tracker that keeps what it gets; `down` holds the errors that it raises first."""

    def __init__(self, down=()):
        self.id, self.link = "run-7", "https://tracker.example/run-7"
        self.steps, self.files, self.registered, self.endings, self.opened = [], {}, [], [], []
        self.down, self.refused, self.described = list(down), [], []

    def describe(self, job, text):
        if self.refused:
            raise self.refused.pop()
        self.described.append((job["spec"]["training"]["steps"], text))

    def log(self, steps):
        if self.down:
            raise self.down.pop()
        self.steps += [(step, dict(values)) for step, values in steps]

    def put_files(self, folder, name):
        self.files[name] = sorted(path.name for path in folder.iterdir())

    def register(self, name):
        self.registered.append(name)

    def end(self, ending):
        self.endings.append(ending)


@pytest.fixture
def kept(monkeypatch):
    tracker = Kept()

    def open_tracker(name, *, run, known, folder):
        tracker.opened.append(known)
        return tracker

    monkeypatch.setattr(feeding, "open_tracker", open_tracker)
    monkeypatch.setattr(feeding, "import_packages", lambda names: None)
    return tracker


def context(folder, **training):
    return TrackedContext(folder, job_with(["wandb"], **training))


def test_steps_scores_report_and_model_arrive_and_the_end_is_told(tmp_path, kept):
    run = context(tmp_path)
    with tracking(run, every=0.02):
        run.train(range(1, 3))
        run.score("before", 0.5, 0)
        run.finish()
    assert kept.opened == [""]
    ((steps, text),) = kept.described
    assert steps == 4
    assert "name: notes" in text
    assert (1, {"loss": 1.0, "loss/notes": 2.0}) in kept.steps
    assert (0, {"test/notes/exact": 0.5, "test/notes/exact/low": 0.25, "test/notes/exact/high": 0.75}) in kept.steps
    assert kept.files == {"report": ["index.html"], "model": ["config.json", "model.safetensors"]}
    assert kept.endings == ["finished"]
    assert run.progress.progress.links == {"wandb": "https://tracker.example/run-7"}
    assert run.told == []


def test_a_resumed_run_is_the_same_run_and_repeats_nothing(tmp_path, kept):
    first = context(tmp_path)
    first.train(range(1, 4))
    first.score("step-000002", 0.5, 2)
    with pytest.raises(KeyboardInterrupt), tracking(first, every=0.02):
        raise KeyboardInterrupt
    second = context(tmp_path)
    with tracking(second, every=0.02):
        second.train(range(3, 5))  # from the checkpoint of step 2
        second.finish()
    assert kept.opened == ["", "run-7"]
    assert [step for step, values in kept.steps if "loss" in values] == [1, 2, 3, 4]
    assert [step for step, values in kept.steps if "validation/notes/exact" in values] == [2]
    assert kept.endings == ["killed", "finished"]


def test_a_run_that_fails_is_told_as_failed(tmp_path, kept):
    with pytest.raises(ValueError, match="no"), tracking(context(tmp_path), every=0.02):
        raise ValueError("no")
    assert kept.endings == ["failed"]


def test_an_older_driver_leaves_the_run_to_the_newer(tmp_path, kept):
    old = context(tmp_path)
    context(tmp_path)
    with pytest.raises(SupersededError), tracking(old, every=0.02):
        raise SupersededError("newer")
    assert kept.endings == []


def test_what_was_missed_while_it_was_down_arrives_later_and_is_told_once(tmp_path, kept):
    kept.down = [ConnectionError("no route"), ConnectionError("no route")]
    run = context(tmp_path)
    with tracking(run, every=0.02):
        run.train(range(1, 4))
        deadline = time.monotonic() + 20
        while len(kept.steps) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [step for step, _ in kept.steps] == [1, 2, 3]
    assert run.told == ["wandb does not answer (the run goes on): ConnectionError: no route"]
    assert kept.endings == ["finished"]


def test_one_that_never_answers_costs_no_step_and_not_the_end(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(feeding, "_DRAIN_SECONDS", 0.2)
    monkeypatch.setattr(feeding, "_UPLOAD_SECONDS", 0.2)
    free = threading.Event()
    monkeypatch.setattr(kept, "log", lambda steps: free.wait(30))
    run = context(tmp_path)
    with tracking(run, every=0.02):
        run.train(range(1, 3))
    free.set()
    assert run.told == ["wandb did not take everything in time; the run's storage has it all"]


def test_a_run_whose_job_is_refused_at_first_is_made_once(tmp_path, kept):
    kept.refused = [ConnectionError("no route"), ConnectionError("no route")]
    run = context(tmp_path)
    with tracking(run, every=0.02):
        run.train(range(1, 3))
        deadline = time.monotonic() + 20
        while len(kept.steps) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert (kept.opened, len(kept.described)) == ([""], 1)
    with tracking(context(tmp_path), every=0.02):
        pass
    assert (kept.opened, len(kept.described)) == (["", "run-7"], 1)


def test_a_model_that_arrived_is_registered_by_a_later_attempt(tmp_path, kept, monkeypatch):
    def refuse(name):
        raise ConnectionError("no registry")

    with monkeypatch.context() as down:
        down.setattr(kept, "register", refuse)
        run = TrackedContext(tmp_path, job_with(["mlflow"], registerModel="notes"))
        with tracking(run, every=0.02):
            run.finish()
    assert "no registry" in run.told[0]
    with tracking(TrackedContext(tmp_path, job_with(["mlflow"], registerModel="notes")), every=0.02):
        pass
    assert kept.registered == ["notes"]


def test_the_model_is_registered_once_if_asked(tmp_path, kept):
    for _ in range(2):
        run = TrackedContext(tmp_path, job_with(["mlflow"], registerModel="notes"))
        with tracking(run, every=0.02):
            run.finish()
    assert kept.registered == ["notes"]
    with pytest.raises(ConfigError, match="registerModel is set, but mlflow is not in trackers"):
        job_with(["wandb"], registerModel="notes")


def test_secrets_are_masked(tmp_path, kept, monkeypatch):
    run = context(tmp_path)
    monkeypatch.setenv("SOME_TOKEN", "notes.jsonl")
    with tracking(run, every=0.02):
        pass
    assert "***" in kept.described[0][1]
    assert "notes.jsonl" not in kept.described[0][1]


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    run = context(tmp_path)
    monkeypatch.setattr("raytrain.telemetry.trackers.open.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"wandb needs the package wandb.*\n  pip install 'raytrain\[wandb\]'"):
        check_trackers(run.job, run.store)


def test_tensorboard_s_files_can_be_read(tmp_path):
    run = TrackedContext(tmp_path, job_with(["tensorboard"]))
    check_trackers(run.job, run.store)
    with tracking(run, every=0.02):
        run.train(range(1, 3))
    (path,) = (tmp_path / "storage/runs/run/tensorboard").iterdir()
    content = path.read_bytes()
    assert b"loss/notes" in content
    assert b"name: notes" in content


def test_keys_that_users_chose_become_names_that_mlflow_takes():
    assert parameter_name("spec.tasks.0.labelNames.O'Neil & Co") == "spec.tasks.0.labelNames.O_Neil _ Co"
    assert parameter_name("metadata.annotations.a//b/../c") == "metadata.annotations.a/c"
    assert len(parameter_name("x" * 300)) == 250


def test_fields_become_parameters_by_their_paths():
    found = flat({"a": {"b": 1, "c": None}, "tasks": [{"name": "x"}], "list": ["p", "q"]})
    assert found == {"a.b": "1", "tasks.0.name": "x", "list": "['p', 'q']"}
