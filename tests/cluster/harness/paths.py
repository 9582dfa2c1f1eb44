"""Files and folders: those cached between clusters, and those of one cluster."""

import os
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).parent.parent / "tools"


def cache_folder() -> Path:
    """Folder of programs, base image and unpacked image layers; safe to delete."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "raytrain" / "cluster"


@dataclass(frozen=True)
class ClusterPaths:
    """Folders and files of one running cluster."""

    name: str

    @property
    def root(self) -> Path:
        """Kept short, as paths of Unix sockets have at most 107 characters."""
        return Path("/var/tmp/raytrain-cluster") / self.name

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the administrator."""
        return self.root / "kubeconfig"

    @property
    def images(self) -> Path:
        """Values for the operator's chart with the images on the nodes."""
        return self.root / "images.yaml"

    @property
    def record(self) -> Path:
        """Record needed to find the cluster again and to remove it."""
        return self.root / "cluster.json"
