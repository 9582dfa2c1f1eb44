"""Images for pods, assembled on each node's containerd without a copy of the six gigabytes of libraries.

The Dockerfile's stage `ground` is built by buildah and imported; it is small. What its later stages
add (locked dependencies, our code) is laid out once in the cache folder, and put on a node as hard
links: a snapshot is filled directly instead of packing, pushing, pulling and unpacking a layer. Its
digest is that of its recipe, as no archive of it ever exists. User, entry point and command are
read from the Dockerfile.
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
from tests.cluster.harness.paths import REPOSITORY, cache_folder
from tests.cluster.harness.processes import run

NAME = "raytrain.test"  # no host name: no node ever pulls
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
    """One node's containerd, as seen by a command that runs inside the machine."""

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
        """Of an image's manifest."""
        found = re.search(r"sha256:[0-9a-f]{64}", self.ctr("images", "list", f"name=={reference}"))
        assert found is not None
        return found[0]


def put_pause(stores: Sequence[Store], pause: Path) -> None:
    """The image of every pod's first process."""
    for store in stores:
        if not store.has(PAUSE):
            config = {"User": "65535:65535", "Entrypoint": ["/pause"]}
            with _archive(PAUSE, {"config": config}, [_packed(pause)]) as archive:
                store.ctr("images", "import", archive)


def publish(stores: Sequence[Store], target: str, echo: Echo) -> str:
    """Put one target of the project's Dockerfile on every node; the reference that pods use."""
    ground = build("ground", echo)
    added = [layers.environment(target, echo), layers.code()]
    stage = _stage(DOCKERFILE.read_text(), target)
    reference = ""
    for store in stores:
        if not store.has(ground):
            echo(f"image {target}: importing what it stands on")
            with _exported(ground) as archive:
                store.ctr("images", "import", archive)
        reference = _assemble(store, ground, target, stage, added)
    return reference


def chart_value(reference: str) -> dict[str, str]:
    """An image as the chart's values name it."""
    name, tag = reference.rsplit(":", 1)
    registry, repository = name.split("/", 1)
    return {"registry": registry, "repository": repository, "tag": tag}


def _assemble(store: Store, ground: str, target: str, stage: dict[str, Any], added: Sequence[layers.Layer]) -> str:
    manifest = store.content(store.digest(ground))
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
    """A snapshot with the layer's files, as hard links where the file system allows it."""
    if chain in store.snapshots():
        return
    scratch = f"filling-{chain[-12:]}"
    store.ctr("snapshots", "delete", scratch, check=False)  # of one that was killed
    store.ctr("snapshots", "prepare", scratch, parent)
    found = re.search(r"upperdir=([^,\s]+)", store.ctr("snapshots", "mounts", "/nowhere", scratch))
    assert found is not None
    run("cp", "--archive", "--link", f"{layer.folder}/.", found[1])
    store.ctr("snapshots", "commit", chain, scratch)


def _chain(diffs: Sequence[str]) -> str:
    """The name that containerd gives the snapshot of these layers."""
    name = diffs[0]
    for diff in diffs[1:]:
        name = f"sha256:{hashlib.sha256(f'{name} {diff}'.encode()).hexdigest()}"
    return name


def _stage(dockerfile: str, target: str) -> dict[str, Any]:
    """Who runs what in a target of our Dockerfile: `{"User": ..., "Entrypoint": [...], "Cmd": [...]}`."""
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
    """A layer with one program at the top."""
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
    """An OCI archive of one image: with `blobs` as its layers, or of layers that lie on the node already."""
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
    with tempfile.NamedTemporaryFile(prefix="image-", suffix=".tar", dir=cache_folder()) as made:
        with tarfile.open(fileobj=made, mode="w") as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        made.flush()
        yield Path(made.name)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def output(reference: str, *command: str) -> str:
    """What a command prints in a built image."""
    container = _buildah("from", reference).strip()
    try:
        return _buildah("run", "--isolation", "chroot", container, "--", *command)
    finally:
        _buildah("rm", container)


def read(reference: str, path: str) -> bytes:
    """A file of a built image."""
    container = _buildah("from", reference).strip()
    try:
        return (Path(_buildah("mount", container).strip()) / path).read_bytes()
    finally:
        _buildah("rm", container)


def build(target: str, echo: Echo) -> str:
    """Build a target (or stage) of the Dockerfile as people do; its reference in buildah's storage, by content."""
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
    """The authorities that this machine trusts: behind a proxy the build needs them, the image does not."""
    bundle = os.environ.get("SSL_CERT_FILE")
    if not bundle:
        return []
    return ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro", "--build-arg", f"SSL_CERT_FILE={bundle}"]


def _base(echo: Echo) -> str:
    """A small Debian with Python, made by debootstrap: no public registry is needed."""
    if _buildah("images", "--quiet", "--filter", f"reference={_BASE_TAG}").strip():
        return _BASE_TAG
    echo("image: debootstrap of its base (under a minute)")
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
    """An archive of an image of buildah's, under its full name."""
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
