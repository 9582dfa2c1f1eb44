"""Images: built by buildah from the project's Dockerfile, handed to the nodes through a registry inside the cluster.

Layers are kept in the cache folder, so that a change of the project's code costs one small layer.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.addresses import Addresses
from tests.cluster.harness.machine import Daemon, Machine
from tests.cluster.harness.node import PAUSE_IMAGE
from tests.cluster.harness.places import REPOSITORY, Places, cache_folder
from tests.cluster.harness.processes import run, tail, wait_for
from tests.cluster.harness.saying import HarnessError, Say

NAME = "raytrain.test"  # what nodes call the registry; it is no host name, containerd is told where it is
DOCKERFILE = REPOSITORY / "k8s/image/Dockerfile"
BASE_VARIABLE = "RAYTRAIN_TEST_BASE_IMAGE"

_PORT = 5000
_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates,procps"
_BASE_TAG = f"localhost/raytrain-base:{_SUITE}-1"
_CERTIFICATES = Path("/etc/ssl/certs")


@dataclass(frozen=True)
class Registry:
    """A running registry, as the host reaches it."""

    address: str
    daemon: Daemon

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"


def start_registry(machine: Machine, places: Places, addresses: Addresses) -> Registry:
    """A registry on node 0's address whose blobs are kept between clusters."""
    address = f"{addresses.node(0)}:{_PORT}"
    config = places.root / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{accesslog: {{disabled: true}}, level: warn}}\n"
        f"storage: {{filesystem: {{rootdirectory: {cache_folder() / 'registry'}}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    daemon = machine.start(["docker-registry", "serve", config], places.logs / "registry.log")
    wait_for(lambda: f"{address} " in machine.run("ss", "-Hltn"), 20, "the registry", why=lambda: tail(daemon.log))
    return Registry(address, daemon)


def publish_pause(registry: Registry, pause: Path) -> None:
    """The image of every pod's first process."""
    if _exists(PAUSE_IMAGE):
        _push(registry, PAUSE_IMAGE)
        return
    container = _buildah("from", "scratch").strip()
    try:
        _buildah("copy", container, pause, "/pause")
        _buildah("config", "--entrypoint", '["/pause"]', "--user", "65535:65535", container)
        _buildah("commit", "--quiet", container, PAUSE_IMAGE)
    finally:
        _buildah("rm", container)
    _push(registry, PAUSE_IMAGE)


def publish(registry: Registry, target: str, say: Say) -> str:
    """Build one target of the project's Dockerfile and push it; the reference that pods use."""
    reference = build(target, say)
    say(f"image {target}: pushing {reference}")
    _push(registry, reference)
    return reference


def build(target: str, say: Say) -> str:
    """Build one target of the project's Dockerfile; its reference, which names the image's content."""
    if not DOCKERFILE.exists():
        raise HarnessError(f"{DOCKERFILE} does not exist")
    base = os.environ.get(BASE_VARIABLE) or _base(say)
    say(f"image {target}: building")
    with tempfile.NamedTemporaryFile(prefix="image-id-") as identity:
        _buildah(
            "build", "--isolation", "chroot", "--network", "host", "--layers", "--format", "oci",
            "--build-arg", f"BASE={base}", *_certificates(),
            "--target", target, "--iidfile", identity.name, "--file", DOCKERFILE, REPOSITORY,
        )  # fmt: skip
        image = Path(identity.name).read_text().strip()
    reference = f"{NAME}/{target}:{image.removeprefix('sha256:')[:12]}"
    _buildah("tag", image, reference)
    return reference


def _certificates() -> list[str]:
    """The authorities that this machine trusts: behind a proxy the build needs them, the image does not."""
    bundle = os.environ.get("SSL_CERT_FILE")
    if not bundle:
        return []
    return ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro", "--build-arg", f"SSL_CERT_FILE={bundle}"]


def _base(say: Say) -> str:
    """A small Debian with Python, made by debootstrap: no public registry is needed."""
    if _exists(_BASE_TAG):
        return _BASE_TAG
    say("base image: debootstrap (under a minute)")
    folder = Path(tempfile.mkdtemp(prefix="raytrain-base-", dir="/var/tmp"))
    try:
        run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, folder)
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(folder / leftover, ignore_errors=True)
        container = _buildah("from", "scratch").strip()
        _buildah("add", "--quiet", container, folder, "/")
        _buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
        _buildah("commit", "--quiet", container, _BASE_TAG)
        _buildah("rm", container)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _BASE_TAG


def _push(registry: Registry, reference: str) -> None:
    """The fastest compression that containerd reads: six gigabytes of libraries are in there."""
    destination = f"docker://{registry.address}/{reference.removeprefix(f'{NAME}/')}"
    _buildah(
        "push", "--quiet", "--tls-verify=false", "--format", "oci",
        "--compression-format", "zstd", "--compression-level", "1", reference, destination,
    )  # fmt: skip


def _exists(reference: str) -> bool:
    return bool(_buildah("images", "--quiet", "--filter", f"reference={reference}").strip())


def _buildah(*arguments: str | Path) -> str:
    root = cache_folder() / "buildah"
    storage = ["--root", str(root / "storage"), "--runroot", str(root / "run"), "--storage-driver", "overlay"]
    command = ["buildah", *storage, *(str(a) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": "/var/tmp"})
    if done.returncode:
        raise HarnessError(f"buildah {arguments[0]} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
