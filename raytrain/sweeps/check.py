"""Finds what is wrong with a sweep before anything starts, each problem at its line and column."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain.config.sweep import Parameter, Sweep
from raytrain.sweeps.fields import Location, Plain, is_integer, is_number, locate, with_values
from raytrain.sweeps.jobs import job_with
from raytrain.sweeps.settings import bounds, candidates, fields_set, how_many, label_of
from raytrain_core.config.base import problem_text
from raytrain_core.config.loader import ConfigError, format_path, from_mapping, read_text
from raytrain_core.config.yaml_source import Position, Problem, parse_yaml
from raytrain_core.errors import UsageError

_SHOWN = 3  # combinations whose problems are told


def check_sweep(path: Path, sweep: Sweep, job: Plain) -> frozenset[str]:
    """Checks every field, value and combination; returns the parameters that hold integers.

    Raises ConfigError. Of a method that searches, combinations are checked at random.
    """
    checker = _Checker(path, sweep, job)
    checker.fields()
    checker.refuse()
    checker.size()
    checker.objective()
    checker.refuse()
    ranges = [name for name, one in sweep.spec.parameters.items() if one.is_range]
    integers = frozenset(name for name in ranges if is_integer(locate(name, job)))
    checker.combinations(integers)
    checker.refuse()
    return integers


class _Checker:
    """Collects the problems of a sweep."""

    def __init__(self, path: Path, sweep: Sweep, job: Plain) -> None:
        self._path, self._spec, self._job = path, sweep.spec, job
        self._source = parse_yaml(read_text(path))
        self._found: list[Problem] = []

    def refuse(self) -> None:
        """Raises ConfigError if a problem was found."""
        if self._found:
            raise ConfigError.of(str(self._path), self._found)

    def fields(self) -> None:
        """Looks for fields that do not exist, and for values that they cannot have."""
        for name, parameter in self._spec.parameters.items():
            if parameter.alternatives is not None:
                for alternative, values in parameter.alternatives.items():
                    self._alternative((name, "alternatives", alternative), values)
            elif (location := self._locate(name, (name,))) is not None:
                self._parameter(name, parameter, location)
        self._set_twice()

    def size(self) -> None:
        """Looks whether the sweep has more runs than its limit."""
        settings, seeds = how_many(self._spec), len(self._spec.seeds or (None,))
        runs = (settings + 1) * seeds
        if runs > self._spec.limit:
            times = f", with {seeds} seeds each," if seeds > 1 else ""
            self._add(
                (),
                f"{settings:,} settings and the job as written{times} are {runs:,} runs, more than spec.limit "
                f"({self._spec.limit:,}); list fewer values, draw some with method: random, or raise limit",
            )

    def objective(self) -> None:
        """Looks whether what is ranked, and what runs are ended by, can be known of this job."""
        swept, job = fields_set(self._spec), self._job["spec"]
        probes = [t["name"] for t in job["tasks"] if t.get("probe") and f"tasks[{t['name']}].probe" not in swept]
        if self._spec.objective != "gained" and not probes:
            but = "; standard benchmarks (spec.probes) have no validation rows to rank by" if job.get("probes") else ""
            text = f"{self._spec.objective} needs a task with probe: true that no run trains, and there is none{but}"
            self._add((), text, at="objective")
        if self._spec.stopping is None:
            return
        if job["training"].get("steps") is None:
            self._add((), "compares runs at the same steps, so it needs training.steps in the job", at="stopping")
        if fixed := sorted(swept & {"training.steps", "evaluation.every"}):
            self._add((), f"compares runs at the same steps, so {fixed[0]} cannot be swept", at="stopping")

    def combinations(self, integers: frozenset[str]) -> None:
        """Looks for combinations whose fields do not fit each other."""
        wrong = []
        for chosen in candidates(self._spec, integers):
            try:
                job_with(self._spec, self._job, chosen, None)
            except UsageError as error:
                reason = "; ".join(line.removeprefix("job: ") for line in error.message.splitlines())
                wrong.append(f"{label_of(chosen)}: {reason}")
        for text in wrong[:_SHOWN]:
            self._add((), text)
        if len(wrong) > _SHOWN:
            self._add((), f"{len(wrong) - _SHOWN:,} more combinations are invalid jobs")

    def _locate(self, path: str, below: Location) -> Location | None:
        try:
            return locate(path, self._job)
        except UsageError as error:
            self._add(below, problem_text(error))
            return None

    def _parameter(self, name: str, parameter: Parameter, location: Location) -> None:
        if not parameter.is_range:
            for place, value in enumerate(parameter.values or ()):
                self._fits({location: value}, (name, "values", place))
        elif not is_number(location):
            self._add((name, "low"), "the field holds no number; list values instead")
        else:
            low, high = bounds(parameter, integer=is_integer(location))
            if low > high:
                self._add((name, "low"), "the field holds integers, and there is none between low and high")
            for side, value in (("low", low), ("high", high)):
                self._fits({location: value}, (name, side))

    def _alternative(self, below: Location, values: Mapping[str, Any]) -> None:
        located = {path: self._locate(path, (*below, path)) for path in values}
        known = {location: values[path] for path, location in located.items() if location is not None}
        if len(known) == len(values):
            self._fits(known, below)

    def _fits(self, values: Mapping[Location, Any], below: Location) -> None:
        """Looks whether the job's own fields can have these values.

        What does not fit between fields is told later, of whole combinations: another parameter
        may make it fit.
        """
        places = [format_path(location) for location in values]
        try:
            from_mapping(with_values(self._job, values), FineTuneJob)
        except ConfigError as error:
            for line in error.lines:
                where, _, text = line.removeprefix("job: ").partition(": ")
                if where in places:
                    self._add(below, text)
                elif any(where.startswith((f"{place}.", f"{place}[")) for place in places):
                    self._add(below, f"{where}: {text}")

    def _set_twice(self) -> None:
        """Looks for fields that two parameters set: the second would win in silence.

        One at a time, no setting has both.
        """
        if self._spec.method == "one-at-a-time":
            return
        setters: dict[str, str] = {}
        for name, parameter in self._spec.parameters.items():
            fields = {path for values in (parameter.alternatives or {name: {name: None}}).values() for path in values}
            for path in sorted(fields):
                try:
                    place = format_path(locate(path, self._job))
                except UsageError:
                    continue  # told already
                for other, owner in setters.items():
                    if owner != name and (f"{place}.".startswith(f"{other}.") or f"{other}.".startswith(f"{place}.")):
                        self._add((name,), f"sets {path}, and so does the parameter {owner}")
                setters[place] = name

    def _add(self, below: Location, text: str, *, at: str = "parameters") -> None:
        path: Location = ("spec", at, *below)
        places = {**self._source.values, **self._source.keys}
        near = next(place for cut in range(len(path) + 1) if (place := path[: len(path) - cut]) in places or not place)
        self._found.append(Problem(places.get(near, Position(1, 1)), path, text))
