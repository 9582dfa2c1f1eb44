"""Fixtures for all tests: servers of each kind of storage, started when a test needs them."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from raytrain_core.storage import Store, open_store
from tests.support.cloud_emulators import Emulator, EmulatorUnavailableError, azurite, fake_gcs
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.s3_server import S3Server, s3_server

# Time is no property: an example that is slow to run or to generate is not a failure.
settings.register_profile(
    "any-machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="RAYTRAIN_FUZZ_EXAMPLES" not in os.environ,  # the same examples each time, unless one hunts for others
)
settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server, shared by the session."""
    with s3_server(tmp_path_factory.mktemp("s3-server")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a fresh bucket; the environment of this process points at its server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    name = s3.make_bucket(f"test-{uuid4().hex[:16]}")
    yield name
    s3.remove_bucket(name)


@pytest.fixture
def s3_uri(s3_bucket: str) -> str:
    """A storage URI in a fresh bucket."""
    return f"s3://{s3_bucket}/raytrain"


@pytest.fixture
def s3_proxy(s3: S3Server, s3_bucket: str) -> Iterator[FaultProxy]:
    """A proxy in front of the S3 server that breaks chosen requests."""
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def gcs_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A running fake-gcs-server."""
    yield from _emulator(fake_gcs, tmp_path_factory.mktemp("gcs"))


@pytest.fixture(scope="session")
def azure_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A running Azurite."""
    yield from _emulator(azurite, tmp_path_factory.mktemp("azurite"))


def _emulator(start: Callable[[Path], AbstractContextManager[Emulator]], folder: Path) -> Iterator[Emulator]:
    try:
        with start(folder) as emulator:
            yield emulator
    except EmulatorUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def gcs_uri(gcs_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage URI in a fresh bucket; the environment of this process points at its emulator."""
    return _fresh(gcs_emulator, monkeypatch)


@pytest.fixture
def azure_uri(azure_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage URI in a fresh container; the environment points at its emulator."""
    return _fresh(azure_emulator, monkeypatch)


def _fresh(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return f"{emulator.scheme}://{emulator.make_bucket(f'test-{uuid4().hex[:16]}')}/raytrain"


_STORES = [
    "local",
    pytest.param("s3", marks=pytest.mark.s3),
    pytest.param("gcs", marks=pytest.mark.slow),
    pytest.param("azure", marks=pytest.mark.slow),
]


@pytest.fixture(params=_STORES)
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A fresh store of each kind."""
    if request.param == "local":
        return open_store(str(tmp_path / "any-store"))
    return open_store(request.getfixturevalue(f"{request.param}_uri"))
