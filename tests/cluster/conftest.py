"""A cluster for the test session: a running one, or else one that is started and removed.

RAYTRAIN_TEST_KUBECONFIG selects any other cluster with KubeRay; RAYTRAIN_TEST_RUN_IMAGE and
RAYTRAIN_TEST_OPERATOR_IMAGE then name the images, and RAYTRAIN_TEST_HOST the address at which pods
reach this machine. RAYTRAIN_TEST_INSTALL=1 installs missing Debian packages. If no cluster can be
started, the tests are skipped with the reason, or fail if RAYTRAIN_TEST_CLUSTER=required.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster import tiny_quickstart
from tests.cluster.harness import cluster as harness
from tests.cluster.harness.console import HarnessError, timed_echo
from tests.cluster.harness.image import chart_value
from tests.cluster.harness.processes import run, wait_for
from tests.support import REPOSITORY
from tests.support.kubernetes_tools import kubernetes_tools
from tests.support.s3_server import S3Server, s3_server

PATIENCE = 900.0
"""Timeout of a tiny run in seconds; it takes two minutes on two idle cores."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@dataclass(frozen=True)
class Target:
    """A cluster, its images, and clients to reach it."""

    kubeconfig: Path
    run_image: str
    operator_image: str
    host: str

    def kubectl(self, *arguments: str, input_text: str | None = None, check: bool = True) -> str:
        """Runs the real kubectl and returns its output."""
        return run(
            kubernetes_tools().kubectl,
            f"--kubeconfig={self.kubeconfig}",
            *arguments,
            input_text=input_text,
            check=check,
        )

    def helm(self, *arguments: str) -> str:
        """Runs the real Helm and returns its output."""
        return run(kubernetes_tools().helm, f"--kubeconfig={self.kubeconfig}", *arguments)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """Returns an object as plain data."""
        content: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return content

    def apply(self, content: dict[str, Any], namespace: str) -> None:
        """Applies an object with `kubectl apply`."""
        self.kubectl("apply", "-n", namespace, "-f", "-", input_text=json.dumps(content))

    def wait_for(self, condition: str, name: str, namespace: str, *, seconds: float = PATIENCE) -> dict[str, Any]:
        """Returns the FineTuneJob once the condition holds; a failure shows the job's state."""

        def holds() -> bool:
            status = self.get("ftj", name, namespace).get("status", {})
            conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
            for other in {"Complete", "Failed"} - {condition}:
                if conditions.get(other) == "True":
                    raise AssertionError(f"{name} is {other}\n{self.describe(name, namespace)}")
            return conditions.get(condition) == "True"

        wait_for(holds, seconds, f"{name} to be {condition}", every=1, why=lambda: self.describe(name, namespace))
        return self.get("ftj", name, namespace)

    def until(self, done: Callable[[], object], what: str, name: str, namespace: str) -> None:
        """Waits until `done()` is true of a FineTuneJob; a failure shows the job's state."""
        wait_for(done, PATIENCE, what, every=1, why=lambda: self.describe(name, namespace))

    def describe(self, name: str, namespace: str) -> str:
        """Returns what one would look at if a job makes no progress: objects, events, logs."""
        commands = [
            ["describe", "ftj", name],
            ["get", "rayjobs,rayclusters,pods", "-o", "wide"],
            ["get", "events", "--sort-by=.lastTimestamp"],
            ["logs", "-l", f"raytrain.dev/job={name}", "--all-containers", "--tail=40", "--prefix"],
        ]
        return "\n".join(self.kubectl(*command, "-n", namespace, check=False)[-6000:] for command in commands)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The cluster of the tests; it has two nodes only if a test needs them."""
    if existing := os.environ.get("RAYTRAIN_TEST_KUBECONFIG"):
        run_image, operator_image = (os.environ[f"RAYTRAIN_TEST_{kind}_IMAGE"] for kind in ("RUN", "OPERATOR"))
        yield Target(Path(existing), run_image, operator_image, os.environ["RAYTRAIN_TEST_HOST"])
        return
    echo = timed_echo()
    running = harness.find("default")
    try:
        two = any(item.get_closest_marker("two_nodes") for item in request.session.items)
        install = bool(os.environ.get("RAYTRAIN_TEST_INSTALL"))
        ours = running or harness.up("default", echo, nodes=2 if two else 1, gpus=int(two), install=install)
    except HarnessError as error:
        (pytest.fail if os.environ.get("RAYTRAIN_TEST_CLUSTER") == "required" else pytest.skip)(str(error))
    try:
        yield Target(ours.kubeconfig, ours.publish("run", echo), ours.publish("operator", echo), ours.host_address)
    finally:
        if running is None:
            harness.down("default", echo)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints what has happened, with the seconds since the test began, into the test's log."""
    began = time.monotonic()

    def tell(what: str) -> None:
        with capsys.disabled():
            print(f"\n  {time.monotonic() - began:6.0f} s  {what}", flush=True)

    return tell


@pytest.fixture(scope="session")
def bucket_server(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server that pods can reach."""
    with s3_server(tmp_path_factory.mktemp("s3"), target.host) as server:
        yield server


@pytest.fixture
def bucket(bucket_server: S3Server) -> Iterator[str]:
    """A fresh bucket; the environment of this process points at its server too."""
    with _fresh_bucket(bucket_server) as name:
        yield name


@pytest.fixture(scope="module")
def shared_bucket(bucket_server: S3Server) -> Iterator[str]:
    """The same for all tests of a module."""
    with _fresh_bucket(bucket_server) as name:
        yield name


@contextmanager
def _fresh_bucket(server: S3Server) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        name = server.make_bucket(f"cluster-{uuid4().hex[:8]}")
        yield name
        server.remove_bucket(name)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny quickstart world on this machine."""
    return tiny_quickstart.make_world(tmp_path_factory.mktemp("quickstart") / "world")


@pytest.fixture
def namespace(target: Target, bucket_server: S3Server) -> Iterator[str]:
    """A fresh namespace with restricted Pod Security and the secret `bucket` for the S3 server."""
    with _fresh_namespace(target, bucket_server) as name:
        yield name


@pytest.fixture(scope="module")
def shared_namespace(target: Target, bucket_server: S3Server) -> Iterator[str]:
    """The same for all tests of a module."""
    with _fresh_namespace(target, bucket_server) as name:
        yield name


@contextmanager
def _fresh_namespace(target: Target, server: S3Server) -> Iterator[str]:
    name = f"team-{uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    target.kubectl("create", "namespace", name)
    target.kubectl("label", "namespace", name, *(f"{key}={value}" for key, value in labels.items()))
    environment = {k: v for k, v in server.environment.items() if not k.endswith("_FILE")}
    literals = [f"--from-literal={key}={value}" for key, value in environment.items()]
    target.kubectl("create", "secret", "generic", "bucket", "-n", name, *literals)
    try:
        yield name
    finally:
        target.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def operator_secrets() -> dict[str, dict[str, str]]:
    """Secrets of the operator's namespace, by name; a module may have a fixture of its own."""
    return {}


@pytest.fixture(scope="module")
def operator(
    request: pytest.FixtureRequest, target: Target, operator_secrets: dict[str, dict[str, str]]
) -> Iterator[str]:
    """The namespace of the operator, which Helm installs under restricted Pod Security.

    A module's OPERATOR_VALUES are passed to Helm as additional arguments.
    """
    name = "raytrain-system"
    target.kubectl("create", "namespace", name)
    try:  # an installation that fails must not stop the next module's
        target.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        for secret, content in operator_secrets.items():
            literals = [f"--from-literal={key}={value}" for key, value in content.items()]
            target.kubectl("create", "secret", "generic", secret, "-n", name, *literals)
        images = [*_image("image", target.operator_image), *_image("runImage", target.run_image)]
        chart = str(REPOSITORY / "helm/raytrain-operator")
        more = getattr(request.module, "OPERATOR_VALUES", [])
        waiting = ("--wait", "--timeout", "5m", "--take-ownership")
        target.helm("install", "raytrain", chart, "-n", name, *waiting, *images, *more)
        yield name
    finally:
        target.helm("uninstall", "raytrain", "-n", name, "--wait", "--ignore-not-found")
        target.kubectl("delete", "namespace", name, "--timeout=120s")  # the next module creates it again


def _image(key: str, reference: str) -> list[str]:
    """Returns the Helm arguments that set an image."""
    fields = chart_value(reference).items()
    return [part for field, value in fields for part in ("--set-string", f"{key}.{field}={value}")]


@pytest.fixture(scope="session")
def definition(target: Target) -> None:
    """The CustomResourceDefinition, without an operator; it stays, as the chart keeps it too."""
    target.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "k8s/crd/finetunejobs.yaml"))
