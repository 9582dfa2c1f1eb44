"""The notebook of the quickstart runs from its first cell to its last."""

from pathlib import Path

import pytest

from tests.support import REPOSITORY

pytestmark = [pytest.mark.ray, pytest.mark.slow]
NOTEBOOK = REPOSITORY / "examples/quickstart/notebook.ipynb"


def output(cell, kind):
    found = [given["data"][kind] for given in cell["outputs"] if kind in given.get("data", {})]
    return found[-1] if found else None


def test_every_cell_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "<table" in output(cells[3], "text/html")
    assert "reviews" in output(cells[4], "text/html")
    assert output(cells[5], "text/html").startswith("<iframe srcdoc=")
    assert output(cells[6], "text/plain").startswith("[")
    assert (Path(tmp_path) / "sample/storage/runs/sample/model/manifest.json").exists()
