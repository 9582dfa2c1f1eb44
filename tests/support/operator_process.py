"""The operator as a process of this machine, with a user's permissions."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import REPOSITORY


def start_operator(
    kubeconfig: Path,
    folder: Path,
    *arguments: str,
    program: Sequence[str] = ("-m", "raytrain.operator"),
    settings: str = "{}",
    **variables: str,
) -> subprocess.Popen[bytes]:
    """Starts the operator as a process with short retry delays; it logs to `operator.log`."""
    file = folder / "settings.yaml"
    defaults = {"retry": {"firstSeconds": 0.2}, "runs": {"secrets": ["bucket"]}}
    file.write_text(json.dumps(defaults | json.loads(settings)))
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "RAYTRAIN_OPERATOR_SETTINGS": str(file),
        "PYTHONPATH": str(REPOSITORY),
        **variables,
    }
    with (folder / "operator.log").open("wb") as output:
        command = [sys.executable, *program, "--verbose", *arguments]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


@contextmanager
def operator_process(kubeconfig: Path, folder: Path, *arguments: str, settings: str = "{}") -> Iterator[Path]:
    """Runs the operator, whose end has to be orderly; yields the path of its log."""
    process = start_operator(kubeconfig, folder, *arguments, settings=settings)
    log = folder / "operator.log"
    try:
        deadline = time.monotonic() + 60
        while "Initial authentication has finished" not in log.read_text() and process.poll() is None:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        yield log
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, log.read_text()[-3000:]
