"""Results of several processors are kept side by side."""

import json

from benchmarks import page
from benchmarks.output import emit


def result(processor, ratio):
    ratios = {"speed": {"median": ratio, "min": ratio, "max": ratio}}
    return {"machine": {"processor": processor}, "ratios": ratios, "figures": {"steps": 7}}


def test_the_result_of_another_processor_is_kept_and_shown_beside_the_latest(tmp_path, monkeypatch):
    out = tmp_path / "training.json"
    for processor, ratio in (("Intel (family 6)", 2.0), ("AMD (family 25)", 3.0), ("AMD (family 25)", 4.0)):
        emit(result(processor, ratio), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training.intel-family-6.json", "training.json"]
    assert json.loads(out.read_text()) == result("AMD (family 25)", 4.0)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    text = page.page()
    assert "| ratio | AMD (family 25) | Intel (family 6) |\n| --- | --- | --- |\n| `speed` | 4 | 2 |" in text
    emit(result("Intel (family 6)", 5.0), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training.amd-family-25.json", "training.json"]
