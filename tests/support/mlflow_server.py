"""A real MLflow server on SQLite, in an environment of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

CLIENT = ("boto3", "jinja2", "pydantic", "rich", "ruamel.yaml", "typer")


def mlflow_environment(folder: Path) -> Path:
    """Returns the programs of a new environment: MLflow needs an older pyarrow than the tests."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--no-project", "--python", sys.executable, folder], check=True)
    python = folder / "bin/python"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, "mlflow>=3", *CLIENT], check=True)
    return folder / "bin"


@contextmanager
def mlflow_server(programs: Path, folder: Path) -> Iterator[str]:
    """Runs a server with its database and artifacts in `folder`; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--artifacts-destination", str(folder / "files")]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([programs / "mlflow", "server", *store, *where], cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 180
    while True:
        with suppress(URLError, ConnectionError, TimeoutError), urlopen(url, timeout=5):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} does not answer")
        time.sleep(0.5)
