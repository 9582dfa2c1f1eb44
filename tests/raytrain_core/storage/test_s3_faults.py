"""A real S3 server behind a proxy that breaks requests.

What is reported as stored is stored, damage is noticed.
"""

import os
import pickle
import time

import botocore.retries.standard
import pytest

from raytrain_core.errors import StorageError
from raytrain_core.storage import (
    AlreadyExistsError,
    CorruptError,
    NotFoundError,
    StorageLocation,
    open_store,
    s3_client,
)
from raytrain_core.storage.commit import commit, read_manifest

pytestmark = pytest.mark.s3
PART = 5 << 20  # the smallest part that S3 allows


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Retries follow each other at once (their number is what is tested), and parts are small."""
    backoff = botocore.retries.standard.ExponentialBackoff
    monkeypatch.setattr(backoff, "delay_amount", lambda self, context: 0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr("raytrain_core.storage.s3.PART", PART)


@pytest.fixture
def store(s3_uri, s3_proxy):
    return open_store(StorageLocation(uri=s3_uri, endpoint=s3_proxy.endpoint))


@pytest.fixture
def direct(s3, s3_uri):
    """The same place, past the proxy."""
    return open_store(StorageLocation(uri=s3_uri, endpoint=s3.endpoint))


@pytest.fixture(scope="module")
def big_file(tmp_path_factory):
    """Three parts, all different."""
    path = tmp_path_factory.mktemp("big") / "file"
    path.write_bytes(b"".join(bytes([number]) + os.urandom(999) for number in range(256)) * 45)
    assert 2 * PART < path.stat().st_size < 3 * PART
    return path


@pytest.mark.parametrize("fault", ["slow-down", "reset"])
def test_transient_errors_are_survived(store, s3_proxy, fault, big_file, tmp_path):
    s3_proxy.break_(fault, "PUT", count=6)
    s3_proxy.break_(fault, "GET", count=6)
    s3_proxy.break_(fault, "POST", count=2)
    s3_proxy.break_(fault, "HEAD", count=2)
    store.put("small", b"hello")
    assert s3_proxy.requests("PUT", "small") == [fault] * 6 + [None]
    assert store.get("small") == b"hello"
    store.upload("big", big_file)
    store.download("big", tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == big_file.read_bytes()
    assert [stat.key for stat in store.list("")] == ["big", "small"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("denied", "access denied: no permission to write"),
        ("expired", "the credentials have expired"),
        ("full", "is full"),
    ],
)
def test_lasting_refusals_become_one_sentence(store, s3, s3_proxy, fault, words):
    s3_proxy.break_(fault, "PUT")
    with pytest.raises(StorageError, match=words) as error:
        store.put("k", b"x")
    message = str(error.value)
    assert store.bucket in message
    assert s3_proxy.endpoint in message
    assert s3.secret_key not in message
    assert s3.access_key not in message
    assert message.count("\n") <= 1
    if fault != "full":
        assert "AWS_ACCESS_KEY_ID" in message or fault == "full"  # where the credentials came from
        assert len(s3_proxy.requests("PUT")) == 1  # asking again would not help


def test_a_store_that_stays_overloaded_is_given_up(store, s3_proxy):
    s3_proxy.break_("slow-down", "PUT")
    with pytest.raises(StorageError, match="kept answering 503 SlowDown when asked to write"):
        store.put("k", b"x")
    assert 10 <= len(s3_proxy.requests("PUT")) <= s3_client.ATTEMPTS


@pytest.mark.parametrize("fault", ["slow-down", "reset"])
def test_retries_end_with_the_deadline(store, s3_proxy, fault, monkeypatch):
    monkeypatch.setattr(s3_client, "DEADLINE_SECONDS", 0.0)
    s3_proxy.break_(fault, "PUT")
    with pytest.raises(
        StorageError, match="kept answering 503 SlowDown" if fault == "slow-down" else "cannot be reached"
    ):
        store.put("k", b"x")
    assert len(s3_proxy.requests("PUT")) == 1


@pytest.mark.parametrize("fault", ["slow-down", "denied", "full", "reset", "swallowed"])
@pytest.mark.parametrize("request_", ["partNumber=2", "uploadId"], ids=["one part", "completing"])
def test_a_failed_upload_is_never_reported_as_stored(store, direct, s3, s3_proxy, big_file, fault, request_):
    method = "PUT" if "part" in request_ else "POST"
    s3_proxy.break_(fault, method, request_)
    with pytest.raises(StorageError):
        store.upload("big", big_file)
    assert s3_proxy.requests(method, request_)[0] == fault
    assert direct.stat("big") is None
    assert list(direct.list("")) == []
    assert "Uploads" not in s3.client().list_multipart_uploads(Bucket=store.bucket)  # aborted


def test_a_commit_with_a_failed_upload_is_invisible(store, direct, s3_proxy, big_file):
    s3_proxy.break_("denied", "PUT", "partNumber=3")
    with pytest.raises(StorageError):
        commit(store, "thing", {"a": b"1", "model": big_file}, {})
    assert read_manifest(direct, "thing") is None
    s3_proxy.heal()
    manifest = commit(store, "thing", {"a": b"1", "model": big_file}, {})
    assert read_manifest(direct, "thing") == manifest


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_an_object_that_was_acknowledged_but_not_stored_is_noticed(store, direct, s3_proxy, size):
    s3_proxy.break_("swallowed", "PUT")
    with pytest.raises(CorruptError, match="not there"):
        store.put("k", b"x" * size)
    assert direct.stat("k") is None


@pytest.mark.parametrize("large", [False, True])
def test_a_damaged_upload_is_sent_again(store, direct, s3_proxy, large, big_file, tmp_path):
    source = big_file
    if not large:
        source = tmp_path / "small"
        source.write_bytes(b"0123456789" * 1000)
    s3_proxy.break_("flipped-request", "PUT", "/k", count=2)
    store.upload("k", source)
    assert s3_proxy.requests("PUT", "/k").count("flipped-request") == 2
    direct.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    s3_proxy.break_("flipped-request", "PUT", "/never")
    with pytest.raises(CorruptError, match="arrived damaged"):
        store.upload("never", source)
    assert direct.stat("never") is None


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("fault", ["flipped", "truncated"])
def test_a_damaged_download_is_asked_for_again_and_never_delivered(
    store, direct, s3_proxy, fault, large, big_file, tmp_path
):
    source = big_file
    if not large:
        source = tmp_path / "small"
        source.write_bytes(b"0123456789" * 1000)
    stored = direct.upload("k", source)
    s3_proxy.break_(fault, "GET", count=2)
    store.download("k", tmp_path / "out", sha256=stored.sha256)
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert s3_proxy.requests("GET").count(fault) == 2
    s3_proxy.break_(fault, "GET")
    with pytest.raises(CorruptError if fault == "flipped" else StorageError, match=r"raytrain/k"):
        store.download("k", tmp_path / "never", sha256=stored.sha256)
    assert not (tmp_path / "never").exists()
    assert not list(tmp_path.glob(".*"))
    if not large:
        with pytest.raises(StorageError, match=r"raytrain/k"):
            store.get("k")


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_lost_answer_does_not_make_the_winner_a_loser(store, direct, s3_proxy, method, big_file):
    """The conditional write succeeds, its answer is lost, the retry is refused.

    It was ours all the same.
    """
    s3_proxy.break_("lost-answer", method, r"/k(\?uploadId|$)", count=1)
    if method == "PUT":
        store.put("k", b"mine", if_absent=True)
        assert direct.get("k") == b"mine"
    else:
        assert store.upload("k", big_file, if_absent=True).bytes == direct.stat("k").bytes
    assert s3_proxy.requests(method, r"/k(\?uploadId|$)")[:2] == ["lost-answer", None]
    with pytest.raises(AlreadyExistsError):
        store.put("k", b"late", if_absent=True)


def test_rotated_credentials_are_picked_up(s3, s3_uri, s3_proxy, monkeypatch, tmp_path):
    file = tmp_path / "credentials"

    def write(secret):
        file.write_text(f"[default]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {secret}\n")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write("canary-wrong-secret")
    store = open_store(StorageLocation(uri=s3_uri, endpoint=s3_proxy.endpoint))
    with pytest.raises(StorageError, match=r"credentials are wrong.*shared credentials file") as error:
        store.put("k", b"x")
    assert "canary" not in str(error.value)
    write(s3.secret_key)
    store.put("k", b"x")
    s3_proxy.break_("expired", "GET", count=1)
    with pytest.raises(StorageError, match="have expired"):  # they are still the same
        store.get("k")
    assert store.get("k") == b"x"


def test_surroundings_are_named(s3, s3_uri, s3_bucket, monkeypatch):
    with pytest.raises(StorageError, match="no such bucket"):
        open_store("s3://there-is-no-such-bucket/x").get("k")
    with pytest.raises(StorageError, match="no such bucket"):
        open_store("s3://there-is-no-such-bucket/x").put("k", b"")
    with pytest.raises(StorageError, match="cannot be reached"):
        open_store(StorageLocation(uri=s3_uri, endpoint="http://127.0.0.1:9")).get("k")
    store = open_store(s3_uri)
    store.put("k", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "reader-secret")
    reader = pickle.loads(pickle.dumps(store))
    assert reader.get("k") == b"x"
    for write in (lambda: reader.put("new", b"x"), lambda: reader.delete(["k"])):
        with pytest.raises(StorageError, match=r"access denied|cannot delete") as error:
            write()
        assert "reader-secret" not in str(error.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-wrong")
    wrong = pickle.loads(pickle.dumps(store))
    for ask in (
        lambda: wrong.stat("k"),
        lambda: wrong.get("k"),
        lambda: list(wrong.list("")),
        lambda: wrong.put("k", b""),
    ):
        with pytest.raises(StorageError, match="credentials are wrong") as error:
            ask()
        assert not isinstance(error.value, NotFoundError)
        assert "canary" not in str(error.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no complete credentials"):
        pickle.loads(pickle.dumps(store)).get("k")


def test_objects_of_others_have_no_checksum_and_can_be_read(s3, s3_bucket, s3_uri, tmp_path):
    s3.client().put_object(Bucket=s3_bucket, Key="raytrain/theirs/", Body=b"")  # a folder marker
    s3.client().put_object(Bucket=s3_bucket, Key="raytrain/theirs/file", Body=b"abc")
    store = open_store(s3_uri)
    assert store.get("theirs/file") == b"abc"
    store.download("theirs/file", tmp_path / "file")
    with pytest.raises(CorruptError):
        store.download("theirs/file", tmp_path / "other", sha256="0" * 64)
    assert [stat.key for stat in store.list("theirs/")] == ["theirs/file"]
