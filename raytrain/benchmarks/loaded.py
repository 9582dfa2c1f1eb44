"""A benchmark with its rows: the requests that the harness makes of them, and the scores it gives.

Nothing of a benchmark is implemented here. Prompts, few-shot examples, filters and metrics come
from the harness's own task objects; this module only carries requests out and answers back.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from raytrain.benchmarks import catalog, refusals
from raytrain.benchmarks.local_rows import overrides
from raytrain.config.benchmark import Benchmark
from raytrain.generation.requests import BenchmarkRequest, Generation
from raytrain_core.errors import DataError, UsageError
from raytrain_core.extras import how_to_install
from raytrain_core.storage import Store

FEW_SHOT_SEED = 1234
"""Seed of the harness's own runner for the choice of few-shot examples."""
DEFAULT_NEW_TOKENS = 256
"""What the harness's runner generates where a definition gives no limit."""


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """A row: its task and number there, what the model is asked, and the expected answer."""

    task: str
    number: int
    request: BenchmarkRequest
    target: str

    @property
    def id(self) -> str:
        """Names the row in predictions."""
        return f"{self.task}/{self.number}"

    @property
    def prompt(self) -> str:
        """The prompt; of a row whose choices have a prompt each, the first."""
        return self.request.pairs[0][0] if self.request.pairs else self.request.context


@dataclass
class LoadedBenchmark:
    """A benchmark whose rows are drawn and whose requests are made."""

    spec: Benchmark
    tasks: Mapping[str, Any]
    """The harness's task objects."""
    drawn: Mapping[str, Sequence[int]]
    """Numbers of the rows drawn from each task."""
    available: int
    max_input_tokens: int
    rows: list[BenchmarkRow] = field(default_factory=list)
    _instances: list[list[Any]] = field(default_factory=list)
    """The harness's requests of each row."""

    @property
    def name(self) -> str:
        """The probe's name."""
        return self.spec.probe

    @property
    def metrics(self) -> list[str]:
        """The metrics, the primary one first."""
        names = refusals.metric_names(self.spec.benchmark)
        return sorted(names, key=lambda name: name != self.spec.metric)

    @property
    def few_shot(self) -> str:
        """How many solved examples a prompt has, in words."""
        counts = sorted({int(task.config.num_fewshot or 0) for task in self.tasks.values()})
        return " to ".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]]))

    @cached_property
    def digest(self) -> str:
        """Identifies rows, prompts, expected answers and the version of the harness."""
        asked = [[row.id, repr(row.request), row.target] for row in self.rows]
        return sha256(json.dumps([harness_version(), asked]).encode()).hexdigest()

    def scores(self, generations: Sequence[Generation]) -> list[dict[str, float]]:
        """Returns the metrics of each row as the harness computes them from the model's answers."""
        found: list[dict[str, float]] = [{} for _ in self.rows]
        for name, task in self.tasks.items():
            places = [place for place, row in enumerate(self.rows) if row.task == name]
            answered = [_with_answers(self._instances[place], generations[place]) for place in places]
            for ensemble in task._filters if places else ():
                ensemble.apply([instance for row in answered for instance in row])
            for place, instances in zip(places, answered, strict=True):
                found[place] = _row_scores(task, instances)
        return found

    def protocol(self, generations: Sequence[Generation]) -> dict[str, Any]:
        """Everything about the scores that the definition alone does not tell."""
        cut = sum(generation.prompt_cut for generation in generations)
        versions = sorted({str(task.VERSION) for task in self.tasks.values()})
        return {
            "benchmark": f"{self.spec.benchmark}, version {', '.join(versions)}, "
            f"lm-evaluation-harness {harness_version()}",
            "rows": f"{len(self.rows):,} of {self.available:,}, drawn with seed {self.spec.seed}",
            "few_shot": self.few_shot,
            "cut_prompts": f"{cut:,} of {len(self.rows):,} lost their beginning",
            "max_input_tokens": self.max_input_tokens,
            "max_new_tokens": max(row.request.max_new_tokens for row in self.rows),
            "decoding": "greedy" if self.rows and not self.rows[0].request.pairs else "log-likelihood of choices",
            "tokenizer": "the model's own",
        }


def load(
    benchmark: Benchmark,
    where: str,
    *,
    examples: int,
    max_input_tokens: int,
    base_folder: Path,
    store: Store | None,
    scratch: Path,
) -> LoadedBenchmark:
    """Loads a benchmark's rows and makes the requests of `examples` of them.

    `max_input_tokens` is the model's own limit. Raises UsageError if it cannot be a probe,
    DataError if its rows cannot be read.
    """
    refusals.check(benchmark, where)
    changed: dict[str, Any] = {}
    if benchmark.rows is not None:
        changed = overrides(benchmark.rows, where, base_folder=base_folder, store=store, scratch=scratch)
    with catalog.quiet():
        tasks = _load_tasks(benchmark, changed, where)
        _set_few_shot(tasks, benchmark.few_shot)
        sizes = {name: len(task.eval_docs) for name, task in tasks.items()}
        drawn = draw(sizes, benchmark.examples or examples, benchmark.seed)
        limit = benchmark.max_input_tokens or max_input_tokens
        loaded = LoadedBenchmark(benchmark, tasks, drawn, sum(sizes.values()), limit)
        for name, numbers in drawn.items():
            _make_requests(loaded, name, tasks[name], numbers, where)
    return loaded


def draw(sizes: Mapping[str, int], count: int, seed: int) -> dict[str, list[int]]:
    """Draws `count` rows of all tasks together, each as likely as any other; numbers by task.

    Fewer if there are fewer; a task of which none is drawn is left out.
    """
    every = [(name, number) for name, size in sizes.items() for number in range(size)]
    some = every if count >= len(every) else random.Random(seed).sample(every, count)
    drawn: dict[str, list[int]] = {}
    for name, number in sorted(some, key=lambda one: (list(sizes).index(one[0]), one[1])):
        drawn.setdefault(name, []).append(number)
    return drawn


def harness_version() -> str:
    """The installed version of lm-evaluation-harness."""
    from importlib.metadata import version

    return version("lm-eval")


def _load_tasks(benchmark: Benchmark, changed: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the harness's task objects, with their rows."""
    name = benchmark.benchmark
    manager = catalog.manager(name)
    leaves = list(catalog.leaves(name))
    if changed.get("dataset_name", "") is None and len(leaves) > 1:
        raise DataError(
            f"{where}: rows: {benchmark.rows} has files of one data set, but {name} has {len(leaves)} tasks",
            hint="Put the files of each task into a folder named like its dataset_name, as on the hub.",
        )
    try:
        # Only a member of a group is a definition with changes; a task alone would be a new one.
        members = {"group": name, "task": [{"task": one, **changed} for one in leaves]}
        loaded: dict[str, Any] = manager.load([members] if changed else [name])
    except ImportError as error:
        raise UsageError(
            f"{where}: the benchmark {name} needs the package {error.name or error}, which is not installed",
            hint=f"{how_to_install('benchmarks')} brings what most benchmarks need; install this one beside it.",
        ) from None
    except Exception as error:  # datasets, huggingface_hub and the harness have exceptions of their own
        raise DataError(
            f"{where}: the rows of the benchmark {name} cannot be loaded: {_reason(error)}",
            hint="Give a folder, bucket or data set in rows, or check HF_ENDPOINT and HF_TOKEN.",
        ) from error
    return dict(loaded["tasks"])


def _set_few_shot(tasks: Mapping[str, Any], count: int | None) -> None:
    """Sets the number of few-shot examples and their seed like the harness's runner."""
    for task in tasks.values():
        own = task.get_config("num_fewshot")
        if count is not None and own != 0:
            task.set_config(key="num_fewshot", value=count)
        elif own is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEW_SHOT_SEED)


def _make_requests(loaded: LoadedBenchmark, name: str, task: Any, numbers: Sequence[int], where: str) -> None:
    """Adds the rows of a task, with the harness's requests."""
    try:
        task.build_all_requests(samples=list(numbers))
    except Exception as error:  # templates and functions of definitions raise whatever they raise
        raise DataError(
            f"{where}: the prompts of {name} cannot be made: {_reason(error)}",
            hint="Its rows have other columns than the definition expects.",
        ) from error
    of_row: dict[int, list[Any]] = {}
    for instance in task.instances:
        of_row.setdefault(instance.doc_id, []).append(instance)
    for place, instances in of_row.items():
        instances.sort(key=lambda instance: instance.idx)
        request = _request(instances, loaded.max_input_tokens)
        loaded.rows.append(BenchmarkRow(name, numbers[place], request, _target(task, instances[0].doc)))
        loaded._instances.append(instances)


def _request(instances: Sequence[Any], max_input_tokens: int) -> BenchmarkRequest:
    first = instances[0]
    if first.request_type == "loglikelihood":
        return BenchmarkRequest(max_input_tokens, pairs=tuple((one.args[0], one.args[1]) for one in instances))
    from lm_eval.models.utils import normalize_gen_kwargs

    context, given = first.args
    settings: dict[str, Any] = normalize_gen_kwargs(given, DEFAULT_NEW_TOKENS)
    until = tuple(str(end) for end in settings.get("until") or ())
    return BenchmarkRequest(max_input_tokens, (), context, until, int(settings["max_gen_toks"]))


def _target(task: Any, doc: Any) -> str:
    """The expected answer as a text, for people."""
    target = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None and isinstance(target, int):
        choices = task.doc_to_choice(doc)
        target = choices[target] if 0 <= target < len(choices) else target
    if isinstance(target, list):
        target = " | ".join(map(str, target))
    return str(target).strip()


def _with_answers(instances: Sequence[Any], generation: Generation) -> list[Any]:
    """Copies of the harness's requests of a row, with the model's answers."""
    answers: Sequence[Any] = generation.log_likelihoods or (generation.text,)
    answered = []
    for instance, answer in zip(instances, answers, strict=True):
        one = copy.copy(instance)
        one.resps, one.filtered_resps = [answer], {}
        answered.append(one)
    return answered


def _row_scores(task: Any, instances: Sequence[Any]) -> dict[str, float]:
    """The metrics of a row by name; of a filter after the first, `metric,filter`."""
    scores: dict[str, float] = {}
    for number, name in enumerate(instances[0].filtered_resps):
        found = task.process_results(instances[0].doc, [one.filtered_resps[name] for one in instances])
        for metric, value in found.items():
            if isinstance(value, int | float) or hasattr(value, "__float__"):
                scores[metric if number == 0 else f"{metric},{name}"] = float(value)
    return scores


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"they have no column or split {error}"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
