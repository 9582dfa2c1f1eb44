"""The namespaces that contain a whole cluster.

One process holds them; when it ends, everything inside ends.
"""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.console import HarnessError
from tests.cluster.harness.paths import ClusterPaths
from tests.cluster.harness.processes import child_of, end, run, spawn, started_at, tail, wait_for

# Programs write to these folders whatever their flags say; an overlay redirects that to the
# cluster's own folder.
_PRIVATE_FOLDERS = ("/etc", "/var/lib", "/var/log")


@dataclass(frozen=True)
class Machine:
    """Network, mount and process namespaces, identified by the process that holds them."""

    pid: int
    started: int

    @classmethod
    def begin(cls, paths: ClusterPaths, pause: Path) -> "Machine":
        """Creates namespaces held by `pause`, with an empty /run and overlays of /etc and /var."""
        namespaces = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
        command: list[str | Path] = ["unshare", *namespaces, pause]
        log = paths.logs / "machine.log"
        holder = spawn(command, log)
        wait_for(lambda: _named(child_of(holder.pid), pause.name), 10, "the namespaces", why=lambda: tail(log))
        pid = child_of(holder.pid)
        assert pid is not None
        machine = cls(pid, started_at(pid) or 0)
        machine.run("mount", "-t", "tmpfs", "tmpfs", "/run")
        for folder in _PRIVATE_FOLDERS:
            upper, work = (
                paths.root / "overlay" / folder.strip("/").replace("/", "-") / part for part in ("upper", "work")
            )
            upper.mkdir(parents=True)
            work.mkdir()
            options = f"lowerdir={folder},upperdir={upper},workdir={work}"
            machine.run("mount", "-t", "overlay", "overlay", "-o", options, folder)
        machine.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        machine.run("ip", "link", "set", "lo", "up")
        return machine

    @property
    def alive(self) -> bool:
        return started_at(self.pid) == self.started

    def inside(self, command: Sequence[str | Path]) -> list[str]:
        """Returns the command prefixed so that it runs inside."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--", *(str(c) for c in command)]

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Runs a command inside and returns its standard output."""
        return run(*self.inside(command), check=check)

    def start(self, command: Sequence[str | Path], log: Path, environment: dict[str, str] | None = None) -> "Daemon":
        """Starts a daemon inside."""
        outer = spawn(self.inside(command), log, environment)
        name = Path(str(command[0])).name
        wait_for(lambda: _named(child_of(outer.pid), name) or outer.poll() is not None, 10, name, every=0.01)
        pid = child_of(outer.pid)
        if pid is None:
            raise HarnessError(f"{name} ended immediately\n{tail(log)}")
        return Daemon(name, pid, started_at(pid) or 0, log)

    def end(self) -> None:
        """Ends everything inside; the kernel then removes mounts, interfaces and filter rules."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(
                OSError
            ):  # the namespaces stay until every nsenter parent outside has ended, even a stopped one
                if path.read_bytes().startswith(f"nsenter\0--target={self.pid}\0".encode()):
                    os.kill(int(path.parent.name), signal.SIGKILL)
        if self.alive:
            end(self.pid)


@dataclass(frozen=True)
class Daemon:
    """A process inside: its id as seen from outside, its start time and its log."""

    name: str
    pid: int
    started: int
    log: Path

    @property
    def alive(self) -> bool:
        return started_at(self.pid) == self.started

    def check_alive(self) -> None:
        """Raises HarnessError with the end of its log if it has ended."""
        if not self.alive:
            raise HarnessError(f"{self.name} has ended\n{tail(self.log)}")

    def end(self) -> None:
        """Kills the daemon."""
        if self.alive:
            end(self.pid)


def _named(pid: int | None, name: str) -> bool:
    """Whether a process runs the program `name`, that is, has finished its exec."""
    if pid is None:
        return False
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == name
    except OSError:
        return False
