"""Benchmarks that cannot be probes, and why."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raytrain.benchmarks import catalog, local_rows
from raytrain.config.benchmark import Benchmark
from raytrain_core.errors import UsageError, UserError

_JUDGES = re.compile(r"\b(openai|anthropic|litellm|judge)\b", re.IGNORECASE)


def check_all(benchmarks: Sequence[Benchmark], base_folder: Path) -> list[UserError]:
    """Returns what is wrong with the probes of a job, without the network."""
    problems = []
    for number, benchmark in enumerate(benchmarks):
        try:
            where = f"spec.probes[{number}]"
            check(benchmark, where)
            if benchmark.rows is not None:
                local_rows.check(benchmark.rows, where, base_folder)
        except UserError as error:
            problems.append(error)
    return problems


def check(benchmark: Benchmark, where: str) -> None:
    """Raises UsageError if there is no such benchmark or it cannot be a probe; reads no rows."""
    catalog.require(benchmark.benchmark, where)
    for name, definition in catalog.leaves(benchmark.benchmark).items():
        if reason := next(_reasons(definition), None):
            of = "" if name == benchmark.benchmark else f" (its task {name})"
            raise UsageError(
                f"{where}: the benchmark {benchmark.benchmark}{of} {reason}, so it cannot be a probe",
                hint="Remove it, or choose another benchmark.",
            )
    if benchmark.metric is not None and benchmark.metric not in (names := metric_names(benchmark.benchmark)):
        raise UsageError(
            f"{where}: metric: {benchmark.benchmark} has no metric {benchmark.metric!r} that is a mean over rows",
            hint=f"It has {', '.join(names)}.",
        )


def metric_names(benchmark: str) -> list[str]:
    """Returns the metrics that all tasks of a benchmark have, in the order of the first."""
    found = [_means(definition) for definition in catalog.leaves(benchmark).values()]
    return [name for name in found[0] if all(name in others for others in found)] if found else []


def _reasons(definition: Mapping[str, Any]) -> Iterator[str]:
    if definition.get("unsafe_code"):
        yield "runs code that the model writes"
    if "class" in definition:
        yield "is a Python class with packages and data of its own, not a definition"
    if definition.get("doc_to_image") or definition.get("doc_to_audio"):
        yield "needs images or sound"
    if definition.get("output_type") == "loglikelihood_rolling":
        yield "measures how likely whole documents are, which an encoder-decoder cannot be asked"
    if definition.get("repeats", 1) > 1 or _is_sampled(definition.get("generation_kwargs") or {}):
        yield "draws answers at random"
    if any(_JUDGES.search(file.read_text(encoding="utf-8", errors="replace")) for file in _functions(definition)):
        yield "lets another model judge the answers"
    if not _means(definition):
        yield "has no metric that is a mean over rows"


def _is_sampled(generation: Mapping[str, Any]) -> bool:
    sampled = generation.get("do_sample")
    return bool(sampled) or (sampled is None and float(generation.get("temperature") or 0) > 0)


def _functions(definition: Mapping[str, Any]) -> Iterator[Path]:
    """The files with the functions that score; unresolved, a function is /folder/module.name."""
    scoring = [definition.get("process_results"), *(m.get("metric") for m in definition.get("metric_list") or [])]
    for one in scoring:
        file = Path(str(one)).with_name(f"{Path(str(one)).name.split('.')[0]}.py")
        if "/" in str(one) and file.is_file():
            yield file


def _means(definition: Mapping[str, Any]) -> list[str]:
    """Metrics that are means of one number a row, of which more is better."""
    listed = definition.get("metric_list")
    if listed is None:
        return {"multiple_choice": ["acc", "acc_norm"], "loglikelihood": ["acc"]}.get(
            str(definition.get("output_type")), ["exact_match"]
        )
    return [
        str(one["metric"]).rpartition("/")[2].rpartition(".")[2]  # a function unresolved is /folder/module.name
        for one in listed
        if one.get("aggregation", "mean" if one.get("metric") in _MEAN_BY_DEFAULT else None) == "mean"
        and one.get("higher_is_better", True) is True
    ]


_MEAN_BY_DEFAULT = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em")
