"""Shares of the trained tasks: the strategies, nested mixtures, replay, and what no job may say."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.config import Mixture
from data_prep.tasks.mixture import depends_on_examples, rates
from raytrain_core.errors import UsageError

SIZES = {"a": 8000, "b": 1000, "c": 1000}


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        ({}, {"a": 0.8, "b": 0.1, "c": 0.1}),
        ({"cap": 1000}, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        ({"cap": 2000}, {"a": 0.5, "b": 0.25, "c": 0.25}),
        ({"strategy": "equal"}, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        ({"strategy": "temperature", "temperature": 1}, {"a": 0.8, "b": 0.1, "c": 0.1}),
        ({"strategy": "temperature", "temperature": 3}, {"a": 0.5, "b": 0.25, "c": 0.25}),
        ({"strategy": "temperature", "temperature": 3, "cap": 1000}, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        ({"strategy": "temperature", "temperature": 1e-3}, {"a": 1, "b": 0, "c": 0}),
        ({"strategy": "weights", "weights": {"a": 1, "b": 2, "c": 5}}, {"a": 0.125, "b": 0.25, "c": 0.625}),
    ],
)
def test_rates(mixture, expected):
    assert rates(Mixture.model_validate(mixture), SIZES) == pytest.approx(expected)


def test_rates_that_cannot_be():
    weights = Mixture.model_validate({"strategy": "weights", "weights": {"a": 1}})
    with pytest.raises(UsageError, match="exactly the trained tasks") as caught:
        rates(weights, {"a": 1, "b": 1})
    assert "a, b" in caught.value.hint
    with pytest.raises(UsageError, match="no task"):
        rates(Mixture(), {})
    with pytest.raises(UsageError, match="no training examples in b"):
        rates(Mixture(), {"a": 1, "b": 0})


FOUR = {"a": 8000, "b": 1000, "c": 1000, "old": 50_000}


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        ({"replay": {"share": 0.2, "tasks": ["old"]}}, {"a": 0.64, "b": 0.08, "c": 0.08, "old": 0.2}),
        (
            {"cap": 1000, "replay": {"share": 0.25, "tasks": ["old", "c"], "strategy": "equal"}},
            {"a": 0.375, "b": 0.375, "c": 0.125, "old": 0.125},
        ),
        (
            {"strategy": "weights", "weights": {"a": 3, "b": 1, "c": 1}, "replay": {"share": 0.5, "tasks": ["old"]}},
            {"a": 0.3, "b": 0.1, "c": 0.1, "old": 0.5},
        ),
        (
            {
                "groups": [
                    {"name": "new", "rate": 3, "tasks": ["a", "b"]},
                    {"name": "rest", "rate": 1, "tasks": ["old", "c"], "strategy": "equal"},
                ]
            },
            {"a": 2 / 3, "b": 1 / 12, "c": 0.125, "old": 0.125},
        ),
        (
            {
                "groups": [
                    {"name": "one", "rate": 0.1, "tasks": ["a"]},
                    {"name": "two", "rate": 0.3, "tasks": ["b", "c"]},
                ],
                "replay": {"share": 0.2, "tasks": ["old"]},
            },
            {"a": 0.2, "b": 0.3, "c": 0.3, "old": 0.2},
        ),
    ],
)
def test_nested_mixtures_and_replay(mixture, expected):
    assert rates(Mixture.model_validate(mixture), FOUR) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"replay": {"share": 0.2, "tasks": ["gone"]}}, "mixture.replay names gone, which is not a trained task"),
        ({"replay": {"share": 0.2, "tasks": ["a", "b", "c", "old"]}}, "names every trained task"),
        ({"replay": {"share": 0.2, "tasks": ["a", "a"]}}, "a is named twice"),
        ({"groups": [{"name": "g", "rate": 1, "tasks": ["a", "b"]}]}, "mixture.groups leaves out c, old"),
        (
            {
                "groups": [{"name": "g", "rate": 1, "tasks": ["a", "b", "c", "old"]}],
                "replay": {"share": 0.1, "tasks": ["a"]},
            },
            "a is named twice",
        ),
        (
            {
                "strategy": "weights",
                "weights": {"a": 1, "b": 1, "c": 1, "old": 1},
                "replay": {"share": 0.1, "tasks": ["a"]},
            },
            "mixture.weights must name exactly the trained tasks except the replayed ones: b, c, old",
        ),
        (
            {"groups": [{"name": "g", "rate": 1, "tasks": list(FOUR), "strategy": "weights", "weights": {"a": 1}}]},
            r"mixture.groups\[g\].weights must name exactly its tasks: a, b, c, old",
        ),
    ],
)
def test_a_mixture_that_does_not_fit_the_tasks_is_refused(mixture, message):
    with pytest.raises(UsageError, match=message):
        rates(Mixture.model_validate(mixture), FOUR)


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"strategy": "equal", "groups": [{"name": "g", "rate": 1, "tasks": ["a"]}]}, "weights in each group"),
        ({"cap": 5, "groups": [{"name": "g", "rate": 1, "tasks": ["a"]}]}, "weights in each group"),
        (
            {"groups": [{"name": "g", "rate": 1, "tasks": ["a"]}, {"name": "g", "rate": 1, "tasks": ["b"]}]},
            "two groups",
        ),
        ({"groups": [{"name": "g", "rate": 0, "tasks": ["a"]}]}, "greater than 0"),
        ({"groups": []}, "at least 1"),
        ({"replay": {"share": 1.0, "tasks": ["a"]}}, "less than 1"),
        ({"replay": {"share": 0.1, "tasks": []}}, "at least 1"),
        ({"replay": {"share": 0.1, "tasks": ["a"], "strategy": "weights"}}, "exactly when strategy is weights"),
    ],
)
def test_what_is_no_mixture_is_refused(mixture, message):
    with pytest.raises(ValidationError, match=message):
        Mixture.model_validate(mixture)


def test_shares_that_need_no_counting():
    one = {"replay": {"share": 0.1, "tasks": ["a"]}}
    assert not depends_on_examples(Mixture.model_validate({"strategy": "equal"} | one))
    assert depends_on_examples(
        Mixture.model_validate({"strategy": "equal", "replay": {"share": 0.1, "tasks": ["a", "b"]}})
    )
    assert depends_on_examples(Mixture())
    groups = [{"name": n, "rate": 1, "tasks": [n]} for n in "ab"]
    assert not depends_on_examples(Mixture.model_validate({"groups": groups}))


def hows(tasks):
    """How these tasks share: every strategy."""
    return st.one_of(
        st.fixed_dictionaries({"strategy": st.just("proportional"), "cap": st.none() | st.integers(1, 10**6)}),
        st.fixed_dictionaries(
            {
                "strategy": st.just("temperature"),
                "temperature": st.floats(0.01, 100),
                "cap": st.none() | st.integers(1, 99),
            }
        ),
        st.just({"strategy": "equal"}),
        st.fixed_dictionaries(
            {"strategy": st.just("weights"), "weights": st.fixed_dictionaries({t: st.floats(0.01, 100) for t in tasks})}
        ),
    )


@st.composite
def mixtures(draw):
    """A mixture that fits some tasks, and their sizes."""
    names = [f"t{i}" for i in range(draw(st.integers(2, 9)))]
    sizes = {name: draw(st.integers(1, 10**7)) for name in names}
    replayed = names[: draw(st.integers(0, len(names) - 1))]
    others = names[len(replayed) :]
    mixture = {}
    if replayed:
        mixture["replay"] = {"share": draw(st.floats(0.01, 0.99)), "tasks": replayed} | draw(hows(replayed))
    if draw(st.booleans()):
        return Mixture.model_validate(mixture | draw(hows(others))), sizes
    cut = draw(st.integers(0, len(others)))
    groups = [part for part in (others[:cut], others[cut:]) if part]
    mixture["groups"] = [
        {"name": f"g{i}", "rate": draw(st.floats(0.1, 10)), "tasks": part} | draw(hows(part))
        for i, part in enumerate(groups)
    ]
    return Mixture.model_validate(mixture), sizes


@given(drawn=mixtures())
def test_shares_are_positive_and_sum_to_one_whatever_the_mixture(drawn):
    mixture, sizes = drawn
    found = rates(mixture, sizes)
    assert list(found) == list(sizes)
    assert all(share > 0 for share in found.values())
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-12)
    if mixture.replay is not None:
        assert sum(found[name] for name in mixture.replay.tasks) == pytest.approx(mixture.replay.share)
    for group in mixture.groups or []:
        together, total = sum(found[name] for name in group.tasks), sum(g.rate for g in mixture.groups)
        left = 1 - (mixture.replay.share if mixture.replay else 0)
        assert together == pytest.approx(left * group.rate / total)


@given(drawn=mixtures())
def test_more_examples_never_lower_a_share(drawn):
    mixture, sizes = drawn
    found = rates(mixture, sizes)
    for name in sizes:
        assert rates(mixture, sizes | {name: 2 * sizes[name]})[name] >= found[name] * (1 - 1e-12)


@given(drawn=mixtures())
def test_the_order_of_tasks_does_not_matter(drawn):
    mixture, sizes = drawn
    assert rates(mixture, dict(reversed(sizes.items()))) == pytest.approx(rates(mixture, sizes))


@given(sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 10**7), min_size=1), cap=st.integers(1, 10**6))
def test_the_strategies_meet_at_their_ends(sizes, cap):
    def shares(**fields):
        return rates(Mixture.model_validate(fields), sizes)

    assert shares(strategy="temperature", temperature=1, cap=cap) == pytest.approx(shares(cap=cap))
    assert shares(strategy="temperature", temperature=1e9) == pytest.approx(shares(strategy="equal"))
    assert shares(cap=1) == pytest.approx(shares(strategy="equal"))
    weights = {name: float(n) for name, n in sizes.items()}
    assert shares(strategy="weights", weights=weights) == pytest.approx(shares())
    assume(cap >= max(sizes.values()))
    assert shares(cap=cap) == shares()
