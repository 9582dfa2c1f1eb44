"""The settings that a sweep tries: which fields of the job get which values.

Pure functions: the same sweep gives the same settings in the same order.
"""

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raytrain.config.sweep import Parameter, SweepSpec

Chosen = Mapping[str, Any]
"""By parameter: the chosen value, or the name of the chosen alternative."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of the sweep; number 0 is the job as written, which chooses nothing."""

    number: int
    chosen: Chosen

    @property
    def label(self) -> str:
        """The setting in words: `learningRate 0.001, replay tenth`."""
        return label_of(self.chosen)


AS_WRITTEN = Setting(0, {})


def label_of(chosen: Chosen) -> str:
    """Describes what was chosen, each parameter by the last part of its path."""
    if not chosen:
        return "as written"
    return ", ".join(f"{name.rpartition('.')[2]} {_shown(value)}" for name, value in chosen.items())


def candidates(spec: SweepSpec, integers: frozenset[str]) -> Iterator[Chosen]:
    """Yields the settings in the order in which they are run.

    Of optuna, whose settings depend on results, as many random ones.
    """
    if spec.samples is not None:
        yield from (drawn(spec, integers, draw) for draw in range(spec.samples))
        return
    options = {name: options_of(parameter) for name, parameter in spec.parameters.items()}
    if spec.method == "one-at-a-time":
        yield from ({name: option} for name, values in options.items() for option in values)
    else:
        yield from (dict(zip(options, values, strict=True)) for values in itertools.product(*options.values()))


def how_many(spec: SweepSpec) -> int:
    """Returns the number of settings, besides the job as written, without listing them."""
    if spec.samples is not None:
        return spec.samples
    counts = [len(options_of(parameter)) for parameter in spec.parameters.values()]
    return sum(counts) if spec.method == "one-at-a-time" else math.prod(counts)


def drawn(spec: SweepSpec, integers: frozenset[str], draw: int) -> Chosen:
    """Draws a setting at random; `integers` are the parameters whose field holds integers.

    Draws of different numbers are independent, and each depends on its number and the seed alone.
    """
    generator = random.Random(f"{spec.seed}-{draw}")
    return {name: _draw(generator, one, name in integers) for name, one in spec.parameters.items()}


def options_of(parameter: Parameter) -> list[Any]:
    """Returns what can be chosen of a parameter that is no range: values, or names."""
    return list(parameter.alternatives) if parameter.alternatives is not None else list(parameter.values or ())


def overrides(spec: SweepSpec, chosen: Chosen) -> dict[str, Any]:
    """Returns the values of the job's fields, by path, that a choice sets."""
    found: dict[str, Any] = {}
    for name, value in chosen.items():
        alternatives = spec.parameters[name].alternatives
        found |= {name: value} if alternatives is None else alternatives[value]
    return found


def fields_set(spec: SweepSpec) -> set[str]:
    """Returns the paths of all fields that the sweep changes, without a leading `spec.`."""
    paths = (path for name, one in spec.parameters.items() for path in _paths(name, one))
    return {path.removeprefix("spec.") for path in paths}


def _paths(name: str, parameter: Parameter) -> list[str]:
    if parameter.alternatives is None:
        return [name]
    return [path for fields in parameter.alternatives.values() for path in fields]


def _draw(generator: random.Random, parameter: Parameter, integer: bool) -> Any:
    if not parameter.is_range:
        return generator.choice(options_of(parameter))
    low, high = bounds(parameter, integer=integer)
    if integer and not parameter.log:
        return generator.randint(int(low), int(high))
    value = (
        math.exp(generator.uniform(math.log(low), math.log(high))) if parameter.log else generator.uniform(low, high)
    )
    return round(value) if integer else float(f"{value:.4g}")


def bounds(parameter: Parameter, *, integer: bool) -> tuple[float, float]:
    """Returns the range of a parameter; that of an integer field within its whole numbers."""
    assert parameter.low is not None
    assert parameter.high is not None
    return (math.ceil(parameter.low), math.floor(parameter.high)) if integer else (parameter.low, parameter.high)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
