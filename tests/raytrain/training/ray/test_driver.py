"""Training on a Ray cluster ends in the same weights after every fault, or says why not."""

import dataclasses
import os
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from raytrain.config.run_layout import RunLayout
from raytrain.config.training import Lora
from raytrain.model.loading import load
from raytrain.model.source import WEIGHTS_FILE
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain.telemetry.attempts import SupersededError
from raytrain.telemetry.segments import read_segments
from raytrain.training.checkpoint import fetch_files
from raytrain.training.data.loader import DataLoader
from raytrain.training.ray.driver import train
from raytrain.training.trainer import Trainer
from raytrain_core.storage.commit import read_manifest
from tests.support import gated_store
from tests.support.tiny_run import tiny_run

# Each starts worker groups of its own and takes minutes on a busy machine: `make test-all`. The
# tiny run in tests/raytrain/pipeline trains on the same wiring in `make test`.
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        # a worker cannot import the modules of a test
        ray.cloudpickle.register_pickle_by_value(gated_store)
        try:
            yield
        finally:
            ray.cloudpickle.unregister_pickle_by_value(gated_store)
            ray.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("run"), workers=2)


class Recorder:
    def __init__(self):
        self.events, self.progress = [], []

    def event(self, kind, message, **fields):
        self.events.append((kind, message, fields))

    def kinds(self):
        return [kind for kind, _, _ in self.events]


def go(run, recorder, **options):
    return train(
        run.job,
        store=options.pop("store", run.store),
        attempt=options.pop("attempt", None) or run.attempt(),
        shard_set=run.shard_set,
        model_folder=run.model_folder,
        cache=run.cache,
        on_progress=recorder.progress.append,
        on_event=recorder.event,
        **options,
    )


def weights(run, step):
    (ref,) = [r for r in committed_checkpoints(run.store, run.layout) if r.step == step]
    return load_file(run.store.path(f"{ref.prefix}/{WEIGHTS_FILE}"))


def close(one, other, tolerance):
    return max((one[name] - other[name]).abs().max().item() for name in one) <= tolerance


@pytest.fixture(scope="module")
def undisturbed(cluster, run):
    run = run.named("undisturbed")
    recorder = Recorder()
    return run, go(run, recorder), recorder


def test_two_workers_train_to_the_end(undisturbed, tmp_path):
    run, result, recorder = undisturbed
    assert (result.step, result.interrupted) == (6, False)
    assert [r.step for r in result.checkpoints] == [6, 4, 2]
    assert recorder.kinds() == ["TrainingStarted"] + ["CheckpointCommitted"] * 3
    assert recorder.events[0][2] == {"step": 0, "workers": 2}
    last = recorder.progress[-1]
    assert (last.step, last.steps, last.eta_seconds) == (6, 6, 0)
    lines = read_segments(run.store, run.layout, "metrics")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert last.loss == lines[-1]["loss"]
    manifest = read_manifest(run.store, result.checkpoints[0].prefix)
    assert manifest.body["tokens"] == last.tokens == sum(n["source_tokens"] + n["target_tokens"] for n in lines)
    assert manifest.body["shard_set"] == run.shard_set.digest
    assert {"torch", "ray", "transformers", "raytrain"} == manifest.body["versions"].keys()
    model = load(fetch_files(run.store, result.checkpoints[0], tmp_path), tokenizer_size=1)
    assert model.shared.num_embeddings >= run.shard_set.tokenizer.size
    logs = [stat.key for stat in run.store.list(f"{run.layout.root}/logs/")]
    assert logs == [run.layout.log(1, "rank-000"), run.layout.log(1, "rank-001")]


def test_two_workers_on_ray_are_one_worker_without_it(undisturbed):
    run, _, _ = undisturbed
    loader = DataLoader.open(run.job, run.shard_set, run.store, run.cache)
    model = load(run.model_folder, tokenizer_size=run.shard_set.tokenizer.size)
    trainer = Trainer(model, run.job.spec.training, loader.tasks)
    records = []
    with loader.batches(0, 6, worker=0, workers=1) as batches:
        for step, rows in batches:
            records.append(trainer.step(step, rows).record)
    lines = read_segments(run.store, run.layout, "metrics")
    assert [r.loss for r in records] == pytest.approx([line["loss"] for line in lines], rel=1e-5)
    assert [r.target_tokens_by_task for r in records] == [line["target_tokens_by_task"] for line in lines]
    alone = {name: parameter.detach() for name, parameter in model.named_parameters()}
    assert close(alone, weights(run, 6), 1e-4)


def test_a_killed_worker_changes_no_weight(undisturbed, tmp_path):
    """The first worker is killed while it commits the checkpoint of step 4."""
    calm, _, _ = undisturbed
    run, recorder = calm.named("killed"), Recorder()
    store = gated_store.GatedStore(run.store.root, "step-000004-a01/manifest.json", tmp_path)

    def kill_who_waits():
        pid = store.waiting()
        if pid is not None and not (tmp_path / "open").exists():
            os.kill(pid, signal.SIGKILL)
            store.open()
        return False

    result = go(run, recorder, store=store, stop=kill_who_waits)
    assert (result.step, result.interrupted) == (6, False)
    restarted = [(message, fields) for kind, message, fields in recorder.events if kind == "WorkerRestarted"]
    assert [fields for _, fields in restarted] == [{"step": 2, "workers": 2}]
    assert "from the checkpoint of step 2" in restarted[0][0]
    assert [r.step for r in committed_checkpoints(run.store, run.layout)] == [6, 4, 2]
    for step in (2, 4, 6):
        one, other = weights(run, step), weights(calm, step)
        assert all(torch.equal(one[name], other[name]) for name in one)
    ours, theirs = (read_segments(r.store, r.layout, "metrics") for r in (run, calm))
    assert [line["loss"] for line in ours] == [line["loss"] for line in theirs]


def test_a_hanging_worker_is_found_and_the_others_log_their_stacks(undisturbed, tmp_path):
    """The first worker is stopped (not killed) while it commits the checkpoint of step 2.

    The checkpoint of step 4 has to wait for it, and so has the other worker at step 5; its watchdog
    waits until the first one's notice that it waits for the store has expired.
    """
    calm, _, _ = undisturbed
    run, recorder = calm.named("hangs", hang_timeout_seconds=3.0), Recorder()
    store = gated_store.GatedStore(run.store.root, "step-000002-a01/manifest.json", tmp_path)

    def stop_who_waits():
        pid = store.waiting()
        if pid is not None and not (tmp_path / "open").exists():
            time.sleep(3)  # until everybody is where they wait
            os.kill(pid, signal.SIGSTOP)
            store.open()
        return False

    result = go(run, recorder, store=store, stop=stop_who_waits)
    assert (result.step, result.interrupted) == (6, False)
    (hang,) = [fields for kind, _, fields in recorder.events if kind == "WorkerHangs"]
    assert hang["rank"] == 1
    assert hang["seconds"] >= 3.0
    assert "WorkerRestarted" in recorder.kinds()
    log = run.store.get(run.layout.log(1, "rank-001")).decode()
    assert "has made no progress" in log
    assert "all_reduce" in log
    one, other = weights(run, 6), weights(calm, 6)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_only_worker_hangs(cluster, run, tmp_path, monkeypatch):
    """Nobody is left to log its stacks: Ray finds it by its silence, within a set time."""
    monkeypatch.setenv("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", "10")
    alone = with_workers(run.named("hangs-alone"), 1)
    store, recorder = gated_store.GatedStore(run.store.root, "step-000004-a01/manifest.json", tmp_path), Recorder()

    def stop_who_waits():
        pid = store.waiting()
        if pid is not None and not (tmp_path / "open").exists():
            os.kill(pid, signal.SIGSTOP)
            store.open()
        return False

    assert go(alone, recorder, store=store, stop=stop_who_waits).step == 6
    assert "WorkerRestarted" in recorder.kinds()


def test_adapters_survive_a_stop(cluster, run):
    """Adapters, their average and optimizer are restored: as if never stopped."""
    lora = {"method": "lora", "lora": Lora(rank=2), "ema": 0.5, "learning_rate": 0.02, "checkpoint_every": 3}
    calm, stopped, recorder = run.named("lora-calm", **lora), run.named("lora-stopped", **lora), Recorder()
    go(calm, recorder)
    assert go(stopped, recorder, stop=lambda: True).interrupted
    assert go(stopped, recorder).step == 6
    one, other = weights(calm, 6), weights(stopped, 6)
    assert all(torch.equal(one[name], other[name]) for name in one)
    base = load(run.model_folder, tokenizer_size=run.shard_set.tokenizer.size)
    assert one.keys() == dict(base.named_parameters()).keys()


def with_workers(run, workers):
    spec = run.job.spec
    training = spec.resources.training.model_copy(update={"workers": workers})
    resources = spec.resources.model_copy(update={"training": training})
    job = run.job.model_copy(update={"spec": spec.model_copy(update={"resources": resources})})
    return dataclasses.replace(run, job=job)


def test_stopped_damaged_and_resumed_with_another_number_of_workers(undisturbed):
    calm, _, _ = undisturbed
    run, recorder = calm.named("stopped"), Recorder()
    result = go(run, recorder, stop=lambda: True)
    assert (result.step, result.interrupted) == (1, True)
    (whole,) = result.checkpoints
    damaged = RunLayout("stopped").checkpoint(3, 1)
    shutil.copytree(run.store.path(whole.prefix), run.store.path(damaged))
    path = run.store.path(f"{damaged}/{WEIGHTS_FILE}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))

    alone, recorder = with_workers(run, 1), Recorder()
    resumed = go(alone, recorder)
    assert (resumed.step, resumed.interrupted) == (6, False)
    assert recorder.kinds()[:2] == ["CheckpointUnusable", "TrainingStarted"]
    assert (recorder.events[0][2]["step"], WEIGHTS_FILE in recorder.events[0][1]) == (3, True)
    assert recorder.events[1][1] == "training starts with 1 worker from the checkpoint of step 1"
    assert resumed.checkpoints[0].attempt == 2
    assert close(weights(run, 6), weights(calm, 6), 1e-4)
    ours, theirs = (read_segments(r.store, r.layout, "metrics") for r in (run, calm))
    assert [line["step"] for line in ours] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=1e-5)


def test_zero_steps_leave_the_base_as_a_checkpoint(cluster, run):
    run, recorder = run.named("zero", steps=0), Recorder()
    result = go(run, recorder)
    assert (result.step, [r.step for r in result.checkpoints]) == (0, [0])
    base = load(run.model_folder, tokenizer_size=run.shard_set.tokenizer.size)
    found = weights(run, 0)
    assert all(torch.equal(found[name], parameter) for name, parameter in base.named_parameters())


def test_a_newer_attempt_ends_this_one_before_it_writes(cluster, run):
    run, recorder = run.named("overtaken"), Recorder()
    attempt = run.attempt()
    run.attempt()
    with pytest.raises(SupersededError, match="run overtaken: attempt 2"):
        go(run, recorder, attempt=attempt)
    assert committed_checkpoints(run.store, RunLayout("overtaken")) == []
    assert "WorkerRestarted" not in recorder.kinds()


def test_old_checkpoints_are_removed_but_for_those_that_are_needed(cluster, run):
    run, recorder = run.named("pruned", keep_checkpoints=1, checkpoint_every=1), Recorder()
    result = go(run, recorder, keep=lambda: {2})
    assert [r.step for r in result.checkpoints] == [6, 2]
