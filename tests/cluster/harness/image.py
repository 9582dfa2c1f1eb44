"""Assembles images in each node's containerd without copying the six gigabytes of libraries.

buildah builds the Dockerfile's small stage `common`, and each node imports it. What later stages
add (locked dependencies, our code) is laid out once in the cache folder and hard-linked into a
snapshot on the node, instead of packing, pushing, pulling and unpacking a layer. The digest of such
a layer is that of its recipe, as no archive of it exists. User, entry point and command are read
from the Dockerfile.
"""

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.harness import layers
from tests.cluster.harness.console import Echo, HarnessError
from tests.cluster.harness.machine import Machine
from tests.cluster.harness.paths import cache_folder
from tests.cluster.harness.processes import run
from tests.support import REPOSITORY

NAME = "raytrain.test"  # not a host name, so that no node pulls
PAUSE = f"{NAME}/pause:1"
DOCKERFILE = REPOSITORY / "k8s/image/Dockerfile"
BASE_VARIABLE = "RAYTRAIN_TEST_BASE_IMAGE"

_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates,procps"
_BASE_TAG = f"localhost/raytrain-base:{_SUITE}-1"
_CERTIFICATES = Path("/etc/ssl/certs")
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Store:
    """The images and snapshots of one node's containerd."""

    machine: Machine
    socket: Path

    def ctr(self, *arguments: str | Path, check: bool = True) -> str:
        return self.machine.run("ctr", "--address", self.socket, "--namespace", "k8s.io", *arguments, check=check)

    def has(self, reference: str) -> bool:
        return reference in self.ctr("images", "list", "--quiet", f"name=={reference}").split()

    def snapshots(self) -> set[str]:
        return {line.split()[0] for line in self.ctr("snapshots", "list").splitlines()[1:]}

    def content(self, digest: str) -> Any:
        return json.loads(self.ctr("content", "get", digest))

    def digest(self, reference: str) -> str:
        """Returns the digest of an image's manifest."""
        found = re.search(r"sha256:[0-9a-f]{64}", self.ctr("images", "list", f"name=={reference}"))
        assert found is not None
        return found[0]


def put_pause(stores: Sequence[Store], pause: Path) -> None:
    """Imports the pause image, the first process of every pod."""
    for store in stores:
        if not store.has(PAUSE):
            config = {"User": "65535:65535", "Entrypoint": ["/pause"]}
            with _archive(PAUSE, {"config": config}, [_packed(pause)]) as archive:
                store.ctr("images", "import", archive)


def publish(stores: Sequence[Store], target: str, echo: Echo) -> str:
    """Puts a target of the project's Dockerfile on every node; returns the reference for pods."""
    added = [layers.environment(target, echo), layers.code()]
    return _publish(stores, target, target, added, echo)


def publish_program(stores: Sequence[Store], name: str, program: Path, echo: Echo) -> str:
    """Puts an image of one Python program on every node, with the user and the Python of a run."""
    return _publish(stores, f"stand-in-{name}", "run", [layers.program(name, program)], echo)


def _publish(stores: Sequence[Store], target: str, stage_of: str, added: Sequence[layers.Layer], echo: Echo) -> str:
    common = build("common", echo)
    stage = _stage(DOCKERFILE.read_text(), stage_of)
    reference = ""
    for store in stores:
        if not store.has(common):
            echo(f"image {target}: importing the common stage")
            with _exported(common) as archive:
                store.ctr("images", "import", archive)
        reference = _assemble(store, common, target, stage, added)
    return reference


def chart_value(reference: str) -> dict[str, str]:
    """Returns an image reference as values of the operator's chart."""
    name, tag = reference.rsplit(":", 1)
    registry, repository = name.split("/", 1)
    return {"registry": registry, "repository": repository, "tag": tag}


def _assemble(store: Store, common: str, target: str, stage: dict[str, Any], added: Sequence[layers.Layer]) -> str:
    manifest = store.content(store.digest(common))
    config = store.content(manifest["config"]["digest"])
    config["config"] |= stage
    packed = []
    parent = _chain(config["rootfs"]["diff_ids"])
    for layer in added:
        config["rootfs"]["diff_ids"].append(layer.digest)
        config.setdefault("history", []).append({"created_by": layer.what})
        chain = _chain(config["rootfs"]["diff_ids"])
        _fill(store, chain, parent, layer)
        packed.append({"mediaType": _LAYER, "digest": layer.digest, "size": 0})
        parent = chain
    name = f"{NAME}/{target}:{hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]}"
    if not store.has(name):
        with _archive(name, config, [], manifest["layers"] + packed) as archive:
            store.ctr("images", "import", archive)
    return name


def _fill(store: Store, chain: str, parent: str, layer: layers.Layer) -> None:
    """Creates a snapshot of the layer's files, hard-linked where the file system allows it."""
    if chain in store.snapshots():
        return
    scratch = f"filling-{chain[-12:]}"
    store.ctr("snapshots", "delete", scratch, check=False)  # left by a killed process
    store.ctr("snapshots", "prepare", scratch, parent)
    found = re.search(r"upperdir=([^,\s]+)", store.ctr("snapshots", "mounts", "/nowhere", scratch))
    assert found is not None
    run("cp", "--archive", "--link", f"{layer.folder}/.", found[1])
    store.ctr("snapshots", "commit", chain, scratch)


def _chain(diffs: Sequence[str]) -> str:
    """Returns containerd's name (chain id) for the snapshot of these layers."""
    name = diffs[0]
    for diff in diffs[1:]:
        name = f"sha256:{hashlib.sha256(f'{name} {diff}'.encode()).hexdigest()}"
    return name


def _stage(dockerfile: str, target: str) -> dict[str, Any]:
    """Returns `User`, `Entrypoint` and `Cmd` of a target of our Dockerfile, as an image config."""
    found: dict[str, Any] = {}
    inside = False
    for line in dockerfile.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            inside = rest.endswith(f" AS {target}")
        elif inside and word == "USER":
            found["User"] = rest
        elif inside and word in ("ENTRYPOINT", "CMD"):
            found[{"ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}[word]] = json.loads(rest)
    if not found:
        raise HarnessError(f"{DOCKERFILE} has no target {target}")
    return found


def _packed(program: Path) -> bytes:
    """Returns a layer, as a tar archive, with one program in its root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            archive.addfile(entry, content)
    return buffer.getvalue()


@contextmanager
def _archive(
    name: str, config: dict[str, Any], blobs: Sequence[bytes], descriptors: Sequence[dict[str, Any]] = ()
) -> Iterator[Path]:
    """Writes an OCI archive with `blobs` as layers, or with `descriptors` of layers on the node."""
    described = [{"mediaType": _LAYER, "digest": _digest(blob), "size": len(blob)} for blob in blobs]
    if blobs:
        config = {
            "architecture": _architecture(), "os": "linux", "config": {}, **config,
            "rootfs": {"type": "layers", "diff_ids": [entry["digest"] for entry in described]},
        }  # fmt: skip
    written = json.dumps(config).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": _digest(written), "size": len(written)},
        "layers": [*described, *descriptors],
    }).encode()  # fmt: skip
    top = {
        "mediaType": _MANIFEST, "digest": _digest(manifest), "size": len(manifest),
        "annotations": {"io.containerd.image.name": name},
    }  # fmt: skip
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [top]}).encode(),
        **{f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}": blob for blob in (manifest, written, *blobs)},
    }
    with tempfile.NamedTemporaryFile(prefix="image-", suffix=".tar", dir=cache_folder()) as output:
        with tarfile.open(fileobj=output, mode="w") as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        output.flush()
        yield Path(output.name)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def run_command(reference: str, *command: str) -> str:
    """Runs a command in a built image; returns its output."""
    container = _buildah("from", reference).strip()
    try:
        return _buildah("run", "--isolation", "chroot", container, "--", *command)
    finally:
        _buildah("rm", container)


def read_file(reference: str, path: str) -> bytes:
    """Returns the content of a file in a built image."""
    container = _buildah("from", reference).strip()
    try:
        return (Path(_buildah("mount", container).strip()) / path).read_bytes()
    finally:
        _buildah("rm", container)


def build(target: str, echo: Echo) -> str:
    """Builds a target or stage of the Dockerfile; returns its reference in buildah's storage."""
    base = os.environ.get(BASE_VARIABLE) or _base(echo)
    echo(f"image: building {target}")
    with tempfile.NamedTemporaryFile(prefix="image-id-") as identity:
        _buildah(
            "build", "--isolation", "chroot", "--network", "host", "--layers", "--format", "oci",
            "--build-arg", f"BASE={base}", *_trust(),
            "--target", target, "--iidfile", identity.name, "--file", DOCKERFILE, REPOSITORY,
        )  # fmt: skip
        image = Path(identity.name).read_text().strip()
    reference = f"{NAME}/{target}:{image.removeprefix('sha256:')[:12]}"
    _buildah("tag", image, reference)
    return reference


def _trust() -> list[str]:
    """Returns build flags that mount this machine's CA certificates, needed behind a proxy."""
    bundle = os.environ.get("SSL_CERT_FILE")
    if not bundle:
        return []
    return ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro", "--build-arg", f"SSL_CERT_FILE={bundle}"]


def _base(echo: Echo) -> str:
    """Returns a small Debian image with Python, built by debootstrap without a public registry."""
    if _buildah("images", "--quiet", "--filter", f"reference={_BASE_TAG}").strip():
        return _BASE_TAG
    echo("image: debootstrap of the base image (under a minute)")
    folder = Path(tempfile.mkdtemp(prefix="raytrain-base-", dir="/var/tmp"))
    try:
        run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, folder)
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(folder / leftover, ignore_errors=True)
        folder.chmod(0o755)
        container = _buildah("from", "scratch").strip()
        _buildah("add", "--quiet", container, folder, "/")
        _buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
        _buildah("commit", "--quiet", container, _BASE_TAG)
        _buildah("rm", container)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _BASE_TAG


@contextmanager
def _exported(reference: str) -> Iterator[Path]:
    """Exports an image from buildah's storage to an archive, under its full name."""
    with tempfile.TemporaryDirectory(prefix="image-", dir=cache_folder()) as scratch:
        archive = Path(scratch) / "image.tar"
        _buildah("push", "--quiet", "--disable-compression", reference, f"docker-archive:{archive}:{reference}")
        yield archive


def _buildah(*arguments: str | Path) -> str:
    root = cache_folder() / "buildah"
    storage = ["--root", str(root / "storage"), "--runroot", str(root / "run"), "--storage-driver", "overlay"]
    command = ["buildah", *storage, *(str(a) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": "/var/tmp"})
    if done.returncode:
        raise HarnessError(f"{shlex.join(command[:1] + command[7:9])} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
