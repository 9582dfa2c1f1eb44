import pytest

from raytrain.evaluation.selection import choose

TASKS = ["notes", "stars"]


def test_the_best_mean_wins() -> None:
    scores = {100: {"notes": 0.2, "stars": 0.9}, 200: {"notes": 0.6, "stars": 0.6}, 300: {"notes": 0.5, "stars": 0.6}}
    assert choose(scores, [100, 200, 300], TASKS).step == 200


def test_the_later_of_two_equals_wins() -> None:
    scores = {100: {"notes": 0.5, "stars": 0.5}, 200: {"notes": 0.4, "stars": 0.6}}
    assert choose(scores, [100, 200], TASKS).step == 200


def test_a_step_that_misses_a_task_does_not_count() -> None:
    scores = {100: {"notes": 0.9}, 200: {"notes": 0.1, "stars": 0.1}}
    assert choose(scores, [100, 200, 300], TASKS).step == 200


def test_scores_of_a_checkpoint_that_is_gone_do_not_count() -> None:
    scores = {100: {"notes": 0.9, "stars": 0.9}, 200: {"notes": 0.1, "stars": 0.1}}
    assert choose(scores, [200], TASKS).step == 200


def test_without_scores_the_last_one_and_it_is_said() -> None:
    choice = choose({}, [100, 200], TASKS)
    assert choice.step == 200
    assert "no checkpoint was scored" in choice.reason


def test_last_is_last_even_if_another_is_better() -> None:
    scores = {100: {"notes": 0.9, "stars": 0.9}, 200: {"notes": 0.1, "stars": 0.1}}
    assert choose(scores, [100, 200], TASKS, select="last").step == 200


def test_no_checkpoint_is_an_error() -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        choose({}, [], TASKS)
