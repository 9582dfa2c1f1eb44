"""Stores that differ from AWS S3, and things that answer instead of a store."""

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.retries.standard
import pytest

from raytrain_core.errors import StorageError, UsageError
from raytrain_core.storage import AlreadyExistsError, CorruptError, StorageLocation, open_store
from raytrain_core.storage.probe import probe
from raytrain_core.storage.s3_answers import Limit
from raytrain_core.storage.s3_client import addressing, bypasses_proxy
from tests.support.certificates import self_signed_server
from tests.support.fault_proxy import error_answer

s3_only = pytest.mark.s3
PART = 5 << 20


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda self, context: 0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr("raytrain_core.storage.s3.PART", PART)


@pytest.fixture
def store(s3_uri, s3_proxy):
    return open_store(StorageLocation(uri=s3_uri, endpoint=s3_proxy.endpoint))


@pytest.fixture(scope="module")
def big_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("big") / "file"
    path.write_bytes(os.urandom(PART + 1000))
    return path


def drops_metadata(method, path, answer):
    status, headers, content = answer
    return status, [(n, v) for n, v in headers if not n.lower().startswith("x-amz-meta-")], content


def capitalises_metadata(method, path, answer):
    """As Go's net/http writes header names."""
    status, headers, content = answer
    return status, [(n.title() if n.lower().startswith("x-amz-meta-") else n, v) for n, v in headers], content


def without_header(name):
    def rewrite(method, path, answer):
        status, headers, content = answer
        return status, [(n, v) for n, v in headers if n.lower() != name], content

    return rewrite


def damages_what_is_read(rewrite):
    """The stored bytes differ from those sent, and every read shows it."""

    def damaged(method, path, answer):
        status, headers, content = rewrite(method, path, answer)
        flipped = bytes([content[0] ^ 1]) + content[1:] if method == "GET" and content and status < 300 else content
        checks = ("x-amz-checksum-sha256", "x-amz-checksum-crc32", "x-amz-checksum-crc64nvme", "x-amz-checksum-type")
        return status, [(n, v) for n, v in headers if n.lower() not in checks], flipped

    return damaged


@s3_only
@pytest.mark.parametrize("rewrite", [drops_metadata, capitalises_metadata])
def test_damage_is_found_without_the_metadata(store, s3_proxy, big_file, rewrite):
    s3_proxy.rewrite = damages_what_is_read(rewrite)
    with pytest.raises(CorruptError):
        store.put("small", b"what was written")
    with pytest.raises(CorruptError):
        store.upload("big", big_file)
    s3_proxy.rewrite = rewrite
    assert list(store.list("")) == []


@s3_only
@pytest.mark.parametrize("rewrite", [drops_metadata, capitalises_metadata])
def test_ones_own_conditional_write_is_recognised(store, s3_proxy, rewrite):
    s3_proxy.rewrite = rewrite
    s3_proxy.break_("lost-answer", "PUT", count=1)
    store.put("attempt", b"token 1", if_absent=True)
    assert store.get("attempt") == b"token 1"
    with pytest.raises(AlreadyExistsError):
        store.put("attempt", b"token 2", if_absent=True)


@s3_only
@pytest.mark.parametrize(
    ("rewrite", "limits"),
    [(drops_metadata, (Limit.METADATA,)), (capitalises_metadata, ())],
    ids=["drops", "capitalises"],
)
def test_the_probe_finds_what_becomes_of_metadata(store, s3_proxy, rewrite, limits):
    s3_proxy.rewrite = rewrite
    assert probe(store) == limits


def refusing(status, code, *, header=None, query=None, method=None):
    def refuse(verb, path, headers):
        has_header = header is None or any(name.lower() == header for name, _ in headers)
        if has_header and (query is None or query in path) and method in (None, verb):
            return error_answer(status, code)
        return None

    return refuse


@s3_only
@pytest.mark.parametrize(
    ("refuse", "limit"),
    [
        (refusing(501, "NotImplemented", header="x-amz-checksum-sha256"), Limit.CHECKSUMS),
        (refusing(400, "InvalidRequest", header="x-amz-checksum-sha256"), Limit.CHECKSUMS),
        (refusing(501, "NotImplemented", query="list-type=2", method="GET"), Limit.LIST_V2),
        (refusing(400, "InvalidArgument", query="list-type=2", method="GET"), Limit.LIST_V2),
        (refusing(501, "NotImplemented", query="?delete", method="POST"), Limit.MULTI_DELETE),
        (refusing(405, "MethodNotAllowed", query="?delete", method="POST"), Limit.MULTI_DELETE),
    ],
)
def test_what_a_store_does_not_support_is_done_another_way_and_said(store, s3_proxy, refuse, limit, big_file, caplog):
    s3_proxy.refuse = refuse
    assert probe(store) == (limit,)
    for number in range(3):
        store.put(f"small/{number}", b"x")
    store.upload("big", big_file)
    assert [stat.key for stat in store.list("")] == ["big", "small/0", "small/1", "small/2"]
    store.delete(["small/0", "small/1", "never-there"])
    assert [stat.key for stat in store.list("")] == ["big", "small/2"]
    assert [record.message for record in caplog.records if limit.value in record.message]


@s3_only
def test_a_store_without_checksums_still_notices_damage(store, s3_proxy, big_file):
    s3_proxy.refuse = refusing(501, "NotImplemented", header="x-amz-checksum-sha256")
    s3_proxy.break_("flipped-request", "PUT")
    with pytest.raises(CorruptError):
        store.put("small", b"what was written")
    with pytest.raises(CorruptError):
        store.upload("big", big_file)


@s3_only
def test_many_pages_of_the_older_list(store, s3_proxy, monkeypatch):
    for number in range(7):
        store.put(f"{number}", b"x")
    monkeypatch.setattr("raytrain_core.storage.s3._PAGE", 3)
    s3_proxy.refuse = refusing(501, "NotImplemented", query="list-type=2")
    assert [stat.key for stat in store.list("")] == [str(number) for number in range(7)]


@s3_only
@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_conditional_writes_have_no_substitute(store, s3_proxy, status, code):
    s3_proxy.refuse = refusing(status, code, header="if-none-match")
    with pytest.raises(StorageError, match="refuses conditional writes") as error:
        probe(store)
    assert code in str(error.value)
    assert "overloaded" not in str(error.value)
    assert list(store.list("")) == []


@s3_only
def test_a_truncated_list_without_a_token_is_an_error(store, s3_proxy, monkeypatch):
    def rewrite(method, path, answer):
        status, headers, content = answer
        start, end = content.find(b"<NextContinuationToken>"), content.find(b"</NextContinuationToken>")
        if start < 0:
            return answer
        return status, headers, content[:start] + content[end + len(b"</NextContinuationToken>") :]

    for number in range(4):
        store.put(f"{number}", b"x")
    monkeypatch.setattr("raytrain_core.storage.s3._PAGE", 3)
    s3_proxy.rewrite = rewrite
    with pytest.raises(StorageError, match="no NextContinuationToken"):
        list(store.list(""))


@s3_only
def test_answers_without_etag_or_upload_id_are_errors(store, s3_proxy, big_file):
    store.put("small", b"x")
    s3_proxy.rewrite = without_header("etag")
    with pytest.raises(StorageError, match="no ETag"):
        store.stat("small")
    with pytest.raises(StorageError, match="no ETag"):
        store.upload("big", big_file)
    s3_proxy.rewrite = lambda method, path, answer: (
        (200, [("Content-Type", "application/xml")], b"<InitiateMultipartUploadResult/>")
        if "?uploads" in path
        else answer
    )
    with pytest.raises(StorageError, match="no UploadId"):
        store.upload("big", big_file)


class LoginPage(BaseHTTPRequestHandler):
    """What a captive portal or a single sign-on proxy answers to everything."""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<!DOCTYPE html><html><title>Log in</title></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def serving():
    running = []

    def serve(server):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield serve
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def keys(monkeypatch):
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")


@pytest.mark.parametrize(
    "use",
    [
        lambda store, path: store.get("k"),
        lambda store, path: store.put("k", b"x"),
        lambda store, path: store.stat("k"),
        lambda store, path: list(store.list("")),
        lambda store, path: store.delete(["k"]),
        lambda store, path: store.download("k", path / "k"),
    ],
    ids=["get", "put", "stat", "list", "delete", "download"],
)
def test_a_login_page_is_no_store(serving, keys, use, tmp_path):
    server = serving(ThreadingHTTPServer(("127.0.0.1", 0), LoginPage))
    store = open_store(StorageLocation(uri="s3://bucket/x", endpoint=f"http://127.0.0.1:{server.server_port}"))
    with pytest.raises(StorageError, match="not S3's") as error:
        use(store, tmp_path)
    assert "login page" in error.value.hint


def test_an_untrusted_certificate_is_named_at_once(serving, keys, tmp_path, monkeypatch):
    requests = []
    server = serving(self_signed_server(tmp_path, LoginPage, requests))
    store = open_store(StorageLocation(uri="s3://bucket/x", endpoint=f"https://127.0.0.1:{server.server_port}"))
    with pytest.raises(StorageError, match=r"certificate of https://127.*not trusted") as error:
        store.get("k")
    assert "AWS_CA_BUNDLE" in error.value.hint
    assert len(requests) == 1
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with pytest.raises(StorageError, match="not S3's"):  # the certificate is trusted now
        open_store(StorageLocation(uri="s3://bucket/x", endpoint=store.endpoint)).get("k")


def test_https_at_an_http_server_is_named_at_once(serving, keys):
    server = serving(ThreadingHTTPServer(("127.0.0.1", 0), LoginPage))
    with pytest.raises(StorageError, match="does not speak TLS") as error:
        open_store(StorageLocation(uri="s3://bucket/x", endpoint=f"https://127.0.0.1:{server.server_port}")).get("k")
    assert "http://" in error.value.hint


def test_a_missing_certificate_bundle_is_named(keys, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(UsageError, match=r"AWS_CA_BUNDLE: there is no file .*nowhere\.pem"):
        open_store(StorageLocation(uri="s3://bucket/x", endpoint="http://127.0.0.1:9")).get("k")


def test_a_missing_token_file_is_a_sentence(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/trainer")
    with pytest.raises(StorageError, match=r"cannot get credentials: .*token: No such file"):
        open_store(StorageLocation(uri="s3://bucket/x", endpoint="http://127.0.0.1:9")).get("k")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://models.s3.eu-central-1.amazonaws.com", ("https://s3.eu-central-1.amazonaws.com", "virtual")),
        ("https://models.s3-accelerate.amazonaws.com", ("https://s3-accelerate.amazonaws.com", "virtual")),
        ("https://models.acct.r2.cloudflarestorage.com", ("https://acct.r2.cloudflarestorage.com", "virtual")),
        ("https://models.fra1.digitaloceanspaces.com", ("https://fra1.digitaloceanspaces.com", "virtual")),
        ("http://models.s3.local:9000", ("http://s3.local:9000", "virtual")),
        ("https://store.example.org/models/", ("https://store.example.org", "path")),
        ("https://store.example.org/storage/v1/s3", ("https://store.example.org/storage/v1/s3", "path")),
        ("http://models.example.org:9000", ("http://models.example.org:9000", "path")),
        ("http://10.0.0.7:9000", ("http://10.0.0.7:9000", "path")),
    ],
)
def test_a_bucket_in_the_endpoint_is_recognised(endpoint, expected):
    assert addressing("models", endpoint) == expected


@s3_only
def test_an_endpoint_with_the_bucket_reaches_the_same_keys(s3, s3_bucket):
    open_store(StorageLocation(uri=f"s3://{s3_bucket}/x", endpoint=f"{s3.endpoint}/{s3_bucket}")).put("k", b"1")
    assert open_store(StorageLocation(uri=f"s3://{s3_bucket}/x", endpoint=s3.endpoint)).get("k") == b"1"


@pytest.mark.parametrize(
    ("no_proxy", "endpoint", "expected"),
    [
        ("10.0.0.0/8", "http://10.1.2.3:9000", True),
        ("localhost, 10.0.0.0/8", "http://10.1.2.3:9000", True),
        ("10.0.0.0/8", "http://11.1.2.3:9000", False),
        ("fd00::/8", "http://[fd00::7]:9000", True),
        ("10.0.0.0/8", "http://store:9000", False),
        ("not/a/range,10.1.2.3/8", "http://10.9.9.9", True),
        ("", "http://10.1.2.3", False),
    ],
)
def test_ranges_in_no_proxy(monkeypatch, no_proxy, endpoint, expected):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert bypasses_proxy(endpoint) is expected


def test_a_range_in_no_proxy_keeps_the_proxy_away(serving, keys, monkeypatch):
    server = serving(ThreadingHTTPServer(("127.0.0.1", 0), LoginPage))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    with pytest.raises(StorageError, match="not S3's"):
        open_store(StorageLocation(uri="s3://bucket/x", endpoint=f"http://127.0.0.1:{server.server_port}")).stat("k")
