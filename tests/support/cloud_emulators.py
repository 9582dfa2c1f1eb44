"""Emulators of GCS and Azure for tests: fake-gcs-server (Go) and Azurite (npm), cached.

By hand: `python -m tests.support.cloud_emulators` starts both, prints what to export, and stops
them at Ctrl-C.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from filelock import FileLock

from tests.support.kubernetes_tools import cache_folder
from tests.support.s3_server import _dies_with_us, _free_ports

GCS_MODULE = "github.com/fsouza/fake-gcs-server@v1.56.1"
AZURITE_PACKAGE = "azurite@3.35.0"
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # public
_START_SECONDS = 60
_BUILD_SECONDS = 500


class EmulatorUnavailableError(Exception):
    """The emulator is missing and cannot be built; the message says why."""


@dataclass(frozen=True)
class Emulator:
    """Address of a running emulator, and the variables that lead there."""

    scheme: str
    endpoint: str
    environment: dict[str, str]

    def make_bucket(self, name: str) -> str:
        """Creates a bucket (a container) by the cloud's own client."""
        if self.scheme == "gs":
            from google.auth.credentials import AnonymousCredentials
            from google.cloud.storage import Client

            options = {"api_endpoint": self.endpoint}
            anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
            Client(project="x", credentials=anonymous, client_options=options).create_bucket(name)
        else:
            from azure.storage.blob import ContainerClient

            ContainerClient(
                self.endpoint, name, {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY}
            ).create_container()
        return name


@contextmanager
def fake_gcs(folder: Path) -> Iterator[Emulator]:
    """Runs fake-gcs-server, which keeps everything in memory."""
    program = _fake_gcs_server()
    (port,) = _free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with _running([*command, "-public-host", address], folder / "gcs.log", f"http://{address}/storage/v1/b?project=x"):
        yield Emulator("gs", f"http://{address}", {"STORAGE_EMULATOR_HOST": address})


@contextmanager
def azurite(folder: Path) -> Iterator[Emulator]:
    """Runs Azurite's blob service, which keeps everything in memory."""
    program, node = _azurite(), shutil.which("node")
    (port,) = _free_ports(1)
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    command = [str(node), str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    environment = {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
        "AZURE_STORAGE_ENDPOINT": endpoint,
    }
    with _running(command, folder / "azurite.log", endpoint):
        yield Emulator("az", endpoint, environment)


def _fake_gcs_server() -> Path:
    """Returns the program; the first build takes minutes of CPU."""
    go = shutil.which("go")
    folder = cache_folder() / GCS_MODULE.rpartition("/")[2]
    if go is None and not folder.exists():
        raise EmulatorUnavailableError("there is no Go to build fake-gcs-server with")
    environment = {**os.environ, "GOBIN": str(folder.with_name(f"{folder.name}.part"))}
    _built(folder, [str(go), "install", GCS_MODULE], environment)
    return folder / "fake-gcs-server"


def _azurite() -> Path:
    """Returns the script of its blob service."""
    folder = cache_folder() / AZURITE_PACKAGE
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise EmulatorUnavailableError("there is no npm and node to run Azurite with")
    part = folder.with_name(f"{folder.name}.part")
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(part), AZURITE_PACKAGE]
    _built(folder, command, dict(os.environ))
    return folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def _built(folder: Path, command: list[str], environment: dict[str, str]) -> None:
    """Runs a command that fills FOLDER.part; `folder` appears at once and complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise EmulatorUnavailableError(f"{command[0]} took more than {_BUILD_SECONDS} s") from None
        if done.returncode:
            raise EmulatorUnavailableError(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()[-300:]}")
        part.rename(folder)


@contextmanager
def _running(command: list[str], log: Path, url: str) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_dies_with_us(), *command], stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except HTTPError:
        return True
    except (URLError, OSError):
        return False


def main() -> None:
    """Starts both, prints how to use them, and waits for Ctrl-C."""
    with (
        tempfile.TemporaryDirectory(prefix="emulators-") as name,
        fake_gcs(Path(name)) as gcs,
        azurite(Path(name)) as azure,
    ):
        for emulator in (gcs, azure):
            emulator.make_bucket("test")
            for variable, value in emulator.environment.items():
                print(f"export {variable}={value}")
        print("# gs://test and az://test    Ctrl-C stops the emulators", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
