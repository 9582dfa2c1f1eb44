"""A bug report explains a job and contains no secrets."""

import json
import zipfile

import pytest

from raytrain.cluster.bug_report import REDACTED, redact, write
from raytrain.kubernetes.client import ApiError
from tests.support.finetunejob_objects import finetunejob, rayjob

CANARY = "canary-71c0"


class Cluster:
    """A fake API server."""

    def __init__(self, objects):
        self._objects = objects
        self.asked = []

    def get(self, kind, namespace, name):
        self.asked.append(kind[1])
        return next((o for o in self._objects if (o["kind"], o["metadata"]["name"]) == (kind[1], name)), None)

    def list(self, kind, namespace, selector=""):
        self.asked.append(kind[1])
        if kind[1] == "Node":
            raise ApiError(403, "Forbidden", "nodes is forbidden")
        return [o for o in self._objects if o["kind"] == kind[1]]

    def serves(self, kind):
        return False

    def is_allowed(self, *_):
        return True

    def call(self, method, where):
        return {"gitVersion": "v1.36.3"}


@pytest.fixture
def cluster():
    job = finetunejob(
        cluster={"podTemplate": {"spec": {"containers": [{"name": "ray", "env": [{"name": "KEY", "value": CANARY}]}]}}}
    )
    job["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(job)}
    event = {"kind": "Event", "metadata": {"name": "e"}, "message": f"no answer from https://me:{CANARY}@example.org/x"}
    mine = event | {"involvedObject": {"name": "assistant-a01"}, "reason": "Mine"}
    other = event | {"involvedObject": {"name": "assistants"}, "reason": "Other"}
    secret = {"kind": "Secret", "metadata": {"name": "bucket"}, "data": {"token": CANARY}}
    return Cluster([job, rayjob(), mine, other, secret])


def test_the_bundle_holds_objects_and_events_without_secrets(cluster, tmp_path):
    parts = write(cluster, "team", "assistant", tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as bundle:
        found = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert sorted(found) == sorted(f"assistant/{part}.json" for part in parts)
    assert {"machine", "job", "rayjobs", "pods", "events", "doctor"} <= set(parts)
    assert CANARY not in "".join(found.values())
    assert "Secret" not in cluster.asked
    assert [event["reason"] for event in json.loads(found["assistant/events.json"])] == ["Mine"]
    assert json.loads(found["assistant/rayjobs.json"])[0]["metadata"]["name"] == "assistant-a01"


def test_harmless_fields_are_not_redacted():
    shown = redact({"name": "x", "maxInputTokens": 512, "env": [{"name": "HOME", "value": "/tmp"}], "dbPassword": "p"})
    assert shown == {
        "name": "x", "maxInputTokens": 512, "env": [{"name": "HOME", "value": REDACTED}], "dbPassword": REDACTED,
    }  # fmt: skip
