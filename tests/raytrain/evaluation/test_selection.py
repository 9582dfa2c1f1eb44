import pytest

from raytrain.evaluation.selection import choose, has_stopped_improving

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


def test_without_scores_the_last_checkpoint_is_chosen() -> None:
    choice = choose({}, [100, 200], TASKS)
    assert choice.step == 200
    assert "none was scored" in choice.reason


def test_last_is_last_even_if_another_is_better() -> None:
    scores = {100: {"notes": 0.9, "stars": 0.9}, 200: {"notes": 0.1, "stars": 0.1}}
    assert choose(scores, [100, 200], TASKS, select="last").step == 200


@pytest.mark.parametrize("unit", [0.001, 1.0, 1000.0])
def test_the_unit_of_an_error_has_no_say(unit: float) -> None:
    errors = {0: 2.0, 100: 1.0, 200: 0.9, 300: 1.6}
    notes = {0: 0.1, 100: 0.6, 200: 0.2, 300: 0.7}
    scores = {step: {"notes": notes[step], "stars": -unit * errors[step]} for step in errors}
    choice = choose(scores, [100, 200, 300], TASKS)
    assert choice.step == 100  # (0.6 + 0.5) / 2; in the error's own unit it would be 200 or 300
    assert "55.0 of 100" in choice.reason
    assert "error (stars)" in choice.reason


def test_a_small_change_of_an_error_does_not_outweigh_the_others() -> None:
    scores = {0: {"notes": 0.1, "stars": -1.0}, 100: {"notes": 0.8, "stars": -0.51}, 200: {"notes": 0.6, "stars": -0.5}}
    assert choose(scores, [100, 200], TASKS).step == 100


def test_no_error_at_all_is_the_best_there_is() -> None:
    scores = {100: {"notes": 0.5, "stars": -0.4}, 200: {"notes": 0.5, "stars": -0.0}}
    assert choose(scores, [100, 200], TASKS).step == 200
    assert choose({100: {"stars": -0.0}, 200: {"stars": -0.0}}, [100, 200], ["stars"]).step == 200


def test_fractions_are_averaged_as_they_are() -> None:
    choice = choose({100: {"notes": 0.25, "stars": 0.5}}, [100], TASKS)
    assert choice.reason == "best mean of the tasks' primary scores on validation rows (37.5 of 100)"


def test_no_checkpoint_is_an_error() -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        choose({}, [], TASKS)


KEPT = {0: {"probe": 0.8}, 100: {"notes": 0.5, "stars": 0.5, "probe": 0.79}}
FORGOT = {200: {"notes": 0.7, "stars": 0.7, "probe": 0.5}, 300: {"notes": 0.6, "stars": 0.6, "probe": 0.74}}


def test_checkpoints_that_forgot_too_much_are_not_chosen() -> None:
    scores = {**KEPT, **FORGOT}
    assert choose(scores, [100, 200, 300], TASKS, probes=["probe"]).step == 200
    choice = choose(scores, [100, 200, 300], TASKS, probes=["probe"], max_forgetting=0.1)
    assert choice.step == 300
    assert "without the 1 that forgot more than evaluation.maxForgetting allows" in choice.reason
    assert choose(scores, [100, 200, 300], TASKS, probes=["probe"], max_forgetting=0.02).step == 100


def test_if_all_forgot_too_much_the_best_is_chosen_and_that_is_said() -> None:
    choice = choose({0: {"probe": 0.8}, **FORGOT}, [200, 300], TASKS, probes=["probe"], max_forgetting=0.01)
    assert choice.step == 200
    assert "every checkpoint forgot more" in choice.reason


def test_a_probe_whose_error_grows_is_forgotten() -> None:
    scores = {0: {"probe": -0.5}, 100: {"notes": 0.9, "stars": 0.9, "probe": -1.5}}
    scores[200] = {"notes": 0.5, "stars": 0.5, "probe": -0.6}
    assert choose(scores, [100, 200], TASKS, probes=["probe"], max_forgetting=0.3).step == 200


@pytest.mark.parametrize(
    ("means", "patience", "enough"),
    [
        ([0.5, 0.6], 2, False),
        ([0.5, 0.4, 0.4], 2, True),
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.5], 1, True),
        ([0.1, 0.5, 0.4, 0.3, 0.2], 3, True),
        ([], 1, False),
    ],
)
def test_patience_ends(means: list[float], patience: int, enough: bool) -> None:
    scores = {100 * (i + 1): {"notes": mean, "stars": mean} for i, mean in enumerate(means)}
    assert has_stopped_improving({0: {"notes": 0.9, "stars": 0.9}, **scores}, TASKS, patience) is enough


def test_patience_counts_only_what_was_scored_whole() -> None:
    scores = {100: {"notes": 0.5, "stars": 0.5}, 200: {"notes": 0.1}, 300: {"notes": 0.1}}
    assert not has_stopped_improving(scores, TASKS, 1)
