"""What every part of a cluster is started with."""

from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.addresses import Addresses
from tests.cluster.harness.binaries import Programs
from tests.cluster.harness.machine import Daemon, Machine
from tests.cluster.harness.paths import ClusterPaths


@dataclass(frozen=True)
class ClusterContext:
    """One cluster's namespaces, programs, folders and addresses."""

    machine: Machine
    programs: Programs
    paths: ClusterPaths
    addresses: Addresses

    def start(self, name: str, *flags: str | Path, environment: dict[str, str] | None = None) -> Daemon:
        """Start one of the built programs inside; it logs under its name."""
        return self.machine.start([self.programs[name], *flags], self.paths.logs / f"{name}.log", environment)
