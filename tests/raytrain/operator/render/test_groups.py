"""How many pods a run's processes fill: as one by one, whatever their number."""

from hypothesis import given
from hypothesis import strategies as st

from raytrain.config.resources import EvaluationResources, Resources, TrainingResources
from raytrain.operator.render.groups import groups

PARTS = (0.1, 0.25, 0.5, 1, 2, 3)


def resources(workers, cpus, gpus, *, actors=1, actor_cpus=1.0, actor_gpus=0.0):
    return Resources(
        training=TrainingResources(workers=workers, cpus=cpus, gpus=gpus),
        evaluation=EvaluationResources(actors=actors, cpus=actor_cpus, gpus=actor_gpus),
    )


def one_by_one(processes, cpus):
    """First fit of every single process, largest first."""
    free = []
    for needed in sorted(processes, reverse=True):
        slot = next((place for place, left in enumerate(free) if left >= needed - 1e-9), None)
        if slot is None:
            free.append(cpus)
            slot = len(free) - 1
        free[slot] -= needed
    return len(free)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 20), st.sampled_from(PARTS))
def test_pods_are_filled_as_if_processes_came_one_by_one(workers, cpus, actors, actor_cpus):
    found = groups(resources(workers, cpus, 0, actors=actors, actor_cpus=actor_cpus))
    (group,) = found
    preparation = Resources().preparation.cpus
    assert group.most == one_by_one([cpus] * workers + [actor_cpus] * actors + [preparation], group.cpus)


def test_parts_that_ray_does_not_count_take_no_pod_of_their_own():
    (group,) = groups(resources(3, 1, 0, actors=2, actor_cpus=5e-324))
    assert group.most == groups(resources(3, 1, 0, actors=1, actor_cpus=0.001))[0].most


def test_absurd_numbers_take_no_time():
    found = groups(resources(10**15, 1, 1, actors=10**12, actor_gpus=1))
    assert [group.most for group in found if group.gpus] == [10**15 + 10**12]
