"""What the parts of a cluster need to start."""

from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.addresses import Addresses
from tests.cluster.harness.binaries import Programs
from tests.cluster.harness.machine import Daemon, Machine
from tests.cluster.harness.paths import ClusterPaths


@dataclass(frozen=True)
class ClusterContext:
    """Namespaces, programs, paths and addresses of one cluster."""

    machine: Machine
    programs: Programs
    paths: ClusterPaths
    addresses: Addresses

    def start(self, name: str, *flags: str | Path, environment: dict[str, str] | None = None) -> Daemon:
        """Starts one of the built programs inside the namespaces, with a log named after it."""
        return self.machine.start([self.programs[name], *flags], self.paths.logs / f"{name}.log", environment)
