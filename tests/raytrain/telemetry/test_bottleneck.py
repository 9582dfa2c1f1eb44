"""What bounds a step is read from where its seconds went."""

import json

import pytest

from raytrain.cli import main
from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.bottleneck import LATEST, find_bottleneck
from raytrain.telemetry.segments import SegmentWriter
from raytrain_core.storage import open_store

COMPUTING = {"data": 0.001, "forward": 0.3, "backward": 0.6, "grad_sync": 0.01, "optimizer": 0.05}


def lines(n=10, seconds=1.0, **parts):
    return [{"step": i, "seconds": seconds, "seconds_by_part": {**COMPUTING, **parts}} for i in range(n)]


@pytest.mark.parametrize(
    ("parts", "bound"),
    [
        ({}, "compute"),
        ({"data": 0.5, "forward": 0.1, "backward": 0.2}, "data"),
        ({"grad_sync": 0.4, "backward": 0.2}, "grad_sync"),
        ({"optimizer": 0.3, "backward": 0.3}, "optimizer"),
        ({"checkpoint": 0.2, "backward": 0.4}, "checkpoint"),
        ({"data": 0.16, "grad_sync": 0.6, "forward": 0.1, "backward": 0.05}, "grad_sync"),
    ],
)
def test_the_part_that_bounds_is_named(parts, bound):
    found = find_bottleneck(lines(**parts))
    assert found.part == bound
    assert found.description
    assert found.advice
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert list(found.shares.values()) == sorted(found.shares.values(), reverse=True)


def test_only_the_latest_steps_count():
    found = find_bottleneck([*lines(100, data=0.9, forward=0.0, backward=0.0), *lines(LATEST)])
    assert (found.part, found.steps, found.seconds) == ("compute", LATEST, 1.0)
    assert found.shares["other"] == pytest.approx(1.0 - sum(COMPUTING.values()))


def test_without_steps_there_is_nothing_to_say():
    assert find_bottleneck([]) is None
    assert find_bottleneck([{"step": 1, "seconds": None, "seconds_by_part": {}}]) is None


def test_status_why_reads_a_run_s_metrics(tmp_path, capsys):
    store, layout = open_store(str(tmp_path)), RunLayout("notes")
    store.put(layout.job, b"{}")
    assert main(["status", "notes", "--storage", str(tmp_path), "--why"]) == 2
    assert "run notes has not completed a step yet" in capsys.readouterr().err
    with SegmentWriter(store, layout, "metrics", 1) as writer:
        for line in lines(grad_sync=0.4, backward=0.2):
            writer.append(line)
    assert main(["status", "notes", "--storage", str(tmp_path), "--why"]) == 0
    text = capsys.readouterr().out
    assert "a step takes 1 s (mean of the latest 10); bottleneck: gradient synchronization across workers" in text
    assert "grad_sync     40%" in text
    assert "raise training.batchTokens" in text
    assert main(["status", "notes", "--storage", str(tmp_path), "--why", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["part"] == "grad_sync"
