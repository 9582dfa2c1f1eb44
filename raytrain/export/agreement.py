"""How far a converted model gives the answers of the model it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from raytrain_core.errors import DataError

if TYPE_CHECKING:
    from data_prep.config import Split
    from data_prep.text.tokenizer import Tokenizer
    from raytrain.runs.record import RunRecord
    from raytrain_core.storage import Store

PROMPTS = 100
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Agreement:
    """Answers of both models to the same prompts.

    `exact` is the share that is equal, `chrf` the mean chrF (0 to 1) of the converted model's
    answers against the original's, with 95 % intervals.
    """

    prompts: int
    exact: float
    exact_interval: tuple[float, float]
    chrf: float
    chrf_interval: tuple[float, float]
    rows: str
    differing: tuple[tuple[str, str], ...]
    """The first pairs of answers that differ: the original's, the converted model's."""

    def as_json(self) -> dict[str, Any]:
        """Returns the content of conversion-report.json, without texts of the data."""
        return {name: value for name, value in asdict(self).items() if name != "differing"}

    @property
    def sentence(self) -> str:
        """The comparison in one sentence."""
        low, high = self.exact_interval
        low_c, high_c = self.chrf_interval
        return (
            f"On {self.prompts} prompts ({self.rows}) {100 * self.exact:.1f} % of the answers equal those of the "
            f"original in fp32 (95 % interval {100 * low:.1f} to {100 * high:.1f}); mean chrF against them is "
            f"{100 * self.chrf:.1f} ({100 * low_c:.1f} to {100 * high_c:.1f})."
        )


def compare_answers(original: Sequence[str], converted: Sequence[str], rows: str) -> Agreement:
    """Compares answers in the same order; DataError if there are none.

    The share has the interval of Clopper and Pearson, the mean a bootstrap's.
    """
    import numpy as np

    from raytrain.report.binomial import share_interval

    if not original:
        raise DataError("there are no rows to compare answers on", hint="the run's data has no test or validation rows")
    equal = sum(a == b for a, b in zip(original, converted, strict=True))
    scores = np.array([_chrf(b, a) for a, b in zip(original, converted, strict=True)])
    generator = np.random.default_rng(0)
    means = scores[generator.integers(0, len(scores), (2000, len(scores)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    differing = [(a, b) for a, b in zip(original, converted, strict=True) if a != b]
    return Agreement(
        prompts=len(original),
        exact=equal / len(original),
        exact_interval=share_interval(equal, len(original)),
        chrf=float(scores.mean()),
        chrf_interval=(float(low), float(high)),
        rows=rows,
        differing=tuple(differing[:_MOST_SHOWN]),
    )


def prompts_of(store: Store, record: RunRecord) -> tuple[list[str], Tokenizer, str]:
    """Returns up to 100 prompts of the run, its tokenizer, and from which rows they are.

    Tasks take turns, test rows before validation rows. DataError if the data is not there any more.
    """
    from data_prep.shards.manifest import ShardSet
    from data_prep.shards.text_reader import read_rows
    from data_prep.shards.tokenizer_files import load_tokenizer
    from raytrain.config.locations import cache_folder
    from raytrain_core.storage.cache import Cache

    if record.shard_set is None:
        raise DataError(f"run {record.job.metadata.name}: its prepared data is not recorded")
    shards = ShardSet.load(store, record.shard_set)
    cache = Cache(cache_folder() / "shards")
    queues, splits = [], set()
    for task in shards.tasks:
        held_out: tuple[Split, ...] = ("test", "validation")
        split = next((one for one in held_out if one in task.splits), None)
        if split is not None:
            queues.append([row.input for row in read_rows(shards, task.name, split, store, cache, PROMPTS)])
            splits.add(split)
    turns = (queue[i] for i in range(PROMPTS) for queue in queues if i < len(queue))
    prompts = [prompt for prompt, _ in zip(turns, range(PROMPTS), strict=False)]
    return prompts, load_tokenizer(shards, store), f"{' and '.join(sorted(splits))} rows, tasks in turn"


def _chrf(answer: str, reference: str) -> float:
    from sacrebleu.metrics.chrf import CHRF

    if answer == reference:  # of two empty texts sacrebleu says 0
        return 1.0
    return float(CHRF().sentence_score(answer, [reference]).score) / 100
