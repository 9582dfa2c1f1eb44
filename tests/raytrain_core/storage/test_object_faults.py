"""GCS and Azure (emulators) behind a proxy that breaks requests: nothing is lost or changed."""

import pytest

from raytrain_core.errors import StorageError
from raytrain_core.storage import CorruptError, StorageLocation, open_store
from tests.support.fault_proxy import fault_proxy

pytestmark = pytest.mark.slow


@pytest.fixture(params=["gcs", "azure"])
def broken(request):
    """A store, and the proxy before it."""
    uri, emulator = (
        request.getfixturevalue(f"{request.param}_uri"),
        request.getfixturevalue(f"{request.param}_emulator"),
    )
    with fault_proxy(emulator.endpoint) as proxy:
        path = "/devstoreaccount1" if request.param == "azure" else ""
        yield open_store(StorageLocation(uri=uri, endpoint=f"{proxy.endpoint}{path}")), proxy


def writes(store):
    return "POST" if store.uri.startswith("gs") else "PUT"


@pytest.mark.parametrize("fault", ["slow-down", "reset"])
def test_transient_errors_are_survived(broken, fault):
    store, proxy = broken
    proxy.break_(fault, writes(store), count=2)
    proxy.break_(fault, "GET", count=1)
    store.put("k", b"hello")
    assert proxy.requests(writes(store))[:3] == [fault, fault, None]
    assert store.get("k") == b"hello"


def test_a_conditional_write_whose_answer_was_lost_is_recognised_as_ours(broken):
    store, proxy = broken
    proxy.break_("lost-answer", writes(store), count=1)
    store.put("k", b"hello", if_absent=True)
    assert proxy.requests(writes(store)) == ["lost-answer", None]
    assert store.get("k") == b"hello"


@pytest.mark.parametrize("fault", ["truncated", "flipped"])
def test_bytes_that_come_damaged_are_asked_for_again(broken, fault):
    store, proxy = broken
    data = bytes(range(256)) * 400
    store.put("k", data)
    proxy.break_(fault, "GET", "(alt=media|/k$)", count=1)
    assert store.get("k") == data


def test_bytes_that_always_come_damaged_are_refused(broken):
    store, proxy = broken
    store.put("k", bytes(range(256)) * 400)
    proxy.break_("flipped", "GET", "(alt=media|/k$)")
    with pytest.raises(CorruptError, match="damaged"):
        store.get("k")


@pytest.mark.parametrize(("fault", "words"), [("denied", "access denied"), ("full", "full")])
def test_lasting_refusals_become_one_sentence(broken, fault, words):
    store, proxy = broken
    proxy.break_(fault, writes(store))
    with pytest.raises(StorageError, match=words) as error:
        store.impatient().put("k", b"x")
    assert store.uri.removesuffix("/raytrain") in error.value.message
    assert "\n" not in error.value.message
