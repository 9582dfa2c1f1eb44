"""The simulation of many workers: their messages to the driver, and who trains which row."""

from benchmarks import scale
from benchmarks.plan import packed_order, tasks_of


def test_a_smaller_group_trains_the_same_rows_each_once():
    packed, step, rows_per_step = packed_order(tasks_of(20_000, 12), scale.SHAPE), 2, 32
    rows = packed.rows(step * rows_per_step, rows_per_step)
    for workers in (16, 15, 8, 3):
        own = [scale.own_rows(packed, step, rows_per_step, rank, workers) for rank in range(workers)]
        found = sorted(pair for rows_of_worker in own for pair in rows_of_worker)
        assert [k for k, _ in found] == list(range(step * rows_per_step, (step + 1) * rows_per_step))
        assert [row for _, row in found] == rows


def test_messages_to_the_driver_do_not_grow_with_the_workers(monkeypatch):
    """One question and one report of progress a step, both the first worker's."""
    from raytrain.training.ray import channel, reporting

    monkeypatch.setitem(vars(channel), "ray", channel.ray)
    monkeypatch.setattr(reporting, "_PROGRESS_SECONDS", reporting._PROGRESS_SECONDS)
    few, many = scale.driver(1, steps=20), scale.driver(300, steps=20)
    assert many["per_step"] == few["per_step"] <= 2.1
    assert many["at_start"] == few["at_start"] + 299
