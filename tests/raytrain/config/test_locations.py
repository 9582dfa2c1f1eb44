"""The storage and the run that a command refers to."""

from pathlib import Path

import pytest

from raytrain.config.job import FineTuneJob
from raytrain.config.locations import cache_folder, locate_run, storage_location
from raytrain_core.errors import UsageError
from raytrain_core.storage import StorageLocation
from tests.support.job_mapping import job_from


def job(storage: dict[str, str] | None) -> FineTuneJob:
    spec = {
        "model": "m",
        "storage": storage,
        "tasks": [{"name": "a", "type": "text", "source": {"uri": "a.csv"}}],
        "training": {"steps": 3},
    }
    return job_from(
        {"apiVersion": "raytrain.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "run"}, "spec": spec}
    )


def test_flag_then_job_then_environment_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    configured = job({"uri": "s3://bucket/document", "endpoint": "http://localhost:1"})
    monkeypatch.setenv("RAYTRAIN_STORAGE", "s3://bucket/environment")
    assert storage_location("flag", configured) == StorageLocation(uri="flag")
    assert storage_location(None, configured) == StorageLocation(
        uri="s3://bucket/document", endpoint="http://localhost:1"
    )
    assert storage_location(None, job(None)) == StorageLocation(uri="s3://bucket/environment")
    monkeypatch.delenv("RAYTRAIN_STORAGE")
    assert storage_location(None, job(None)) == storage_location(None) == StorageLocation(uri="./raytrain-storage")


def test_the_cache_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("RAYTRAIN_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/raytrain"


def test_an_empty_flag_is_an_error() -> None:
    with pytest.raises(UsageError, match="--storage is empty"):
        storage_location(" ")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("runs-here", "/base/runs-here"),
        ("/abs", "/abs"),
        ("s3://bucket/p", "s3://bucket/p"),
        ("file:///x", "file:///x"),
    ],
)
def test_a_path_in_the_job_is_relative_to_it(uri: str, expected: str) -> None:
    assert storage_location(None, job({"uri": uri}), base_folder=Path("/base")).uri == expected


@pytest.mark.parametrize(
    ("run", "storage", "name"),
    [
        ("s3://bucket/prefix/runs/demo", "s3://bucket/prefix", "demo"),
        ("s3://bucket/prefix/runs/demo/", "s3://bucket/prefix", "demo"),
        ("demo/runs/quickstart", "demo", "quickstart"),
        ("/runs/quickstart", "/", "quickstart"),
        ("runs/quickstart", ".", "quickstart"),
        ("file:///a/runs/x/runs/y", "file:///a/runs/x", "y"),
    ],
)
def test_a_run_by_uri(run: str, storage: str, name: str) -> None:
    place = locate_run(run, None)
    assert (place.storage.uri, place.name) == (storage, name)


def test_a_run_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTRAIN_STORAGE", "s3://bucket/environment")
    assert locate_run("demo", None).storage.uri == "s3://bucket/environment"
    assert locate_run("demo", "flag").storage.uri == "flag"


def test_a_run_by_job(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "apiVersion: raytrain.dev/v1alpha1\nkind: FineTuneJob\nmetadata: {name: mine}\nspec:\n  model: m\n"
        "  storage: {uri: here}\n  tasks: [{name: a, type: text, source: {uri: a.csv}}]\n  training: {steps: 1}\n"
    )
    place = locate_run(str(tmp_path / "job.yaml"), None)
    assert (place.name, place.storage.uri) == ("mine", str(tmp_path / "here"))


@pytest.mark.parametrize("run", ["s3://bucket/prefix/demo", "s3://bucket/runs/a/b", "a/b"])
def test_what_is_not_the_name_of_a_run(run: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a run"):
        locate_run(run, None)


def test_a_run_uri_together_with_a_storage_flag_is_an_error() -> None:
    with pytest.raises(UsageError, match="already names the storage, and so does --storage"):
        locate_run("s3://bucket/runs/a", "elsewhere")
