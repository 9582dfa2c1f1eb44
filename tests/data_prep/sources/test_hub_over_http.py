"""The real clients of the hub against a server on this machine.

In a process of its own, which reads HF_ENDPOINT.
"""

import gzip
import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.data_prep_bench import numbered
from tests.support.dataset_hub import dataset_hub

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(scope="module")
def hub():
    with dataset_hub() as server:
        yield server


def parquet(rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def jsonl(rows) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())


CARD = """---
configs:
- config_name: plain
  data_files:
  - {split: train, path: plain/train-*}
  - {split: test, path: plain/test-*}
- config_name: more
  data_files:
  - {split: train, path: more/train-*}
---
# Notes
"""


@pytest.fixture(scope="module", autouse=True)
def notes(hub):
    files = {
        "README.md": CARD.encode(),
        "plain/train-00000-of-00002.parquet": parquet(numbered(30)),
        "plain/train-00001-of-00002.parquet": parquet(numbered(30, 30)),
        "plain/test-00000-of-00001.parquet": parquet(numbered(7, 500)),
        "more/train-00000-of-00001.parquet": parquet(numbered(10, 900)),
    }
    hub.add("someone/notes", OLD, files, ("v1",))
    hub.add("someone/notes", NEW, files | {"plain/test-00000-of-00001.parquet": parquet(numbered(9, 600))})
    hub.aliases["lines"] = "someone/lines"
    hub.add("someone/lines", OLD, {"README.md": b"# Lines", "train.jsonl.gz": jsonl(numbered(200, 1000))})


@pytest.fixture
def prepare(hub, tmp_path, base_folder):
    """Run the command on a source; what it printed, and what the hub was asked."""

    def run(uri):
        task = {"name": "notes", "type": "summarization", "source": {"uri": uri}}
        (tmp_path / "job.yaml").write_text(json.dumps({"spec": {"model": str(base_folder), "tasks": [task]}}))
        hub.asked.clear()
        hidden = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"}
        environment = {k: v for k, v in os.environ.items() if k not in hidden and not k.lower().endswith("_proxy")}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "data_prep", "prepare", "job.yaml", "--storage", "store"]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


def rows_by_split(output: str) -> dict[str, int]:
    lines = [line.split() for line in output.splitlines() if line.startswith("notes  ")]
    return {line[1]: int(line[2].replace(",", "")) for line in lines}


def test_a_configuration_at_a_revision_and_then_nothing_is_read_again(hub, prepare):
    """Rate limits and hangs when each rank streams (datasets#7506, #7344, torchtitan#4830).

    Rows are read once.
    """
    first = prepare("hf://someone/notes:plain@v1")
    assert first.returncode == 0, first.stderr
    found = rows_by_split(first.stdout)
    assert found["test"] == 7
    assert found["train"] + found["validation"] == 60
    fetched = [request for request in hub.asked if request.startswith("GET /datasets/")]
    assert any(f"/resolve/{OLD}/plain/train-00001-of-00002.parquet" in request for request in fetched)
    assert not any(NEW in request for request in hub.asked)
    assert not any("more/" in request for request in fetched)
    again = prepare("hf://someone/notes:plain@v1")
    assert again.stdout == first.stdout
    # Asked which splits there are, the client looks at the columns of one file.
    assert len({request for request in hub.asked if ".parquet" in request and request.startswith("GET ")}) <= 1


def test_a_name_alone_means_the_newest_commit(prepare):
    found = prepare("hf://someone/notes:plain")
    assert found.returncode == 0, found.stderr
    assert rows_by_split(found.stdout)["test"] == 9


def test_packed_lines_of_a_data_set_by_its_former_name(prepare):
    found = prepare("hf://lines")
    assert found.returncode == 0, found.stderr
    assert sum(rows_by_split(found.stdout).values()) == 200


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("hf://someone/nots", "hf://someone/nots cannot be read from the hub (RepositoryNotFoundError"),
        ("hf://someone/notes@v9", "hf://someone/notes@v9 cannot be read from the hub (RevisionNotFoundError"),
        ("hf://someone/notes:fancy", "'plain', 'more'"),
    ],
)
def test_what_the_hub_does_not_have_is_said(prepare, uri, reason):
    found = prepare(uri)
    assert found.returncode == 3
    assert reason in found.stderr
    assert "Traceback" not in found.stderr
