"""What a score is held against: trivial answers, people, and the references themselves.

Trivial answers need no model: a score that is not above them is no achievement. People are no
baseline but a mark beside it: what they score against each other, with one reference less. And
where references do not get a perfect score from the metric, no model can.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from data_prep.config import TaskType
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import METRICS, Meta, Metric, interval, paired
from raytrain.evaluation.metrics.rouge import split_sentences
from raytrain.evaluation.results import Agreement, BaselineScore
from raytrain.evaluation.row_stats import RowStats, compute_row_stats

_ROUNDING = 1e-9
OWN_SHARE = 0.1
"""Share of a model's answers from which on its most frequent one is a baseline of its own."""


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """What the scores of one task on one split are held against.

    `baselines` maps the name of a trivial answer to its rows' statistics by the primary metric,
    `references` a metric to what the references score by it, where that is not perfect.
    """

    baselines: Mapping[str, RowStats] = field(default_factory=dict)
    agreement: Agreement | None = None
    references: Mapping[str, float] = field(default_factory=dict)


def make_yardsticks(
    metrics: Sequence[Metric], task_type: TaskType, examples: Sequence[Example], training_targets: Sequence[str]
) -> Yardsticks:
    """Returns the yardsticks of a task; the first of `metrics` is the primary one."""
    imperfect = {m.name: score for m in metrics if (score := references_score(m, examples)) is not None}
    return Yardsticks(
        baselines=baseline_stats(metrics[0], task_type, examples, training_targets),
        agreement=agreement(metrics[0], examples),
        references=imperfect,
    )


def most_frequent(targets: Sequence[str]) -> str | None:
    """Returns the most frequent target (ties: alphabetically first); None without targets."""
    counts = Counter(targets)
    return min(counts, key=lambda target: (-counts[target], target)) if counts else None


def sentences(text: str) -> list[str]:
    """Returns the non-empty sentences of a text; a line break ends one (a turn of a dialogue)."""
    return [line.strip() for line in split_sentences(text).splitlines() if line.strip()]


def lead(text: str, count: int = 3) -> str:
    """Returns the first `count` sentences."""
    return " ".join(sentences(text)[:count])


def longest_sentence(text: str) -> str:
    """Returns the longest sentence in characters, of equals the first."""
    return max(sentences(text), key=len, default="")


def baseline_predictions(
    task_type: TaskType, examples: Sequence[Example], training_targets: Sequence[str]
) -> dict[str, list[str]]:
    """Returns the predictions of each baseline, one per example.

    Summaries: the first three sentences, and the longest one, of the raw input. Translations and
    free text: the input itself. All but summaries and translations: the most frequent training
    target, where there are any.
    """
    inputs = [example.raw_input for example in examples]
    if task_type == "summarization":
        return {"lead-3": [lead(text) for text in inputs], "longest-sentence": [longest_sentence(x) for x in inputs]}
    if task_type in ("code-translation", "translation"):
        return {"copy": inputs}
    predictions = {"copy": inputs} if task_type == "text" else {}
    if (frequent := most_frequent(training_targets)) is not None:
        predictions = {"most-frequent": [frequent] * len(examples), **predictions}
    return predictions


def baseline_stats(
    metric: Metric, task_type: TaskType, examples: Sequence[Example], training_targets: Sequence[str]
) -> dict[str, RowStats]:
    """Returns the statistics of each baseline's rows, on the rows that the model is scored on.

    A metric of likelihoods has no baselines, except the accuracy of choices: a baseline can name a
    choice.
    """
    judge = _judge(metric)
    if judge is None:
        return {}
    targets, metas = [e.targets for e in examples], [e.meta for e in examples]
    predictions = baseline_predictions(task_type, examples, training_targets)
    return {name: compute_row_stats(judge, texts, targets, metas) for name, texts in predictions.items()}


def with_own_answer(
    baselines: Mapping[str, RowStats],
    metric: Metric,
    texts: Sequence[str],
    targets: Sequence[Sequence[str]],
    metas: Sequence[Meta],
) -> dict[str, RowStats]:
    """Adds `own-answer`: the most frequent of the model's answers `texts`, given to every row.

    A model that has collapsed to one answer is not better than that answer, whichever it is: the
    most frequent training target need not be the most frequent one of these rows. Left out where
    no answer is frequent, or where it scores like that target on every row.
    """
    judge, answer = _judge(metric), most_frequent(texts)
    if judge is None or answer is None or texts.count(answer) < max(2, OWN_SHARE * len(texts)):
        return dict(baselines)
    own = compute_row_stats(judge, [answer] * len(texts), targets, metas)
    known = baselines.get("most-frequent")
    if known is not None and np.array_equal(known.scored, own.scored) and np.array_equal(known.stats, own.stats):
        return dict(baselines)
    return {**baselines, "own-answer": own}


def _judge(metric: Metric) -> Metric | None:
    """The metric that scores an answer without a model; None for metrics of likelihoods."""
    if metric.name == "choice_accuracy":
        return METRICS["exact_match"]
    return None if metric.measured else metric


def compare_with_baselines(
    metric: Metric, model: RowStats, baselines: Mapping[str, RowStats]
) -> dict[str, BaselineScore]:
    """Scores the baselines, and compares the model with each on the rows that both have."""
    return {name: _compare(metric, model, baseline) for name, baseline in baselines.items() if baseline.scored.any()}


def _compare(metric: Metric, model: RowStats, baseline: RowStats) -> BaselineScore:
    value, both = metric.score(baseline.stats), model.scored & baseline.scored
    if not both.any():
        return BaselineScore(value)
    found = paired(metric, baseline.stats[both[baseline.scored]], model.stats[both[model.scored]])
    return BaselineScore(value, found.rows, found.difference, found.low, found.high, found.p)


def agreement(metric: Metric, examples: Sequence[Example]) -> Agreement | None:
    """Returns what people score against each other; None where no row has several references."""
    several = [e for e in examples if len(e.targets) > 1]
    if metric.measured or not several:
        return None
    compared = [(t, _without(e.targets, i), e.meta) for e in several for i, t in enumerate(e.targets)]
    texts, others, metas = zip(*compared, strict=True)
    found = compute_row_stats(metric, texts, others, metas)
    if not found.scored.all():
        return None
    counts = np.array([len(e.targets) for e in several])
    # The references of a row are no independent draws: they are one row of the interval.
    by_row = np.add.reduceat(found.stats, np.cumsum([0, *counts[:-1]])) / counts.mean()
    score = interval(metric, by_row)
    return Agreement(score.value, score.low, score.high, len(several), int(counts.max()), int(counts.max()) - 1)


def references_score(metric: Metric, examples: Sequence[Example]) -> float | None:
    """Returns what the first references score; None where that is perfect or not known.

    By ROUGE a reference without a word ("?") scores 0, whatever the answer.
    """
    if metric.measured or metric.scale != "percent":
        return None
    targets = [e.targets for e in examples if e.targets]
    found = compute_row_stats(metric, [t[0] for t in targets], targets, [e.meta for e in examples if e.targets])
    score = metric.score(found.stats) if len(found.stats) else np.nan
    perfect = 1.0 if metric.better == "higher" else 0.0
    return None if np.isnan(score) or abs(score - perfect) < _ROUNDING else float(score)


def _without(targets: tuple[str, ...], index: int) -> tuple[str, ...]:
    return targets[:index] + targets[index + 1 :]
