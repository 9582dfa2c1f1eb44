"""In which shares the trained tasks are mixed."""

from collections.abc import Mapping

from data_prep.document import Mixture
from data_prep.errors import UsageError


def rates(mixture: Mixture, examples: Mapping[str, int]) -> dict[str, float]:
    """The share of every trained task, summing to 1, from its number of training examples (no probes in it).

    proportional: min(n, cap); temperature: min(n, cap)^(1/temperature) (T5, Raffel et al. 2020, section 3.5.2);
    equal: 1; weights: as given.
    """
    if not examples:
        raise UsageError("mixture: there is no task to train on")
    if empty := sorted(name for name, n in examples.items() if n < 1):
        raise UsageError(f"mixture: no training examples in {', '.join(empty)}")
    capped = {name: float(min(n, mixture.cap or n)) for name, n in examples.items()}
    match mixture.strategy:
        case "proportional":
            sizes = capped
        case "temperature":  # divided by the largest first: n^(1/T) itself could overflow for a small temperature
            largest = max(capped.values())
            sizes = {name: (size / largest) ** (1 / mixture.temperature) for name, size in capped.items()}
        case "equal":
            sizes = dict.fromkeys(examples, 1.0)
        case "weights":
            weights = mixture.weights or {}
            if set(weights) != set(examples):
                given = ", ".join(sorted(weights)) or "none"
                raise UsageError(
                    "mixture.weights must name exactly the trained tasks",
                    hint=f"They are {', '.join(sorted(examples))}; weights names {given}.",
                )
            sizes = dict(weights)
    total = sum(sizes.values())
    return {name: size / total for name, size in sizes.items()}
