"""Driver and tasks fit into the CPUs of preparation, or a task would wait for them forever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrain.config.job_status import DRIVER_CPUS
from raytrain.pipeline.ray_preparation import share


@pytest.mark.parametrize(("cpus", "expected"), [(1, (1, 0.9)), (2, (2, 0.95)), (8, (8, 0.987)), (0.5, (1, 0.4))])
def test_tasks_and_the_cpus_of_each(cpus, expected):
    assert share(cpus) == expected


@given(st.floats(0.2, 512))
def test_the_driver_fits_beside_the_tasks(cpus):
    count, each = share(cpus)
    assert count >= 1
    assert each > 0
    assert round(10_000 * each) * count + 10_000 * DRIVER_CPUS <= 10_000 * cpus + 1e-6  # Ray counts ten-thousandths
