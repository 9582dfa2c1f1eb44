"""A job's URIs are decided when it is loaded: laptop, `submit` and operator agree."""

import pytest

from raytrain.config.job import FineTuneJob
from raytrain_core.config.loader import ConfigError, parse_config

JOB = """
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: notes}}
spec:
  model: "{model}"
  storage: {{uri: "{storage}", endpoint: "{endpoint}"}}
  tasks: [{{name: notes, type: summarization, source: {{uri: "{source}"}}}}]
  training: {{steps: 10}}
"""
RIGHT = {
    "model": "google/flan-t5-small",
    "storage": "s3://models/raytrain",
    "endpoint": "http://store:9000",
    "source": "s3://models/notes.jsonl",
}


def test_right_uris_are_accepted():
    assert parse_config(JOB.format(**RIGHT), FineTuneJob).spec.storage.uri == "s3://models/raytrain"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("storage", "gcs://models/raytrain", "spec.storage.uri: .*gcs://...: unsupported"),
        ("storage", "s3:/models/raytrain", "spec.storage.uri: .*not with s3://"),
        ("storage", "s3://KEY:canary@models/r", "spec.storage.uri: .*contains credentials"),
        ("storage", "s3://My_Bucket/r", "spec.storage.uri: .*not a bucket name"),
        ("storage", "s3://team:canary", "spec.storage.uri: .*colon"),
        ("endpoint", "store:9000", "spec.storage.endpoint: .*not a storage endpoint"),
        ("endpoint", "http://KEY:canary@store:9000", "spec.storage.endpoint: .*contains credentials"),
        ("endpoint", "http://169.254.169.254", "spec.storage.endpoint: .*metadata"),
        ("source", "s3a://models/notes.jsonl", "spec.tasks.0..source: .*unsupported"),
        ("source", "s3://KEY:canary@models/notes.jsonl", "spec.tasks.0..source: .*contains credentials"),
        ("model", "https://host/t5", "spec.model: .*unsupported"),
        ("model", "s3://KEY:canary@models/t5", "spec.model: .*contains credentials"),
    ],
)
def test_a_wrong_uri_is_refused_at_its_field_without_its_secret(field, value, words):
    with pytest.raises(ConfigError, match=words) as error:
        parse_config(JOB.format(**{**RIGHT, field: value}), FineTuneJob)
    assert "canary" not in str(error.value)
