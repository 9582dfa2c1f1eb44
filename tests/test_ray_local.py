"""What is set for Ray before it starts."""

import pytest

from raytrain.ray_local import _environment
from raytrain.spec.document import Resources


@pytest.mark.parametrize(
    ("training", "seconds"),
    [({"workers": 4}, "300"), ({"workers": 4, "minWorkers": 4}, "300"), ({"workers": 4, "minWorkers": 2}, "90")],
)
def test_an_elastic_group_waits_less_long_for_a_node_that_is_gone(training, seconds):
    found = _environment(Resources.model_validate({"training": training}))
    assert found["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] == seconds
