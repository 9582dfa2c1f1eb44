"""A worker's life without Ray: set up, restore, train, finish, and what it emits on the way."""

import contextlib
import dataclasses
import types
from pathlib import Path

import pytest
import ray.train
import torch

from raytrain.config.identity import digest, identity
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain.telemetry.segments import read_segments
from raytrain.training.ray import reporting
from raytrain.training.ray.channel import Requests
from raytrain.training.ray.worker import train_worker
from raytrain.training.ray.worker_settings import WorkerSettings
from raytrain_core.errors import UserError
from tests.support.tiny_run import tiny_run


class Channel:
    """The channel in this process.

    A stop is requested after `stop_after` steps, a checkpoint after `checkpoint_after`.
    """

    def __init__(self, stop_after=None, checkpoint_after=None):
        self.events, self.progress, self.failures, self.starts, self._left = [], [], [], 0, stop_after
        self._looks, self._checkpoint_after, self.checkpointed_requests = 0, checkpoint_after, []

    def has_failed(self):
        return any(final for _, final in self.failures)

    def begin_group(self):
        self.starts += 1
        return self.starts

    def fail(self, error, *, final):
        self.failures.append((error, final))

    def emit(self, kind, message, **fields):
        self.events.append((kind, message, fields))

    def emit_progress(self, progress):
        self.progress.append(progress)

    def flush(self):
        pass

    def storing(self):
        return contextlib.nullcontext()

    def end_group(self):
        pass

    def checkpointed(self, request):
        self.checkpointed_requests.append(request)

    def request_signal(self):
        return types.SimpleNamespace(latest=self._latest)

    def _latest(self):
        looks, self._looks = self._looks, self._looks + 1  # the first one is before the first step
        if self._left is not None and looks:
            self._left -= 1
        wanted = self._checkpoint_after is not None and looks >= self._checkpoint_after
        return Requests(stop=self._left is not None and self._left <= 0, checkpoint=int(wanted))


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Ray Train's context of a worker that is alone, and no gauges."""
    context = types.SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1, get_local_world_size=lambda: 1)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    gauges = types.SimpleNamespace(show_step=lambda record: None, checkpoint_committed=lambda step: None)
    monkeypatch.setattr(reporting, "Gauges", lambda *args, **options: gauges)


def settings_of(run, channel):
    return WorkerSettings(
        job=run.job,
        store=run.store,
        layout=run.layout,
        attempt=run.attempt(),
        identity=digest(identity(run.job)),
        shard_set=run.shard_set.digest,
        model_folder=run.model_folder,
        cache=run.cache,
        channel=channel,
    )


def kinds(channel):
    return [kind for kind, _, _ in channel.events]


def test_from_set_up_to_the_last_checkpoint_and_again_from_a_stop(tmp_path):
    run = tiny_run(tmp_path, workers=1).named("alone", device="cpu")
    channel = Channel(stop_after=3)
    assert train_worker(settings_of(run, channel)) == (3, True)
    assert kinds(channel) == ["TrainingStarted", "CheckpointCommitted", "CheckpointCommitted"]
    assert channel.events[0][1] == "training starts with 1 worker from the base model"
    assert [ref.step for ref in committed_checkpoints(run.store, run.layout)] == [3, 2]
    channel._left = None
    assert train_worker(settings_of(run, channel)) == (6, False)
    assert channel.events[3][1] == "training resumes with 1 worker from the checkpoint of step 3"
    assert [ref.step for ref in committed_checkpoints(run.store, run.layout)] == [6, 4, 3, 2]
    assert [line["step"] for line in read_segments(run.store, run.layout, "metrics")] == [1, 2, 3, 4, 5, 6]
    assert (channel.progress[-1].step, channel.progress[-1].steps) == (6, 6)


def test_a_run_that_another_version_started_goes_on_under_the_identity_it_recorded(tmp_path):
    run = tiny_run(tmp_path, workers=1).named("older", device="cpu")
    channel = Channel(stop_after=3)
    older = dataclasses.replace(settings_of(run, channel), identity="digest of an older version")
    assert train_worker(older) == (3, True)
    channel._left = None
    assert train_worker(older) == (6, False)
    assert channel.events[3][1] == "training resumes with 1 worker from the checkpoint of step 3"


def test_a_checkpoint_that_the_driver_asks_for_is_taken_once_and_told(tmp_path):
    run = tiny_run(tmp_path, workers=1).named("asked", device="cpu", checkpoint_every=6)
    channel = Channel(checkpoint_after=3)
    assert train_worker(settings_of(run, channel)) == (6, False)
    assert [ref.step for ref in committed_checkpoints(run.store, run.layout)] == [6, 3]
    assert channel.checkpointed_requests == [1, 1]  # the last one is taken after the request too


def test_the_start_says_what_precision_auto_became(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    run = tiny_run(tmp_path, workers=1).named("auto", device="cpu", precision="auto")
    channel = Channel()
    assert train_worker(settings_of(run, channel)) == (6, False)
    assert channel.events[0][1] == (
        "training starts with 1 worker from the base model, precision fp32, because this CPU lacks native bf16"
    )


def test_a_final_error_is_recorded_and_ends_later_groups(tmp_path):
    run = tiny_run(tmp_path, workers=1).named("broken", device="cpu")
    channel = Channel()
    settings = settings_of(run, channel)
    for ref in run.store.list("shards/parts/"):
        Path(run.store.path(ref.key)).write_bytes(b"damaged")
    with pytest.raises(UserError) as raised:
        train_worker(settings)
    assert channel.failures == [(raised.value, True)]
    assert train_worker(settings) is None
