"""Local stores that wait, kill the process or raise an error when a chosen key is put."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from raytrain_core.storage.local import LocalStore

PATIENCE = 300.0  # seconds after which a test that forgot its gate fails


@dataclass(frozen=True, slots=True)
class GatedStore(LocalStore):
    """Writes the process id to `gate`/pid and waits for `gate`/open when a `gated` key is put."""

    gated: str
    gate: Path

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if self.gated in key:
            self._wait()
        LocalStore.put(self, key, data, if_absent=if_absent)

    def _wait(self) -> None:
        (self.gate / "pid.new").write_text(str(os.getpid()))
        (self.gate / "pid.new").replace(self.gate / "pid")
        end = time.monotonic() + PATIENCE
        while not (self.gate / "open").exists():
            if time.monotonic() > end:
                raise TimeoutError(f"nobody opened {self.gate}")
            time.sleep(0.02)

    def waiting(self) -> int | None:
        """Returns the id of the process that waits at the gate."""
        try:
            return int((self.gate / "pid").read_text())
        except FileNotFoundError:
            return None

    def open(self) -> None:
        """Opens the gate for good."""
        (self.gate / "open").touch()


@dataclass(frozen=True, slots=True)
class DeadlyStore(LocalStore):
    """Kills the process that puts a key containing `deadly`, `times` times; counts in `deaths`."""

    deadly: str
    times: int
    deaths: Path

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if self.deadly in key and len(list(self.deaths.iterdir())) < self.times:
            (self.deaths / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        LocalStore.put(self, key, data, if_absent=if_absent)


@dataclass(frozen=True, slots=True)
class RefusingStore(LocalStore):
    """Raises `error` when a key containing `refused` is put."""

    refused: str
    error: Exception

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if self.refused in key:
            raise self.error
        LocalStore.put(self, key, data, if_absent=if_absent)
