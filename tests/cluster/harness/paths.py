"""Where a cluster keeps its things: what is cached between clusters, and what belongs to one."""

import os
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).parent.parent / "tools"
REPOSITORY = Path(__file__).parents[3]


def cache_folder() -> Path:
    """Programs, the base image and unpacked image layers, kept between clusters; all of it can be deleted."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "raytrain" / "cluster"


@dataclass(frozen=True)
class ClusterPaths:
    """The folders and files of one running cluster."""

    name: str

    @property
    def root(self) -> Path:
        """Short on purpose: Unix sockets below it have at most 107 characters."""
        return Path("/var/tmp/raytrain-cluster") / self.name

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.root / "kubeconfig"

    @property
    def images(self) -> Path:
        """Values for our chart: the images that lie on the nodes."""
        return self.root / "images.yaml"

    @property
    def record(self) -> Path:
        """What is needed to find the cluster again and to remove it."""
        return self.root / "cluster.json"
