"""Addresses of one cluster: an unused /16, split into pods, services and the link to the host."""

import ipaddress
import json
from dataclasses import dataclass

from tests.cluster.harness.console import HarnessError
from tests.cluster.harness.processes import run

_CANDIDATES = range(200, 250)


@dataclass(frozen=True)
class Addresses:
    """All addresses of a cluster, derived from N in 10.N.0.0/16."""

    number: int

    def _at(self, rest: str) -> str:
        return f"10.{self.number}.{rest}"

    @property
    def all(self) -> str:
        return self._at("0.0/16")

    @property
    def pods(self) -> str:
        return self._at("0.0/17")

    @property
    def bridge(self) -> str:
        """Gateway of the pods, where CoreDNS listens."""
        return self._at("0.1")

    @property
    def services(self) -> str:
        return self._at("128.0/18")

    @property
    def api_service(self) -> str:
        """Address of the API server's service inside the cluster."""
        return self._at("128.1")

    @property
    def host(self) -> str:
        """Address of this machine as seen from pods."""
        return self._at("255.1")

    def node(self, index: int) -> str:
        """Address of a node; the API server shares that of node 0."""
        return self._at(f"255.{index + 2}")

    @property
    def link(self) -> str:
        """Name of the interface on the host (at most 15 characters)."""
        return f"raytrain-{self.number}"


def free_addresses() -> Addresses:
    """Returns the first candidate /16 that overlaps no route of this machine.

    Raises HarnessError if there is none.
    """
    routes = [entry.get("dst", "") for entry in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))]
    used = [ipaddress.ip_network(dst, strict=False) for dst in routes if dst and dst[0].isdigit()]
    for number in _CANDIDATES:
        candidate = Addresses(number)
        if not any(ipaddress.ip_network(candidate.all).overlaps(network) for network in used if network.prefixlen > 8):
            return candidate
    raise HarnessError("all networks from 10.200.0.0/16 to 10.249.0.0/16 are in use")
