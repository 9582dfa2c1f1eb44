"""Taking a model out to a real bucket: verified, continued, and read back from there."""

import hashlib
import json

import pytest

from raytrain.export.bundle import LISTING
from raytrain.export.run_export import export_run
from raytrain.export.stored import place
from raytrain.model.source import resolve
from raytrain_core.errors import StorageError, UsageError
from raytrain_core.storage import StorageLocation, open_store

pytestmark = pytest.mark.s3


def objects(s3, bucket):
    """Contents by key, read by boto3 alone."""
    found = s3.client().list_objects_v2(Bucket=bucket, Prefix="models/").get("Contents", [])
    read = {one["Key"]: s3.client().get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found}
    return {key.removeprefix("models/one/"): data for key, data in read.items()}


def test_a_run_in_a_folder_goes_to_a_bucket_and_a_job_can_start_from_there(finished, s3, s3_bucket, tmp_path):
    uri = f"s3://{s3_bucket}/models/one"
    placed = export_run(finished.store, finished.layout, to=uri)
    found = objects(s3, s3_bucket)
    listing = json.loads(found.pop(LISTING))
    assert {one["name"]: one["sha256"] for one in listing["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in found.items()
    }
    assert set(placed.written) == set(found) >= {"model.safetensors", "tokenizer.json", "README.md"}
    assert export_run(finished.store, finished.layout, to=uri).written == ()  # verified
    folder = resolve(uri, store=None, base_folder=tmp_path, cache=tmp_path / "cache")
    assert (folder / "model.safetensors").read_bytes() == found["model.safetensors"]


def test_an_interrupted_export_is_continued(bundle_of, s3, s3_bucket, s3_proxy):
    uri = f"s3://{s3_bucket}/models/one"
    broken = open_store(StorageLocation(uri=uri, endpoint=s3_proxy.endpoint))
    s3_proxy.break_("denied", "PUT", "model.safetensors")
    with pytest.raises(StorageError):
        place(bundle_of(), broken, force=False)
    there = objects(s3, s3_bucket)
    assert there.keys() == {"README.md", "config.json"}  # no listing: nobody takes it for whole

    placed = place(bundle_of(), open_store(uri), force=False)
    assert (set(placed.kept), placed.written) == (there.keys(), ("model.safetensors",))
    assert LISTING in objects(s3, s3_bucket)


def test_another_object_of_that_name_is_not_replaced(bundle_of, s3, s3_bucket):
    s3.client().put_object(Bucket=s3_bucket, Key="models/one/README.md", Body=b"mine")
    store = open_store(f"s3://{s3_bucket}/models/one")
    with pytest.raises(UsageError, match=r"other content than the export: README\.md"):
        place(bundle_of(), store, force=False)
    assert objects(s3, s3_bucket) == {"README.md": b"mine"}
