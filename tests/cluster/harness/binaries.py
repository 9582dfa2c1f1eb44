"""Builds the programs of the cluster from pinned Go modules and caches them by digest."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.console import Echo, HarnessError
from tests.cluster.harness.paths import TOOLS, cache_folder

KUBERNETES = "1.36.3"
KUBERAY = "1.6.2"

MANIFESTS = "manifests"
"""Folder of a module's manifests, next to its programs."""

_COMPONENT = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
# Without these flags the API server reports v0.0.0, and clients reject it.
_KUBERNETES_VERSION = (
    f"-X {_COMPONENT}.gitVersion=v{KUBERNETES} -X {_COMPONENT}.gitMajor={_MAJOR} -X {_COMPONENT}.gitMinor={_MINOR}"
)


@dataclass(frozen=True)
class Module:
    """One folder of `tools/` (go.mod, go.sum) and its programs, as name -> Go package.

    `manifests` is a folder of a Go module, as (module, path); it is copied next to the programs.
    """

    name: str
    programs: dict[str, str]
    link: str = ""
    manifests: tuple[str, str] | None = None

    @property
    def source(self) -> Path:
        return TOOLS / self.name

    @property
    def folder(self) -> Path:
        """Folder of the built programs; its name is a digest of everything they depend on."""
        hasher = hashlib.sha256(repr((self.programs, self.link, *(self.manifests or ()))).encode())
        for path in sorted(self.source.iterdir()):
            hasher.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return cache_folder() / "programs" / f"{self.name}-{hasher.hexdigest()[:12]}"


_KUBERAY = "github.com/ray-project/kuberay/ray-operator"
KUBERAY_OPERATOR = Module("kuberay", {"kuberay-operator": _KUBERAY}, manifests=(_KUBERAY, "config/crd/bases"))
MODULES = (
    Module(
        "kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
        },
        _KUBERNETES_VERSION,
    ),
    Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    KUBERAY_OPERATOR,
    Module("dns", {"dns": "."}),
    Module("pause", {"pause": "."}),
)
KUEUE = Module(
    "kueue",
    {"kueue": "sigs.k8s.io/kueue/cmd/kueue"},
    manifests=("sigs.k8s.io/kueue", "config/components"),
)
"""Not part of every cluster: only its test builds it."""


@dataclass(frozen=True)
class Programs:
    """Paths of the built programs by name, and the folder of KubeRay's CRDs."""

    paths: dict[str, Path]
    crds: Path

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]


def build(echo: Echo) -> Programs:
    """Builds all programs that are not cached: five minutes on two cores the first time."""
    paths: dict[str, Path] = {}
    for module in MODULES:
        paths |= ensure_built(module, echo)
    return Programs(paths, KUBERAY_OPERATOR.folder / MANIFESTS)


def ensure_built(module: Module, echo: Echo) -> dict[str, Path]:
    """Builds a module unless it is cached; returns the paths of its programs by name."""
    if not module.folder.exists():
        _build(module, echo)
    return {name: module.folder / name for name in module.programs}


def unbuilt_modules() -> list[str]:
    """Returns the names of modules that are not built yet."""
    return [module.name for module in MODULES if not module.folder.exists()]


def _build(module: Module, echo: Echo) -> None:
    """Builds the programs one by one, and says how long each took."""
    module.folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{module.name}-", dir=module.folder.parent))
    try:
        for number, (name, package) in enumerate(module.programs.items(), start=1):
            echo(f"building {name} ({number} of {len(module.programs)} of {module.name})")
            begun = time.monotonic()
            link = f"-s -w {module.link}".strip()
            _go(module, "build", "-trimpath", "-ldflags", link, "-o", str(scratch / name), package)
            echo(f"built {name} in {time.monotonic() - begun:.0f} s")
        if module.manifests:
            name, path = module.manifests
            source = Path(_go(module, "list", "-m", "-f", "{{.Dir}}", name).strip())
            shutil.copytree(source / path, scratch / MANIFESTS, copy_function=shutil.copyfile)
        scratch.chmod(0o755)
        scratch.replace(module.folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _go(module: Module, *arguments: str) -> str:
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    done = subprocess.run(
        ["go", *arguments], cwd=module.source, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HarnessError(f"go {arguments[0]} failed in {module.source}:\n{done.stderr[-3000:]}")
    return done.stdout
