"""The loop of a sweep: limits, failures, one preparation, early ends, and going on after a kill."""

import json

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import RunRecord, write_record
from raytrain.sweeps.engine import Seen, run_sweep
from raytrain.sweeps.search import proposer
from raytrain.sweeps.state import open_state, save_state
from raytrain_core.errors import ClusterError, StorageError, UsageError
from raytrain_core.storage import open_store
from tests.support.sweep_runs import score_run, tiny_sweep

SPEC = "  parameters:\n    training.anchor: {values: [1, 2, 3, 4]}"


class Killed(BaseException):
    """Ends the loop as a kill would: nothing after it is done."""


class FakeRuns:
    """Runs that go on for some looks, and then end as `ends` says."""

    def __init__(self, store, *, looks=2, ends=None, killed_after=None, behind=(), live=()):
        self.store, self.looks, self.ends = store, looks, ends or {}
        self.killed_after, self.behind = killed_after, behind
        self.left, self.started, self.most, self.asked = dict.fromkeys(live, looks), [], 0, []
        self.twice = []  # runs that were started while another one prepared the same data

    def start(self, job):
        name = job.metadata.name
        if name in self.ends and isinstance(self.ends[name], Exception):
            raise self.ends[name]
        if self.killed_after is not None and len(self.started) >= self.killed_after:
            raise Killed
        self.started.append(name)
        self.left[name] = self.looks
        self.most = max(self.most, len(self.left))
        same = [other for other in self.started if other != name and other.split("-")[2:] == name.split("-")[2:]]
        if same and not any(self.store.stat(RunLayout(other).job) for other in same):
            self.twice.append(name)
        self.job = job

    def look(self, name):
        if name not in self.left:
            return Seen("complete" if self.store.stat(f"runs/{name}/done") else "absent")
        self.left[name] -= 1
        record = RunRecord(self.job, self.job_folder, shard_set="s" * 64)
        write_record(self.store, RunLayout(name), record)
        if name in self.behind:
            right = [1] + [0] * 9
            score_run(self.store, name, dict.fromkeys(("echo", "stars", "first"), (right, right)))
        if self.left[name] > 0 and name not in self.asked:
            return Seen("running")
        del self.left[name]
        if name in self.asked:
            return Seen("absent")
        if name in self.ends:
            return self.ends[name]
        self.store.put(f"runs/{name}/done", b"")
        return Seen("complete")

    def stop(self, name):
        self.asked.append(name)

    def store_of(self, name):
        return self.store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture
def long_job(folder):
    """The job with 40 steps, so that step 12 is not the last one."""
    text = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text(text.replace("steps: 12", "steps: 40"))
    yield
    (folder / "job.yaml").write_text(text)


@pytest.fixture
def sweep(folder, tmp_path):
    """Returns a function that runs a sweep with fake runs: gives them, its state and its lines."""
    store = open_store(str(tmp_path))

    def go(spec=SPEC, *, most=1, **options):
        plan = tiny_sweep(folder, spec)
        state = open_state(store, plan)
        runs, lines = FakeRuns(store, **options), []
        runs.job, runs.job_folder = plan.job, folder
        try:
            run_sweep(
                plan,
                state,
                runs,
                most=most,
                save=lambda: save_state(store, plan, state),
                say=lines.append,
                propose=proposer(plan, runs.store_of),
                poll_seconds=0,
            )
        except Killed:
            lines.append("killed")
        return runs, open_state(store, plan), lines

    return go


def ends(state):
    return {run.name: run.state for run in state.runs}


def test_every_run_is_run_once_and_never_more_than_the_most(sweep):
    runs, state, lines = sweep(most=2)
    assert sorted(runs.started) == [f"guards-{i}" for i in range(5)]
    assert runs.most == 2
    assert set(ends(state).values()) == {"complete"}
    assert lines[-1].endswith("(5 of 5)")


def test_a_killed_sweep_goes_on_where_it_was(sweep):
    _, state, lines = sweep(most=1, killed_after=3)
    assert lines[-1] == "killed"
    assert list(ends(state).values()).count("complete") == 3
    second, state, _ = sweep(most=1)
    assert second.started == ["guards-3", "guards-4"]
    assert set(ends(state).values()) == {"complete"}
    third, _, _ = sweep(most=1)
    assert third.started == []


def test_a_run_that_ended_while_the_sweep_was_dead_is_noticed(sweep, tmp_path):
    sweep(most=1, killed_after=0)
    (tmp_path / "runs/guards-2").mkdir(parents=True)
    (tmp_path / "runs/guards-2/done").touch()
    runs, state, _ = sweep(most=1)
    assert "guards-2" not in runs.started
    assert ends(state)["guards-2"] == "complete"


def test_a_run_that_fails_is_a_line_and_the_sweep_goes_on(sweep):
    _, state, lines = sweep(ends={"guards-1": Seen("failed", "the loss is not a number")})
    assert ends(state)["guards-1"] == "failed"
    assert list(ends(state).values()).count("complete") == 4
    assert any("guards-1: failed" in line and "the loss is not a number" in line for line in lines)


def test_a_run_that_cannot_be_started_is_a_failed_one(sweep):
    _, state, _ = sweep(ends={"guards-1": ClusterError("no such queue")})
    assert state.run("guards-1").reason == "no such queue"
    assert list(ends(state).values()).count("complete") == 4


def test_only_failures_that_may_pass_are_tried_again_by_the_next_start(sweep):
    failures = {"guards-1": Seen("failed", "NaN"), "guards-2": Seen("failed", "bucket away", retry=True)}
    sweep(ends=failures)
    again, state, _ = sweep()
    assert again.started == ["guards-2"]
    assert ends(state)["guards-1"] == "failed"
    assert ends(state)["guards-2"] == "complete"


def test_no_data_is_prepared_twice_at_the_same_time(sweep):
    runs, _, _ = sweep(most=4, looks=4)
    assert runs.twice == []
    assert runs.most == 4, "once it is prepared, all may run"


def test_each_seed_prepares_once(sweep):
    runs, state, _ = sweep(spec=f"  seeds: [1, 2]\n{SPEC}", most=4, looks=4)
    assert len(state.runs) == 10
    assert runs.twice == []


def test_a_run_that_is_behind_is_ended_and_says_so(sweep, tmp_path):
    spec = f"  stopping: {{firstStep: 12, factor: 2}}\n{SPEC}"
    store, good = open_store(str(tmp_path)), [1] * 10
    first, _, _ = sweep(spec, killed_after=2)
    for name in first.started:
        score_run(store, name, {"echo": ([0] * 10, good), "stars": ([0] * 10, good), "first": (good, good)})
    runs, state, _ = sweep(spec, looks=3, behind=["guards-3"])
    assert ends(state)["guards-3"] == "complete", "step 12 is the last one: nothing is saved by an early end"
    assert runs.asked == []


def test_an_end_that_the_sweep_asked_for_is_told_with_its_reason(sweep, tmp_path, long_job):
    spec = f"  stopping: {{firstStep: 12, factor: 2}}\n{SPEC}"
    store, good = open_store(str(tmp_path)), [1] * 10
    first, _, _ = sweep(spec, killed_after=2)
    for name in first.started:
        score_run(store, name, {"echo": ([0] * 10, good), "stars": ([0] * 10, good), "first": (good, good)})
    runs, state, _ = sweep(spec, looks=3, behind=["guards-3"])
    assert runs.asked == ["guards-3"]
    assert ends(state)["guards-3"] == "stopped"
    assert state.run("guards-3").reason == "stopped by the sweep at step 12: 0.0, place 3 of 3"


def test_the_job_as_written_is_never_ended_early(sweep, tmp_path, long_job):
    spec = f"  stopping: {{firstStep: 12, factor: 2}}\n{SPEC}"
    store, good = open_store(str(tmp_path)), [1] * 10
    for name in ("guards-1", "guards-2"):
        score_run(store, name, {"echo": ([0] * 10, good), "stars": ([0] * 10, good), "first": (good, good)})
        store.put(f"runs/{name}/done", b"")
    runs, state, _ = sweep(spec, looks=3, behind=["guards-0", "guards-3"])
    assert runs.asked == ["guards-3"]
    assert ends(state)["guards-0"] == "complete"


@pytest.mark.parametrize("still", ["going on", "gone"])
def test_a_run_that_was_being_ended_when_the_sweep_was_killed_is_ended(sweep, tmp_path, still):
    sweep(killed_after=1)
    path = tmp_path / "sweeps/guards/sweep.json"
    body = json.loads(path.read_text())
    body["runs"][1]["reason"] = "stopped by the sweep at step 12: 0.0, place 3 of 3"
    path.write_text(json.dumps(body))
    runs, state, _ = sweep(live=["guards-1"] if still == "going on" else [])
    assert runs.asked == (["guards-1"] if still == "going on" else [])
    assert "guards-1" not in runs.started
    assert (ends(state)["guards-1"], state.run("guards-1").reason) == ("stopped", body["runs"][1]["reason"])


def test_a_sweep_of_the_same_name_with_other_parameters_is_refused(sweep):
    sweep()
    with pytest.raises(UsageError, match=r"another sweep of this name:\n.*training.anchor"):
        sweep(spec=SPEC.replace("4]", "5]"))


def test_a_field_that_is_new_in_this_version_is_no_difference(sweep, tmp_path):
    sweep(killed_after=1)
    path = tmp_path / "sweeps/guards/sweep.json"
    body = json.loads(path.read_text())
    assert "anchor" not in body["job"]["spec"]["training"], "an older version would not have written it either"
    body["job"]["spec"]["training"]["anchor"] = 0  # its default
    body["sweep"]["spec"]["objective"] = "gained"
    path.write_text(json.dumps(body))
    _, state, _ = sweep()
    assert set(ends(state).values()) == {"complete"}


def test_a_field_that_this_version_does_not_know_is_named(sweep, tmp_path):
    sweep(killed_after=1)
    path = tmp_path / "sweeps/guards/sweep.json"
    body = json.loads(path.read_text())
    body["job"]["spec"]["training"]["wings"] = 2
    path.write_text(json.dumps(body))
    with pytest.raises(StorageError, match=r"this version can read \(.*wings"):
        sweep()


def test_a_damaged_state_is_refused(sweep, tmp_path):
    sweep()
    (tmp_path / "sweeps/guards/sweep.json").write_text("{")
    with pytest.raises(StorageError, match="not the state of a sweep"):
        sweep()


def test_limits_may_change_while_a_sweep_goes_on(sweep):
    sweep(killed_after=1)
    _, state, _ = sweep(spec=f"  maxConcurrent: 3\n  limit: 50\n{SPEC}")
    assert set(ends(state).values()) == {"complete"}


def test_the_state_is_plain_json_with_the_choice_of_every_setting(sweep, tmp_path):
    sweep()
    body = json.loads((tmp_path / "sweeps/guards/sweep.json").read_text())
    assert [one["chosen"] for one in body["settings"]] == [{}, *({"training.anchor": i} for i in (1, 2, 3, 4))]


SEARCH = """  method: optuna
  samples: 6
  parameters:
    training.anchor: {low: 0.1, high: 10, log: true}
    training.warmupSteps: {low: 0, high: 4}
    training.optimizer: {values: [adamw, adafactor]}"""


def test_a_search_proposes_as_many_settings_as_asked_and_goes_on_alike_after_a_kill(sweep, folder, tmp_path):
    pytest.importorskip("optuna")
    _, whole, _ = sweep(SEARCH)
    assert len(whole.settings) == 7
    assert all(isinstance(one.chosen["training.warmupSteps"], int) for one in whole.settings[1:])
    store = open_store(str(tmp_path))
    store.delete([stat.key for stat in store.list("")])
    sweep(SEARCH, killed_after=3)
    _, resumed, _ = sweep(SEARCH)
    assert [one.chosen for one in resumed.settings] == [one.chosen for one in whole.settings]


def test_a_search_over_few_values_ends_when_all_were_tried(sweep):
    pytest.importorskip("optuna")
    _, state, _ = sweep("  method: optuna\n  samples: 6\n  parameters:\n    training.anchor: {values: [1, 2]}")
    assert sorted(one.chosen.get("training.anchor", 0) for one in state.settings) == [0, 1, 2]
