"""The benchmark of sweeps: the same jobs by hand, and what is computed from their seconds."""

import sys

import pytest

from benchmarks.sweep import result, timed, write
from raytrain.config.load import load_job
from raytrain.sweeps.plan import load_sweep


def test_the_jobs_by_hand_are_those_of_the_sweep(tmp_path):
    jobs, sweep = write(tmp_path)
    plan = load_sweep(sweep)
    made = [plan.job_of(setting, None) for setting in plan.settings()[0]]
    assert [load_job(path).job.spec for path in jobs] == [job.spec for job in made]


def test_only_the_time_without_a_child_counts_as_the_commands_own():
    code = "import subprocess, time; time.sleep(.3); subprocess.run(['sleep', '1']); time.sleep(.3)"
    seconds = timed([sys.executable, "-c", code])
    assert seconds.whole - seconds.childless == pytest.approx(1, abs=0.3)
    assert seconds.childless >= 0.5


def test_a_command_that_fails_ends_the_benchmark_with_what_it_printed():
    with pytest.raises(SystemExit, match="no such thing"):
        timed([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_the_limit_holds_the_greatest_overhead():
    found = result({"alone": [30.0, 33.0], "in_sweep": [33.0, 32.0], "overhead": [1.0, 2.0]})
    assert found["bars"]["overhead_seconds"]["value"] == 2.0
    assert found["figures"]["difference_seconds"] == {"median": 1.0, "min": -1.0, "max": 3.0}
