"""Answers that need no model; a score below them is no achievement.

And what people score against each other.
"""

from collections import Counter
from collections.abc import Sequence

from data_prep.config import TaskType
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import METRICS, Metric
from raytrain.evaluation.metrics.rouge import split_sentences
from raytrain.evaluation.row_stats import row_stats

REFERENCES = "references"
"""Not a baseline to beat but what one reference scores against the others: where people themselves stand."""


def most_frequent(targets: Sequence[str]) -> str | None:
    """The most frequent target, the alphabetically first of equals; None without targets."""
    counts = Counter(targets)
    return min(counts, key=lambda target: (-counts[target], target)) if counts else None


def sentences(text: str) -> list[str]:
    """The sentences of a text that are not empty; a turn of a dialogue ends one."""
    return [line.strip() for line in split_sentences(text).splitlines() if line.strip()]


def lead(text: str, count: int = 3) -> str:
    """The first `count` sentences."""
    return " ".join(sentences(text)[:count])


def longest_sentence(text: str) -> str:
    """The longest sentence in characters, the first of equals."""
    return max(sentences(text), key=len, default="")


def baseline_answers(
    task_type: TaskType, examples: Sequence[Example], training_targets: Sequence[str]
) -> dict[str, list[str]]:
    """Answers of each baseline to each example.

    For summaries the first three sentences and the longest one of the raw input, for translations
    (and free text) the input itself; for all but summaries and translations the most frequent
    answer, where there are training targets.
    """
    inputs = [example.raw_input for example in examples]
    if task_type == "summarization":
        return {"lead-3": [lead(text) for text in inputs], "longest-sentence": [longest_sentence(x) for x in inputs]}
    if task_type in ("code-translation", "translation"):
        return {"copy": inputs}
    answers = {"copy": inputs} if task_type == "text" else {}
    if (frequent := most_frequent(training_targets)) is not None:
        answers = {"most-frequent": [frequent] * len(examples), **answers}
    return answers


def score_baselines(
    metric: Metric, task_type: TaskType, examples: Sequence[Example], training_targets: Sequence[str]
) -> dict[str, float]:
    """The score of each baseline by `metric` on the same rows that the model is scored on.

    Where rows have several references, `REFERENCES` is what each one scores against the others of
    its row. A metric of what a model finds likely has no baselines, but for a choice, which can be
    answered without one.
    """
    if metric.name == "choice_accuracy":
        metric = METRICS["exact_match"]
    if metric.measured:
        return {}
    answers = baseline_answers(task_type, examples, training_targets)
    rows = {
        name: [(text, e.targets, e) for text, e in zip(texts, examples, strict=True)] for name, texts in answers.items()
    }
    several = [(t, _without(e.targets, i), e) for e in examples for i, t in enumerate(e.targets) if len(e.targets) > 1]
    if several:
        rows[REFERENCES] = several
    scores = {}
    for name, compared in rows.items():
        texts, targets = [text for text, _, _ in compared], [wanted for _, wanted, _ in compared]
        found = row_stats(metric, texts, targets, [example.meta for _, _, example in compared])
        if found.scored.all():
            scores[name] = metric.score(found.stats)
    return scores


def _without(targets: tuple[str, ...], index: int) -> tuple[str, ...]:
    return targets[:index] + targets[index + 1 :]
