"""Putting an export into a folder: verified, continued, and never over something else."""

import pytest

from raytrain.export.bundle import LISTING
from raytrain.export.stored import place
from raytrain_core.errors import StorageError, UsageError
from raytrain_core.storage import LocalStore, open_store


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def store(out):
    return open_store(str(out))


def test_the_same_export_again_verifies(bundle_of, store, out):
    first = place(bundle_of(), store, force=False)
    assert (out / LISTING).is_file()
    assert not (out / ".tmp").exists()
    again = place(bundle_of(), store, force=False)
    assert again.written == ()
    assert set(again.kept) == set(first.written) == {"config.json", "model.safetensors", "README.md"}


def test_an_interrupted_export_is_continued(bundle_of, store, out, monkeypatch):
    upload, done = LocalStore.upload, []

    def dying(self, key, path, **options):
        if len(done) == 2:
            raise StorageError("the disk is full")
        done.append(key)
        return upload(self, key, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "upload", dying)
        with pytest.raises(StorageError, match="disk is full"):
            place(bundle_of(), store, force=False)
    assert not (out / LISTING).exists()
    assert set(place(bundle_of(), store, force=False).kept) == set(done)
    assert (out / LISTING).is_file()


def test_other_content_is_replaced_only_by_force(bundle_of, store, out):
    place(bundle_of(), store, force=False)
    (out / "README.md").write_text("my own words")
    with pytest.raises(UsageError, match=r"other content than the export: README\.md"):
        place(bundle_of(), store, force=False)
    assert (out / "README.md").read_text() == "my own words"
    assert place(bundle_of(), store, force=True).written == ("README.md",)


def test_a_damaged_file_of_the_same_size_is_found(bundle_of, store, out):
    place(bundle_of(), store, force=False)
    (out / "model.safetensors").write_bytes(b"Weights" + b"weights" * 98)
    with pytest.raises(UsageError, match=r"model\.safetensors"):
        place(bundle_of(), store, force=False)


def test_files_of_an_earlier_export_do_not_stay(bundle_of, store, out):
    place(bundle_of(**{"model.bin": b"old"}), store, force=False)
    with pytest.raises(UsageError, match=r"files of an earlier export: model\.bin"):
        place(bundle_of(), store, force=False)
    assert place(bundle_of(), store, force=True).removed == ("model.bin",)
    assert not (out / "model.bin").exists()


@pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_model.bin", "model-00002-of-00002.safetensors"])
def test_never_beside_another_model(bundle_of, store, out, name):
    out.mkdir()
    (out / name).write_text("{}")
    with pytest.raises(UsageError, match="files of another model"):
        place(bundle_of(), store, force=True)
    assert [path.name for path in out.iterdir()] == [name]


def test_other_files_are_left_alone_and_counted(bundle_of, store, out):
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert place(bundle_of(), store, force=False).others == 1
    assert (out / "notes.txt").read_text() == "mine"
