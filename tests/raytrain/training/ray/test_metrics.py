"""What the gauges show beyond a step's own numbers."""

from dataclasses import dataclass, field

import pytest
import ray.util.metrics

from raytrain.training.ray.metrics import Gauges


@dataclass
class Record:
    step: int
    loss: float = 1.0
    tokens_per_second: float = 1.0
    examples: int = 1
    seconds: float = 1.0
    learning_rate: float = 1.0
    gradient_norm: float = 1.0
    mfu: float | None = None
    peak_memory_bytes: int = 1
    loss_by_task: dict = field(default_factory=dict)
    seconds_by_part: dict = field(default_factory=dict)


@pytest.fixture
def shown(monkeypatch):
    """What every gauge was set to, one after the other."""
    found = {}

    class Gauge:
        def __init__(self, name, **_):
            self.name = name

        def set_default_tags(self, tags):
            pass

        def set(self, value, tags=None):
            found.setdefault(self.name, []).append(value)

    monkeypatch.setattr(ray.util.metrics, "Gauge", Gauge)
    return found


@pytest.mark.parametrize("start", [0, 40])
def test_what_is_not_saved_grows_until_a_checkpoint_is_committed(shown, start):
    gauges = Gauges("run", "id", checkpoint_every=4)
    for step in range(start + 1, start + 13):
        gauges.show_step(Record(step))
        if step == start + 9:
            gauges.checkpoint_committed(start + 4)  # it took its time
    assert shown["raytrain_unsaved_intervals"] == [n / 4 for n in [*range(1, 10), 6, 7, 8]]
