"""From nothing to a report: Helm installs the operator, `kubectl apply` sends the document, pods do the work."""

from data_prep.storage import open_store
from data_prep.storage.commit import read_manifest
from raytrain.spec.layout import RunLayout
from raytrain.spec.record import read_record
from tests.cluster import tiny_quickstart

NAME = "smoke"


def test_a_document_becomes_a_report(target, operator, namespace, bucket, tiny_world, tmp_path):
    storage = f"s3://{bucket}/raytrain"
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")
    content = tiny_quickstart.document(NAME, world, storage=storage)
    target.apply(content, namespace)
    status = target.wait_for("Complete", NAME, namespace)["status"]

    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert {"Accepted", "DataReady", "Evaluated", "Complete"} <= {t for t, s in conditions.items() if s == "True"}
    assert (status["phase"], status["result"]["exitCode"], len(status["attempts"])) == ("Complete", 0, 1)
    assert {task["name"] for task in status["tasks"]} == {task["name"] for task in content["spec"]["tasks"]}
    assert all(task["before"] is not None and task["after"] is not None for task in status["tasks"])
    heads, row = target.kubectl("get", "ftj", NAME, "-n", namespace).splitlines()
    assert heads.split()[:4] == ["NAME", "PHASE", "PROGRESS", "ROUGE-L"]
    assert row.split()[:3] == [NAME, "Complete", "100%"]

    store, layout = open_store(storage), RunLayout(NAME)
    assert status["result"]["report"] == f"{storage}/{layout.report}/index.html"
    assert b"<html" in store.get(f"{layout.report}/index.html")
    assert {"config.json", "model.safetensors"} <= {f.name for f in read_manifest(store, layout.model).files}
    here = tiny_quickstart.shard_set_digest(content, tiny_world, tmp_path / "laptop")
    assert read_record(store, layout).shard_set == here
