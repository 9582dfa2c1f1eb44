import pytest

from raytrain_core.errors import StorageError
from raytrain_core.storage import LocalStore, StorageLocation, open_store
from raytrain_core.storage.probe import probe


class IgnoresConditions(LocalStore):
    def put(self, key, data, *, if_absent=False):
        super().put(key, data)


class ListsNothing(LocalStore):
    def list(self, prefix):
        return iter(())


@pytest.mark.parametrize(
    ("kind", "words"), [(IgnoresConditions, "ignores conditional writes"), (ListsNothing, "is not listed")]
)
def test_a_store_that_cannot_be_relied_on_is_refused(tmp_path, kind, words):
    with pytest.raises(StorageError, match=words):
        probe(kind(tmp_path))
    assert [stat.key for stat in LocalStore(tmp_path).list("")] == []


def test_it_clears_away_half_written_files(tmp_path):
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "left-by-a-killed-writer").write_bytes(b"half")
    probe(LocalStore(tmp_path))
    assert not list((tmp_path / ".tmp").iterdir())


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=str(tmp_path / "file")):
        probe(open_store(str(tmp_path / "file" / "storage")))


@pytest.mark.s3
def test_a_bucket_that_may_only_be_read_is_refused(s3_uri, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "reader-secret")
    with pytest.raises(StorageError, match="access denied: no permission to write"):
        probe(open_store(s3_uri))


@pytest.mark.s3
def test_it_is_less_patient_than_the_store(s3_uri, s3_proxy):
    s3_proxy.break_("reset", "PUT")
    with pytest.raises(StorageError, match="cannot be reached"):
        probe(open_store(StorageLocation(uri=s3_uri, endpoint=s3_proxy.endpoint)))
    assert len(s3_proxy.requests("PUT")) == 3
