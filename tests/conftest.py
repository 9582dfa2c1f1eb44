"""Fixtures for all tests: a real S3 server, started when the first test needs it."""

from uuid import uuid4

import pytest

from tests.support.fault_proxy import fault_proxy
from tests.support.s3_server import s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A running S3 server, shared by the session."""
    with s3_server(tmp_path_factory.mktemp("s3-server")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3, monkeypatch):
    """The name of a fresh bucket; the environment of this process points at its server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    name = s3.make_bucket(f"test-{uuid4().hex[:16]}")
    yield name
    s3.remove_bucket(name)


@pytest.fixture
def s3_uri(s3_bucket):
    """A storage URI in a fresh bucket."""
    return f"s3://{s3_bucket}/raytrain"


@pytest.fixture
def s3_proxy(s3, s3_bucket):
    """A proxy in front of the S3 server that breaks chosen requests."""
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def any_store(request, tmp_path):
    """A fresh store of each kind."""
    from raytrain_core.storage import open_store

    if request.param == "local":
        return open_store(str(tmp_path / "any-store"))
    return open_store(request.getfixturevalue("s3_uri"))
