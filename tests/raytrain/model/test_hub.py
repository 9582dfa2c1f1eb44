"""Models of the hub at a revision: recorded, private, gated, behind a mirror."""

import dataclasses

import pytest

from raytrain.model.hub import commit_of
from raytrain.model.source import digest, resolve
from raytrain.pipeline import stages
from raytrain.runs.record import RunRecord, read_record, write_record
from raytrain_core.errors import TrainingError
from tests.support.model_hub import TOKEN
from tests.support.tiny_t5 import save_tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models: folders and their files."""
    folders = [save_tiny(tmp_path_factory.mktemp("models") / str(seed), seed=seed) for seed in (0, 1)]
    return [(folder, {path.name: path.read_bytes() for path in folder.iterdir()}) for folder in folders]


def fetch(uri, tmp_path):
    return resolve(uri, store=None, base_folder=tmp_path, cache=tmp_path / "cache")


def test_a_model_at_a_branch_a_tag_and_a_commit(hub, models, tmp_path):
    (first, files), (second, others) = models
    old = hub.add("org/tiny", files)
    hub.repositories["org/tiny"].tags["v1"] = old
    new = hub.repositories["org/tiny"].commit(others)
    assert digest(fetch("org/tiny", tmp_path)) == digest(second)
    assert digest(fetch("org/tiny@v1", tmp_path)) == digest(fetch(f"hf://org/tiny@{old}", tmp_path)) == digest(first)
    assert commit_of(fetch("org/tiny@main", tmp_path), tmp_path / "cache") == new
    with pytest.raises(TrainingError, match=r"the hub has org/tiny, but no revision v2"):
        fetch("org/tiny@v2", tmp_path)


def test_a_known_commit_is_read_without_asking_for_the_branch(hub, models, tmp_path):
    commit = hub.add("org/tiny", models[0][1])
    fetch("org/tiny", tmp_path)
    hub.asked.clear()
    assert digest(fetch(f"org/tiny@{commit}", tmp_path)) == digest(models[0][0])
    assert not any("/resolve/" in asked for asked in hub.asked)


def test_a_private_model_needs_a_token(hub, models, tmp_path, monkeypatch):
    hub.add("org/secret", models[0][1], private=True)
    with pytest.raises(TrainingError, match=r"Invalid username or password") as refused:
        fetch("org/secret", tmp_path)
    assert "HF_TOKEN" in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert digest(fetch("org/secret", tmp_path)) == digest(models[0][0])


def test_a_token_from_a_file(hub, models, tmp_path, monkeypatch):
    hub.add("org/secret", models[0][1], private=True)
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    assert digest(fetch("org/secret", tmp_path)) == digest(models[0][0])


def test_a_gated_model_refuses_with_the_hubs_own_sentence(hub, models, tmp_path, monkeypatch):
    hub.add("org/gated", models[0][1], gated=True)
    with pytest.raises(TrainingError, match=r"Access to model org/gated is restricted\. You must be authorized"):
        fetch("org/gated", tmp_path)


def test_a_wrong_token_is_never_repeated(hub, models, tmp_path, monkeypatch):
    hub.add("org/secret", models[0][1], private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "w" * 20)
    with pytest.raises(TrainingError) as refused:
        fetch("org/secret", tmp_path)
    assert "w" * 20 not in str(refused.value)


@dataclasses.dataclass
class Context:
    """What `fetch_model` uses of a run's context."""

    record: RunRecord
    store: object = None
    events: list = dataclasses.field(default_factory=list)

    @property
    def job(self):
        return self.record.job

    def phase(self, *args):
        pass

    def emit(self, kind, message, **fields):
        self.events.append((kind, message))


def test_a_moved_branch_is_told_and_the_run_goes_on_with_its_commit(hub, models, world, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    old = hub.add("org/tiny", models[0][1])
    spec = world.job.spec.model_copy(update={"model": "org/tiny@main"})
    job = world.job.model_copy(update={"spec": spec})
    started = stages.fetch_model(Context(RunRecord(job, tmp_path)))
    assert (started.revision, started.uri) == (old, f"org/tiny@{old}")
    record = RunRecord(job, tmp_path, "ab" * 32, started.digest, model_revision=started.revision)
    write_record(world.store, world.layout, record)
    assert read_record(world.store, world.layout).model_revision == old

    new = hub.repositories["org/tiny"].commit(models[1][1])
    context = Context(read_record(world.store, world.layout))
    resumed = stages.fetch_model(context)
    assert (resumed.digest, resumed.revision) == (started.digest, old)
    [(kind, message)] = context.events
    assert kind == "ModelMoved"
    assert f"main is now commit {new[:12]}" in message
    assert old[:12] in message


def test_the_revision_is_part_of_the_identity(world):
    def identity(model):
        spec = world.job.spec.model_copy(update={"model": model})
        return RunRecord(world.job.model_copy(update={"spec": spec}), world.folder).identity

    assert identity("org/tiny@v1") != identity("org/tiny@v2")
