"""The namespaces in which a whole cluster lives.

One process holds them; with it ends everything inside.
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

# What the programs write there although they are told other folders; inside it lands in the
# cluster's own folder.
_PRIVATE_FOLDERS = ("/etc", "/var/lib", "/var/log")


@dataclass(frozen=True)
class Machine:
    """Network, mount and process namespaces, known by the process that holds them."""

    pid: int
    started: int

    @classmethod
    def begin(cls, paths: ClusterPaths, pause: Path) -> "Machine":
        """New namespaces, held by `pause`; /run is empty in them, and writes below /etc and /var stay in them."""
        namespaces = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
        command = ["unshare", *namespaces, pause]
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
        """The command, to be run inside."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--", *(str(c) for c in command)]

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Standard output of a command that runs inside."""
        return run(*self.inside(command), check=check)

    def start(self, command: Sequence[str | Path], log: Path, environment: dict[str, str] | None = None) -> "Daemon":
        """Start a daemon inside."""
        outer = spawn(self.inside(command), log, environment)
        name = Path(str(command[0])).name
        wait_for(lambda: _named(child_of(outer.pid), name) or outer.poll() is not None, 10, name, every=0.01)
        pid = child_of(outer.pid)
        if pid is None:
            raise HarnessError(f"{name} ended at once\n{tail(log)}")
        return Daemon(name, pid, started_at(pid) or 0, log)

    def end(self) -> None:
        """End everything inside; the kernel removes mounts, interfaces and filter rules with it."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # the namespaces last until each parent outside, even a stopped one, has let go
                if path.read_bytes().startswith(f"nsenter\0--target={self.pid}\0".encode()):
                    os.kill(int(path.parent.name), signal.SIGKILL)
        if self.alive:
            end(self.pid)


@dataclass(frozen=True)
class Daemon:
    """A process inside: its number outside, when it began, where it writes."""

    name: str
    pid: int
    started: int
    log: Path

    @property
    def alive(self) -> bool:
        return started_at(self.pid) == self.started

    def check_alive(self) -> None:
        """HarnessError with the end of its log if it has ended."""
        if not self.alive:
            raise HarnessError(f"{self.name} has ended\n{tail(self.log)}")

    def end(self) -> None:
        """Kill it."""
        if self.alive:
            end(self.pid)


def _named(pid: int | None, name: str) -> bool:
    """Whether a process has got past its exec."""
    if pid is None:
        return False
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == name
    except OSError:
        return False
