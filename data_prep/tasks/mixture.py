"""The share of each trained task in the mixture, computed from the numbers of examples."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from data_prep.config import Mixture, MixtureStrategy
from raytrain_core.errors import UsageError

_LEAST = 1e-15  # of the largest task's share: even an extreme temperature leaves every task a share


class _MixturePart(NamedTuple):
    """Tasks that divide one share of all examples; `where` is the field of the job."""

    where: str
    share: float
    how: MixtureStrategy
    tasks: Sequence[str]


def rates(mixture: Mixture, examples: Mapping[str, int]) -> dict[str, float]:
    """Returns the share of every trained task, summing to 1, from the numbers of training examples.

    proportional: min(n, cap); temperature: min(n, cap)^(1/temperature) (T5, Raffel et al. 2020,
    section 3.5.2); equal: 1; weights: as given. Replayed tasks divide the replay share, the others
    the rest. Groups divide it by their rates, and the tasks of a group by the group's strategy.
    `examples` must not contain probes. Raises UsageError if the mixture does not fit the tasks.
    """
    if not examples:
        raise UsageError("mixture: no task to train on")
    if empty := sorted(name for name, n in examples.items() if n < 1):
        raise UsageError(f"mixture: no training examples in {', '.join(empty)}")
    if wrong := misfit(mixture, examples):
        raise UsageError(wrong, hint=f"The trained tasks are {', '.join(sorted(examples))}.")
    found = {
        name: part.share * share
        for part in _parts(mixture, examples)
        for name, share in _shares(part.how, {name: examples[name] for name in part.tasks}).items()
    }
    return {name: found[name] for name in examples}


def misfit(mixture: Mixture, trained: Collection[str]) -> str | None:
    """Returns why a mixture does not fit these trained tasks, as a sentence; None if it fits."""
    parts = _parts(mixture, trained)
    for part in parts:
        if unknown := [name for name in part.tasks if name not in trained]:
            return f"{part.where} names {', '.join(unknown)}, which is not a trained task"
    counted = Counter(name for part in parts for name in part.tasks)
    if double := sorted(name for name, n in counted.items() if n > 1):
        return f"mixture: {', '.join(double)} is named twice; a task belongs to one group or is replayed"
    if left := sorted(set(trained) - set(counted)):
        return f"mixture.groups leaves out {', '.join(left)}"
    for part in parts:
        if not part.tasks:
            return "mixture.replay names every trained task: nothing is left to mix them into"
        if part.how.weights is not None and set(part.how.weights) != set(part.tasks):
            every = "the trained tasks" if part.how is mixture else "its tasks"
            but = " except the replayed ones" if part.how is mixture and mixture.replay is not None else ""
            return f"{part.where}.weights must name exactly {every}{but}: {', '.join(sorted(part.tasks))}"
    return None


def depends_on_examples(mixture: Mixture) -> bool:
    """Whether the shares depend on how many examples each task has."""
    counting = ("proportional", "temperature")
    return any(part.how.strategy in counting and len(part.tasks) != 1 for part in _parts(mixture, ()))


def _parts(mixture: Mixture, trained: Collection[str]) -> list[_MixturePart]:
    """The parts of the mixture, the replayed tasks first; their shares sum to 1."""
    parts, left, others = list[_MixturePart](), 1.0, list(trained)
    if mixture.replay is not None:
        parts.append(_MixturePart("mixture.replay", mixture.replay.share, mixture.replay, mixture.replay.tasks))
        left = 1 - mixture.replay.share
        others = [name for name in trained if name not in mixture.replay.tasks]
    if mixture.groups is None:
        return [*parts, _MixturePart("mixture", left, mixture, others)]
    total = sum(group.rate for group in mixture.groups)
    groups = [
        _MixturePart(f"mixture.groups[{group.name}]", left * group.rate / total, group, group.tasks)
        for group in mixture.groups
    ]
    return [*parts, *groups]


def _shares(inner: MixtureStrategy, examples: Mapping[str, int]) -> dict[str, float]:
    """Divides 1 among the tasks of a part."""
    capped = {name: float(min(n, inner.cap or n)) for name, n in examples.items()}
    match inner.strategy:
        case "proportional":
            sizes = capped
        case "temperature":  # relative to the largest: n^(1/T) could overflow for a small temperature
            largest = max(capped.values())
            sizes = {n: max((size / largest) ** (1 / inner.temperature), _LEAST) for n, size in capped.items()}
        case "equal":
            sizes = dict.fromkeys(examples, 1.0)
        case "weights":
            sizes = {name: (inner.weights or {})[name] for name in examples}
    total = sum(sizes.values())
    return {name: size / total for name, size in sizes.items()}
