"""Checkpoints exist once their manifest does, and fall back to the one before if damaged."""

import threading

import pytest
import torch

from raytrain.config.run_layout import RunLayout
from raytrain.model.export import write_config
from raytrain.model.loading import load
from raytrain.model.source import WEIGHTS_FILE
from raytrain.runs.checkpoints import CommittedCheckpoint, committed_checkpoints
from raytrain.telemetry.attempts import Attempt, SupersededError
from raytrain.training.checkpoint import (
    OPTIMIZER_FILE,
    Position,
    Snapshot,
    fetch_files,
    fetch_newest,
    manifest_of,
    newest,
    position_of,
    prune,
    read_optimizer,
)
from raytrain.training.checkpoint_writer import MAX_FAILURES, CheckpointOrigin, CheckpointWriter, write_checkpoint
from raytrain_core.errors import DataError, StorageError, TrainingError
from raytrain_core.storage import CorruptError, open_store
from raytrain_core.storage.commit import MANIFEST
from tests.support.tiny_t5 import VOCABULARY, logits, state, tiny_model

LAYOUT = RunLayout("tiny")


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "storage"))


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=3)


@pytest.fixture
def origin(model, tmp_path):
    files = write_config(model, tmp_path / "config")
    return CheckpointOrigin(
        2, {"identity": "abc", "versions": {"torch": "x"}}, {n: p.read_bytes() for n, p in files.items()}
    )


def snapshot(model, step=4):
    weights = {name: tensor.clone() for name, tensor in state(model).items()}
    optimizer = {"exp_avg_sq_row/shared.weight": torch.full((3,), float(step)), "step/shared.weight": torch.tensor(5.0)}
    return Snapshot(Position(step, 1000 * step, 10 * step), 8 * step, weights, optimizer, {"step/lm_head.weight": 7})


def commit_steps(store, origin, model, *steps):
    return [write_checkpoint(store, LAYOUT, origin, snapshot(model, step)) for step in steps]


def spoil(store, ref, name, how):
    path = store.path(f"{ref.prefix}/{name}")
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def test_what_is_written_comes_back(store, origin, model, tmp_path):
    ref = write_checkpoint(store, LAYOUT, origin, snapshot(model))
    assert ref == CommittedCheckpoint(4, 2, "runs/tiny/checkpoints/step-000004-a02")
    manifest = manifest_of(store, ref)
    assert manifest.body == {
        "kind": "checkpoint",
        "step": 4,
        "attempt": 2,
        "next_row": 32,
        "tokens": 4000,
        "examples": 40,
        "identity": "abc",
        "versions": {"torch": "x"},
    }
    assert position_of(manifest) == Position(4, 4000, 40)
    found, folder = fetch_newest(store, LAYOUT, tmp_path / "fetched")
    assert found == newest(store, LAYOUT) == ref
    tensors, numbers = read_optimizer(folder / OPTIMIZER_FILE)
    expected = snapshot(model)
    assert tensors.keys() == expected.optimizer.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.optimizer.items())
    assert numbers == expected.optimizer_numbers


def test_its_weights_are_a_model(store, origin, model, tmp_path):
    ref = write_checkpoint(store, LAYOUT, origin, snapshot(model))
    names = [entry.name for entry in manifest_of(store, ref).files if entry.name != OPTIMIZER_FILE]
    folder = fetch_files(store, ref, tmp_path / "model", names)
    assert not (folder / OPTIMIZER_FILE).exists()
    loaded = load(folder, tokenizer_size=VOCABULARY)
    assert torch.equal(logits(loaded), logits(model))


def test_newest_is_by_step_then_attempt(store, origin, model):
    commit_steps(store, origin, model, 4, 10, 2)
    older = CheckpointOrigin(1, origin.body, origin.config)
    commit_steps(store, older, model, 10, 8)
    assert [(r.step, r.attempt) for r in committed_checkpoints(store, LAYOUT)] == [
        (10, 2),
        (10, 1),
        (8, 1),
        (4, 2),
        (2, 2),
    ]
    assert newest(store, LAYOUT).step == 10


def test_without_a_manifest_there_is_nothing(store, origin, model):
    (ref,) = commit_steps(store, origin, model, 4)
    store.delete([f"{ref.prefix}/{MANIFEST}"])
    assert committed_checkpoints(store, LAYOUT) == []
    assert newest(store, LAYOUT) is None
    with pytest.raises(CorruptError, match="its manifest is missing"):
        manifest_of(store, ref)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, OPTIMIZER_FILE])
@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
def test_the_one_before_takes_the_place_of_a_broken_one(store, origin, model, tmp_path, name, how):
    before, after = commit_steps(store, origin, model, 4, 6)
    spoil(store, after, name, how)
    outcomes = []
    ref, folder = fetch_newest(store, LAYOUT, tmp_path / "fetched", lambda ref, why: outcomes.append((ref, why)))
    assert ref == before
    assert position_of(manifest_of(store, ref)).step == 4
    assert (folder / WEIGHTS_FILE).is_file()
    assert [ref for ref, _ in outcomes] == [after]
    assert name in outcomes[0][1]
    if how != "flipped":  # that takes reading it
        assert newest(store, LAYOUT) == before


def test_a_broken_manifest_is_passed_over(store, origin, model):
    before, after = commit_steps(store, origin, model, 4, 6)
    spoil(store, after, MANIFEST, "truncated")
    assert newest(store, LAYOUT) == before


def test_all_of_several_are_damaged(store, origin, model, tmp_path):
    for ref in commit_steps(store, origin, model, 4, 6):
        spoil(store, ref, WEIGHTS_FILE, "flipped")
    with pytest.raises(DataError, match="run tiny: all of its 2 checkpoints"):
        fetch_newest(store, LAYOUT, tmp_path / "fetched")
    for ref in committed_checkpoints(store, LAYOUT):
        spoil(store, ref, WEIGHTS_FILE, "truncated")
    with pytest.raises(DataError, match="all of its 2 checkpoints"):
        newest(store, LAYOUT)


def test_the_only_one_is_broken_training_starts_over(store, origin, model, tmp_path):
    (ref,) = commit_steps(store, origin, model, 4)
    spoil(store, ref, WEIGHTS_FILE, "flipped")
    outcomes = []
    assert fetch_newest(store, LAYOUT, tmp_path, lambda ref, why: outcomes.append(ref)) is None
    assert outcomes == [ref]


def test_the_same_step_can_be_committed_again(store, origin, model, tmp_path):
    (ref,) = commit_steps(store, origin, model, 4)
    spoil(store, ref, WEIGHTS_FILE, "flipped")
    assert commit_steps(store, origin, model, 4) == [ref]
    assert fetch_newest(store, LAYOUT, tmp_path)[0] == ref


def test_many_may_fetch_at_once(store, origin, model, tmp_path):
    (ref,) = commit_steps(store, origin, model, 4)
    found = []
    fetchers = [
        threading.Thread(target=lambda: found.append(fetch_files(store, ref, tmp_path / "shared"))) for _ in range(6)
    ]
    for thread in fetchers:
        thread.start()
    for thread in fetchers:
        thread.join()
    assert found == [tmp_path / "shared" / "step-000004-a02"] * 6
    assert (found[0] / WEIGHTS_FILE).read_bytes() == store.path(f"{ref.prefix}/{WEIGHTS_FILE}").read_bytes()


def test_weights_that_are_not_finite_are_not_kept(store, origin, model):
    broken = snapshot(model)
    broken.weights["shared.weight"][3, 3] = float("inf")
    with pytest.raises(TrainingError, match=r"step 4: shared.weight has values that are not finite"):
        write_checkpoint(store, LAYOUT, origin, broken)
    assert list(store.list("runs/")) == []


def test_pruning_keeps_the_newest_and_the_named(store, origin, model):
    commit_steps(store, origin, model, 2, 4, 6, 8, 10)
    removed = prune(store, LAYOUT, last=2, keep={4})
    assert [r.step for r in removed] == [6, 2]
    assert [r.step for r in committed_checkpoints(store, LAYOUT)] == [10, 8, 4]
    assert not list(store.list(f"{LAYOUT.checkpoints}/step-000006"))
    assert prune(store, LAYOUT, last=2, keep={4}) == []


def test_pruning_keeps_the_newest_attempt_of_a_step(store, origin, model):
    commit_steps(store, CheckpointOrigin(1, {}, {}), model, 4)
    commit_steps(store, origin, model, 4)
    prune(store, LAYOUT, last=3)
    assert [(r.step, r.attempt) for r in committed_checkpoints(store, LAYOUT)] == [(4, 2)]


class Flaky:
    """A store whose next `failures` uploads are refused."""

    def __init__(self, store, failures):
        self._store, self.failures = store, failures

    def __getattr__(self, name):
        return getattr(self._store, name)

    def upload(self, *args, **options):
        if self.failures:
            self.failures -= 1
            raise StorageError("the bucket does not answer")
        return self._store.upload(*args, **options)


class Outcomes:
    def __init__(self):
        self.committed, self.failed = [], []

    def writer(self, store, origin, guard=lambda: None):
        return CheckpointWriter(
            store,
            LAYOUT,
            origin,
            guard=guard,
            on_committed=lambda ref: self.committed.append(ref.step),
            on_failed=lambda step, why: self.failed.append((step, why)),
        )


def test_the_writer_works_while_training_goes_on(store, origin, model):
    outcomes, release, at_guard = Outcomes(), threading.Event(), threading.Event()

    def guard():
        at_guard.set()
        assert release.wait(30)

    writer = outcomes.writer(store, origin, guard)
    writer.save(snapshot(model, 2))
    assert at_guard.wait(30)  # `save` has returned, and the checkpoint is not there yet
    assert committed_checkpoints(store, LAYOUT) == []
    release.set()
    writer.save(snapshot(model, 4))
    assert 2 in outcomes.committed
    writer.finish()
    assert outcomes.committed == [2, 4]
    assert [r.step for r in committed_checkpoints(store, LAYOUT)] == [4, 2]


def test_a_checkpoint_that_cannot_be_stored_is_reported_and_tolerated(store, origin, model):
    outcomes = Outcomes()
    writer = outcomes.writer(Flaky(store, 1), origin)
    for step in (2, 4):
        writer.save(snapshot(model, step))
    writer.finish()
    assert outcomes.failed == [(2, "the bucket does not answer")]
    assert [r.step for r in committed_checkpoints(store, LAYOUT)] == [4]


def test_too_many_in_a_row_end_training(store, origin, model):
    outcomes = Outcomes()
    writer = outcomes.writer(Flaky(store, 100), origin)
    for step in range(MAX_FAILURES):
        writer.save(snapshot(model, step + 1))
    with pytest.raises(StorageError, match="does not answer"):
        writer.wait()
    assert len(outcomes.failed) == MAX_FAILURES - 1
    assert committed_checkpoints(store, LAYOUT) == []


def test_the_last_one_is_tried_again_and_then_it_is_an_error(store, origin, model):
    outcomes = Outcomes()
    writer = outcomes.writer(Flaky(store, 1), origin)
    writer.save(snapshot(model, 2))
    writer.finish()
    assert outcomes.committed == [2]
    writer = outcomes.writer(Flaky(store, 100), origin)
    writer.save(snapshot(model, 4))
    with pytest.raises(StorageError, match="does not answer"):
        writer.finish()
    assert [r.step for r in committed_checkpoints(store, LAYOUT)] == [2]


def test_an_attempt_that_was_taken_over_writes_nothing_more(store, origin, model):
    attempt = Attempt.begin(store, LAYOUT)
    outcomes = Outcomes()
    writer = outcomes.writer(store, origin, attempt.check)
    writer.save(snapshot(model, 2))
    writer.wait()
    Attempt.begin(store, LAYOUT)
    writer.save(snapshot(model, 4))
    with pytest.raises(SupersededError, match="attempt 2"):
        writer.wait()
    with pytest.raises(SupersededError):
        writer.raise_errors()
    assert [r.step for r in committed_checkpoints(store, LAYOUT)] == [2]


def test_no_room_for_scratch_files_is_a_storage_error(store, origin, model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot create a scratch folder"):
        write_checkpoint(store, LAYOUT, origin, snapshot(model))
