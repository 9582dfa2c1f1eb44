"""Taking a model out to a hub: private, in one commit, resumed, tagged, refused in its words."""

import pytest

from raytrain.export.bundle import LISTING
from raytrain.export.hub import push
from raytrain.export.placing import HubPlace
from raytrain_core.errors import StorageError, UsageError
from tests.support.model_hub import TOKEN


@pytest.fixture
def to_hub(bundle_of, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bundle = bundle_of()

    def export(repo="org/model", *, force=False, **options):
        return push(bundle, HubPlace(repo, **options), force=force)

    return export


def test_a_private_repository_with_branch_and_tag_in_one_commit(to_hub, hub):
    placed = to_hub(tag="v1")
    repository = hub.repositories["org/model"]
    assert repository.private
    assert len(repository.commits) == 2  # the hub's own first one, and the export
    files = repository.commits[repository.tags["v1"]]
    assert files.keys() == {".gitattributes", "config.json", "model.safetensors", "README.md", LISTING}
    assert files["model.safetensors"] == b"weights" * 99
    assert "created as a private repository" in placed.notes

    assert to_hub(tag="v1").written == ()  # verified, nothing to do
    assert len(repository.commits) == 2
    to_hub(branch="trial")
    assert repository.branches.keys() == {"main", "trial"}


def test_an_interrupted_upload_is_continued(to_hub, hub):
    hub.refuse_uploads = True
    with pytest.raises(StorageError, match="Storage quota exceeded"):
        to_hub()
    assert len(hub.repositories["org/model"].commits) == 1
    hub.refuse_uploads = False
    to_hub()
    uploaded = len(hub.uploads())
    # The repository is made anew, but the hub has kept the large file.
    del hub.repositories["org/model"]
    to_hub()
    assert len(hub.uploads()) == uploaded


def test_other_content_is_replaced_only_by_force(to_hub, hub):
    hub.add("org/model", {"README.md": b"mine", ".gitattributes": b""}, private=True)
    with pytest.raises(UsageError, match=r"other content than the export: README\.md"):
        to_hub()
    assert "README.md" in to_hub(force=True).written


def test_a_public_repository_needs_to_be_named_so(to_hub, hub):
    hub.add("org/model", {".gitattributes": b""})
    with pytest.raises(UsageError, match="is public: everybody could read"):
        to_hub()
    assert to_hub(public=True).written


def test_a_tag_is_not_moved_without_force(to_hub, hub):
    old = hub.add("org/model", {".gitattributes": b""}, private=True)
    hub.repositories["org/model"].tags["v1"] = old
    with pytest.raises(UsageError, match="tag v1 names another commit"):
        to_hub(tag="v1")
    to_hub(tag="v1", force=True)
    assert hub.repositories["org/model"].tags["v1"] != old


def test_refused_in_the_hubs_own_words_without_the_token(to_hub, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "w" * 20)
    with pytest.raises(StorageError, match=r"Invalid username or password") as refused:
        to_hub()
    assert "HF_TOKEN" in str(refused.value)
    assert "w" * 20 not in str(refused.value)


def test_files_of_an_earlier_export_do_not_stay(hub, bundle_of, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    place = HubPlace("org/model")
    push(bundle_of(**{"model.bin": b"old"}), place, force=False)
    with pytest.raises(UsageError, match=r"files of an earlier export: model\.bin"):
        push(bundle_of(), place, force=False)
    assert push(bundle_of(), place, force=True).removed == ("model.bin",)
    repository = hub.repositories["org/model"]
    assert "model.bin" not in repository.commits[repository.branches["main"]]
