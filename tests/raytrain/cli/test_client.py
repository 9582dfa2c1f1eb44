"""The client needs none of the libraries that train: its commands run in a process without them."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

from raytrain.cluster import doctor
from raytrain_core.extras import EXTRAS
from tests.support import REPOSITORY

BLOCKED = sorted({package for packages in EXTRAS.values() for package in packages})
RUN = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from raytrain.cli import main
sys.exit(main(sys.argv[1:]))
"""
JOB = """\
apiVersion: raytrain.dev/v1alpha1
kind: FineTuneJob
metadata: {name: small}
spec:
  model: google/flan-t5-small
  tasks:
    - {name: notes, type: summarization, source: {uri: notes.jsonl}, columns: {input: a, target: b}}
  training: {steps: 3}
"""


@pytest.fixture
def folder(tmp_path):
    """A job with its rows, and a finished run with a report, as a storage holds it."""
    (tmp_path / "job.yaml").write_text(JOB)
    rows = [{"a": f"what {i} said to {i + 1}", "b": f"{i} spoke"} for i in range(60)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "raytrain-storage" / "runs" / "small"
    (run / "report").mkdir(parents=True)
    for name, text in {"index.html": "<p>page</p>", "report.md": "# Report", "report.json": "{}"}.items():
        (run / "report" / name).write_text(text)
    (run / "report" / "manifest.json").write_text("{}")
    (run / "job.yaml").write_text(JOB)
    return tmp_path


def client(folder, *arguments, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAYTRAIN_", "KUBE"))}
    environment = kept | {"PYTHONPATH": str(REPOSITORY), "HOME": str(folder), "HF_HUB_OFFLINE": "1"} | variables
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_writes_checks_and_explains_a_job(folder):
    assert client(folder, "--help").returncode == 0
    assert client(folder, "init", "other.yaml").returncode == 0
    checked = client(folder, "check", "job.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "guessed from 4 characters a token" in checked.stdout
    assert client(folder, "explain", "training.optimizer").returncode == 0
    assert client(folder, "explain", "--schema").returncode == 0


def test_says_what_is_missing_and_which_command_brings_it(folder):
    for arguments in (["run", "job.yaml"], ["predict", "small", "text", "--task", "notes"], ["leaderboard"]):
        done = client(folder, *arguments)
        assert done.returncode == 2, done.stderr
        assert "which is not installed\n  pip install 'raytrain[train]'" in done.stderr


def test_a_parquet_source_is_unknown_to_the_check(folder):
    (folder / "rows.parquet").write_bytes(b"PAR1")
    (folder / "job.yaml").write_text(JOB.replace("notes.jsonl", "rows.parquet"))
    checked = client(folder, "check", "job.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "needs the package pyarrow, which is not installed: pip install 'raytrain[train]'" in checked.stdout


def test_shows_the_report_that_the_run_wrote(folder):
    done = client(folder, "report", "small")
    assert done.stdout == "# Report\n"
    assert "as the run wrote it; pip install 'raytrain[train]'" in done.stderr
    (folder / "raytrain-storage/runs/small/report/manifest.json").unlink()
    done = client(folder, "report", "small")
    assert done.returncode == 2
    assert "has not written a report yet" in done.stderr


def test_doctor_calls_the_client_whole(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    found = list(doctor.of_this_machine())
    assert all(finding.ok for finding in found)
    assert found[-1].what == "the client alone; pip install 'raytrain[train]' trains on this machine"


def test_doctor_says_what_half_an_installation_lacks(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "torch" else "1.0")
    (missing,) = [finding for finding in doctor.of_this_machine() if not finding.ok]
    assert (missing.what, missing.hint) == ("torch is not installed", "pip install 'raytrain[train]'")


def test_every_package_of_an_extra_is_a_dependency_of_it():
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = {"mlflow": "mlflow-skinny", "google": "google-cloud-storage", "azure": "azure-storage-blob"}
    for extra, packages in EXTRAS.items():
        names = {re.split(r"[\[><=]", requirement)[0].replace("_", "-").lower() for requirement in declared[extra]}
        assert {distributions.get(package, package.replace("_", "-").lower()) for package in packages} <= names, extra


def test_writes_a_sample_and_what_installs_the_operator(folder):
    assert client(folder, "init", "--sample", "sample").returncode == 0
    assert client(folder, "check", "sample/job.yaml").returncode == 0
    assert client(folder, "install", "--crd").stdout.startswith("apiVersion: apiextensions.k8s.io/v1")
    assert "kind: Deployment" in client(folder, "install", "--print").stdout
    assert client(folder, "install", "--charts", "charts").returncode == 0
    assert sorted(path.name for path in (folder / "charts").iterdir()) == ["finetune-job", "raytrain-operator"]
    assert client(folder, "install", "--charts", "charts").returncode == 2
    assert client(folder, "install").returncode == 2
