import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrain_core.errors import UsageError
from raytrain_core.storage import LocalStore, StorageLocation, open_store
from raytrain_core.storage.keys import check_key
from raytrain_core.storage.uri import FolderUri, check_endpoint, check_model_uri, check_source_uri, parse_uri


def test_a_relative_path_becomes_an_absolute_file_uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("./some where").uri == (tmp_path / "some where").as_uri()
    assert parse_uri((tmp_path / "some where").as_uri()).path == tmp_path / "some where"
    assert isinstance(open_store("file:///x/y"), LocalStore)


@pytest.mark.parametrize(
    ("given_uri", "normal"),
    [
        ("s3://my-bucket/a/b/", "s3://my-bucket/a/b"),
        ("s3://my-bucket", "s3://my-bucket"),
        ("S3://my-bucket//a", "s3://my-bucket/a"),
        ("gs://my_bucket/a/", "gs://my_bucket/a"),
        ("GS://my-bucket", "gs://my-bucket"),
        ("az://container/a//b", "az://container/a/b"),
        ("abfs://container@account.dfs.core.windows.net/a/", "abfs://container@account.dfs.core.windows.net/a"),
        ("abfss://container@account.blob.core.windows.net", "abfss://container@account.blob.core.windows.net"),
    ],
)
def test_bucket_uris_have_one_form(given_uri, normal):
    assert str(parse_uri(given_uri)) == normal
    assert open_store(StorageLocation(uri=given_uri, endpoint="http://127.0.0.1:1/")).uri == normal


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:canary-secret@bucket/x",
        "s3://bucket/x?X-Amz-Signature=canary-secret",
        "file://me:canary-secret@/x",
        "https://user:canary-secret@host/x",
        "s3://AKIAKEY:canary-secret",
        "s3:/AKIAKEY:canary-secret@bucket/x",
        "s3://bucket/hf_canary0secret0canary0secret/x?token=canary-secret",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri):
    with pytest.raises(UsageError) as error:
        open_store(uri)
    assert "canary-secret" not in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "  ",
        "s3:/bucket/x",
        "s3:bucket/x",
        "S3:/bucket",
        "gs:/b/x",
        " s3://bucket/x",
        "s3://bucket/x ",
        "s3://my_bucket/x",
        "s3://a..b/x",
        "s3a://bucket/x",
        "abfs://user:canary@a.dfs.core.windows.net/x",
        "abfs://con_tainer@account.dfs.core.windows.net/x",
        "abfs://container@elsewhere/x",
        "az://Container/x",
        "az://a--b/x",
        "gcs://bucket/x",
        "hdfs://n/x",
        "wasbs://c@a/x",
        "ftp://h/x",
        "gs://b/x",
        "gs://Bucket/x",
        "gs://bucket/x?token=y",
        "s3://",
        "s3://Upper/x",
        "s3://b",
        "s3://bucket/../other",
        "file://host/x",
    ],
)
def test_other_uris_are_refused(uri):
    with pytest.raises(UsageError):
        open_store(uri)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254",
        "http://169.254.170.2/v2/credentials",
        "http://[fe80::1]:80",
        "http://[fe80::1%25eth0]:80",
        "http://[::ffff:169.254.169.254]",
        "http://[fd00:ec2::254]",
        "http://100.100.100.200",
        "http://2852039166",
        "http://0xa9fea9fe",
        "http://0251.0376.0251.0376",
        "http://169.254.43518",
        "http://METADATA.google.internal.",
        "http://metadata.google.internal",
        "http://0.0.0.0:9000",
        "ftp://host",
        "host:9000",
        "http://",
        "http://user:secret@host",
        "http://host:99999",
        "http://host/?x=1",
        "AKIAKEY:secret@host:9000",
        "http://host/?X-Amz-Signature=secret",
        "http://[::1",
    ],
)
def test_endpoints_that_cannot_be_a_store_are_refused(endpoint):
    with pytest.raises(UsageError) as error:
        check_endpoint(endpoint)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8333", "http://[::1]:8333", "http://10.0.0.7", "https://s3.eu"])
def test_endpoints_that_can_be_a_store_are_taken(endpoint):
    assert check_endpoint(f"{endpoint}/") == endpoint


def test_a_name_that_leads_to_a_metadata_service_is_refused(monkeypatch):
    asked = []

    def resolved(host, port, **options):
        asked.append(host)
        return [(2, 1, 6, "", ("10.0.0.1", 0)), (2, 1, 6, "", ("169.254.169.254", 0))]

    monkeypatch.setattr("raytrain_core.storage.s3_client.socket.getaddrinfo", resolved)
    store = open_store(StorageLocation(uri="s3://bucket/x", endpoint="http://harmless.example:80"))
    with pytest.raises(UsageError, match="metadata or link-local"):
        store.get("k")
    assert asked == ["harmless.example"]


def test_an_endpoint_comes_from_the_argument_before_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:2")
    assert open_store("s3://bucket/x").endpoint == "http://127.0.0.1:2"
    assert (
        open_store(StorageLocation(uri="s3://bucket/x", endpoint="http://127.0.0.1:3/")).endpoint
        == "http://127.0.0.1:3"
    )


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\\b", "a\nb", "a\0b", ".tmp/x", "x" * 1000]
)
def test_keys_that_could_lead_elsewhere_are_refused_by_every_operation(key, tmp_path):
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(UsageError):
        store.put(key, b"x")
    with pytest.raises(UsageError):
        store.get(key)
    with pytest.raises(UsageError):
        store.delete([key])
    assert not (tmp_path / "store").exists()


@given(st.text(min_size=1, max_size=40))
def test_an_accepted_key_stays_below_the_root(key):
    try:
        check_key(key)
    except UsageError:
        return
    root = parse_uri("/root-of-the-store").path
    assert (root / key).is_relative_to(root)
    assert ".." not in (root / key).parts


@pytest.mark.parametrize("uri", ["./s3:/bucket", "file:/a/b", "file:///a/b", "/data/a:b/c", "C:/data", "notes:2/x"])
def test_a_folder_with_a_colon_stays_a_folder(uri):
    assert isinstance(parse_uri(uri), FolderUri)


def test_a_folder_of_nobody_is_an_error_of_the_user():
    with pytest.raises(UsageError, match="not a folder"):
        parse_uri("~nobody-of-this-name/x")


@pytest.mark.parametrize(
    "uri", ["gcs://bucket/m", "gs://Bucket/m", "s3:/bucket/m", "s3://My_Bucket/m", "s3://k:canary@bucket/m", " x"]
)
def test_models_that_nothing_can_read_are_refused(uri):
    with pytest.raises(UsageError) as error:
        check_model_uri(uri)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    "uri", ["google/flan-t5-small", "hf://t5-small", "run://samsum", "./t5", "/models/t5", "s3://my.bucket/t5"]
)
def test_models_that_can_be_read_are_taken(uri):
    check_model_uri(uri)


@pytest.mark.parametrize(
    "uri", ["abfs://c@a/rows", "gcs://bucket/rows", "https://host/rows.csv", "s3:/bucket/rows", "s3://My_Bucket/rows"]
)
def test_sources_that_nothing_can_read_are_refused(uri):
    with pytest.raises(UsageError):
        check_source_uri(uri)


def test_a_named_reader_may_read_what_raytrain_cannot():
    check_source_uri("gcs://bucket/rows", has_reader=True)
    check_source_uri("jira://project/OPS")
