"""Checks the requirements of a cluster and reports everything missing at once, with its remedy."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.harness import binaries
from tests.cluster.harness.console import Echo, HarnessError
from tests.cluster.harness.paths import cache_folder
from tests.cluster.harness.processes import run

# program (or folder) -> Debian package
_NEEDED = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
_USED_BY_TESTS = {"promtool": "prometheus", "prometheus": "prometheus"}
"""A cluster starts without them; the tests of alerts and of the dashboard are skipped."""
_GIB = 1 << 30
_BUILD_GIB = 8  # Go caches: modules 1.4, builds 4.4; programs 0.5, buildah 0.5, compiled Python 0.6
_COPY_GIB = 7  # the libraries, if uv's cache is on another file system and cannot be hard-linked
_NODE_GIB = 1  # the images' common stage
_RUN_GIB = 2
_MEMORY_GIB = 6


def check(nodes: int, echo: Echo, *, install: bool) -> None:
    """Raises HarnessError listing everything missing; `install` installs Debian packages first.

    What only some tests need is installed too, and else told.
    """
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise HarnessError("a cluster needs Linux and root, to create namespaces, mounts and interfaces")
    missing = missing_packages()
    if install and (wanted := missing + missing_packages(_USED_BY_TESTS)):
        echo(f"installing {', '.join(wanted)}")
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        run("apt-get", "update")
        run("apt-get", "install", "-y", "--no-install-recommends", *wanted)
        missing = missing_packages()
    elif absent := missing_packages(_USED_BY_TESTS):
        echo(f"not installed: {', '.join(absent)}; tests that need it will be skipped")
    problems = []
    if missing:
        problems.append(
            f"Debian packages are missing: {' '.join(missing)}\n"
            "    apt-get install them, or run `make cluster INSTALL=1`"
        )
    if (unbuilt := binaries.unbuilt_modules()) and not shutil.which("go"):
        problems.append(f"Go is missing; it builds {', '.join(unbuilt)}\n    https://go.dev/doc/install, 1.26 or newer")
    folder = _existing(cache_folder())
    needed, free = needed_gib(nodes), shutil.disk_usage(folder).free / _GIB
    if free < needed:
        problems.append(
            f"{folder} has {free:.0f} GiB free but {needed} GiB are needed\n"
            "    set XDG_CACHE_HOME to use another folder"
        )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
    if memory < _MEMORY_GIB:
        problems.append(f"this machine has {memory:.0f} GiB of memory but {_MEMORY_GIB} GiB are needed")
    if problems:
        raise HarnessError("the cluster cannot start:\n  - " + "\n  - ".join(problems))
    echo(f"disk: {free:.0f} GiB free, {needed} GiB needed in {cache_folder()}; memory: {memory:.0f} GiB")


def missing_packages(programs: Mapping[str, str] = _NEEDED) -> list[str]:
    """Returns the Debian packages whose program is missing."""
    missing = {
        package
        for program, package in programs.items()
        if not (Path(program).exists() if program.startswith("/") else shutil.which(program))
    }
    return sorted(missing)


def needed_gib(nodes: int) -> int:
    """Returns a generous estimate of the GiB still to be written, given the caches."""
    if not (cache_folder() / "layers").exists():
        return _BUILD_GIB + _COPY_GIB + nodes * _NODE_GIB + _RUN_GIB
    fresh = sum(not (cache_folder() / "containerd" / f"default-node{index}").exists() for index in range(nodes))
    return fresh * _NODE_GIB + _RUN_GIB


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
