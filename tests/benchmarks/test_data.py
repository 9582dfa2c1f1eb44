"""The bars of the data benchmark, and how the page shows them."""

import json

from benchmarks import data, page
from benchmarks.output import processor


def cells():
    return {
        "encode": {"cpu": 3.0},
        "prepare": {"cpu": 2.0},
        "reading": {"rows_per_second_1": 10.0, "rows_per_second_2": 19.0},
        "short": {"rows": 1000, "driver_cpu": 0.002, "wall": 5.0, "driver_mib": 300.0, "worker_mib": 400.0},
        "short_before": {"wall": 10.0},
    }


def test_every_bar_has_its_value_and_its_limit():
    found = {name: (bar["value"], bar["bar"]) for name, bar in data.bars([cells()], {"plan_seconds_15m": 2}).items()}
    assert found == {
        "plan_seconds_15m": (2, "at most 5"),
        "prepare_vs_encode_batch": (1.5, "at least 1.3"),
        "reading_two_processes_vs_one": (1.9, "at least 1.8"),
        "driver_cpu_seconds_per_million_rows": (2.0, "at most 3"),
        "short_peak_mib": (400.0, "at most 600"),
        "short_wall_vs_before": (0.5, "at most 0.6"),
    }


def test_without_the_history_nothing_is_said_of_the_commit_before():
    assert "short_wall_vs_before" not in data.bars([cells() | {"short_before": {}}], {"plan_seconds_15m": 2})


def test_the_page_shows_the_bars_with_their_limits(tmp_path, monkeypatch):
    bars = data.bars([cells()], {"plan_seconds_15m": 2})
    found = {"machine": {"processor": processor()}, "ratios": {}, "bars": bars, "figures": {}}
    (tmp_path / "data.json").write_text(json.dumps(found))
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert "| `short_wall_vs_before` | 0.5 | at most 0.6 |" in page.page()
