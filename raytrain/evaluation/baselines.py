"""Answers that need no model; a score below them is no achievement."""

from collections import Counter
from collections.abc import Sequence

from data_prep.document.models import TaskType
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import Metric
from raytrain.evaluation.metrics.rouge import split_sentences


def most_frequent(targets: Sequence[str]) -> str | None:
    """The most frequent target, the alphabetically first of equals; None without targets."""
    counts = Counter(targets)
    return min(counts, key=lambda target: (-counts[target], target)) if counts else None


def lead(text: str) -> str:
    """The first sentence that is not empty."""
    return next((line.strip() for line in split_sentences(text).splitlines() if line.strip()), "")


def baseline_answers(
    task_type: TaskType, examples: Sequence[Example], training_targets: Sequence[str]
) -> dict[str, list[str]]:
    """Answers of each baseline to each example.

    `most-frequent` (where there are training targets), `copy` of the raw input, and for summaries the `lead`
    sentence of the raw input.
    """
    answers = {"copy": [example.raw_input for example in examples]}
    if (frequent := most_frequent(training_targets)) is not None:
        answers = {"most-frequent": [frequent] * len(examples), **answers}
    if task_type == "summarization":
        answers["lead"] = [lead(example.raw_input) for example in examples]
    return answers


def score_baselines(
    metric: Metric, task_type: TaskType, examples: Sequence[Example], training_targets: Sequence[str]
) -> dict[str, float]:
    """The score of each baseline by `metric` on the same rows that the model is scored on."""
    targets = [example.targets for example in examples]
    metas = [example.meta for example in examples]
    return {
        name: metric.score(metric.stats_many(answers, targets, metas))
        for name, answers in baseline_answers(task_type, examples, training_targets).items()
    }
