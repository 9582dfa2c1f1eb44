"""Local stores that make trouble at the put of one key: they wait until the test lets it pass, kill, or refuse."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from raytrain_core.storage.local import LocalStore

PATIENCE = 300.0  # seconds after which a test that forgot its gate fails


@dataclass(frozen=True, slots=True)
class GatedStore(LocalStore):
    """Who puts a key that contains `gated` writes its process id to `gate`/pid and waits for the file `gate`/open."""

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
        """The process that waits at the gate."""
        try:
            return int((self.gate / "pid").read_text())
        except FileNotFoundError:
            return None

    def open(self) -> None:
        """Let it pass, now and later."""
        (self.gate / "open").touch()


@dataclass(frozen=True, slots=True)
class DeadlyStore(LocalStore):
    """Kills who puts a key that contains `deadly`, the first `times` times; leaves a file in `deaths` for each."""

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
    """Raises `error` at the put of a key that contains `refused`."""

    refused: str
    error: Exception

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if self.refused in key:
            raise self.error
        LocalStore.put(self, key, data, if_absent=if_absent)
