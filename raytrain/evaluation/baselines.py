"""Baselines: predictions that need no model. A score below them is no achievement.

And, for comparison, what people score against each other.
"""

from collections import Counter
from collections.abc import Sequence

from data_prep.config import TaskType
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import METRICS, Metric
from raytrain.evaluation.metrics.rouge import split_sentences
from raytrain.evaluation.row_stats import compute_row_stats

REFERENCES = "references"
"""Not a baseline to beat: what each reference scores against the others of its row."""


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


def score_baselines(
    metric: Metric, task_type: TaskType, examples: Sequence[Example], training_targets: Sequence[str]
) -> dict[str, float]:
    """Returns the score of each baseline by `metric`, on the same rows that the model is scored on.

    Where rows have several references, `REFERENCES` is what each one scores against the others of
    its row. A metric of likelihoods has no baselines, except the accuracy of choices: a baseline
    can name a choice.
    """
    if metric.name == "choice_accuracy":
        metric = METRICS["exact_match"]
    if metric.measured:
        return {}
    predictions = baseline_predictions(task_type, examples, training_targets)
    rows = {
        name: [(text, e.targets, e.meta) for text, e in zip(texts, examples, strict=True)]
        for name, texts in predictions.items()
    }
    several = [e for e in examples if len(e.targets) > 1]
    if several:
        rows[REFERENCES] = [(t, _without(e.targets, i), e.meta) for e in several for i, t in enumerate(e.targets)]
    scores = {}
    for name, compared in rows.items():
        texts, targets = [text for text, _, _ in compared], [references for _, references, _ in compared]
        stats = compute_row_stats(metric, texts, targets, [meta for _, _, meta in compared])
        if stats.scored.all():
            scores[name] = metric.score(stats.stats)
    return scores


def _without(targets: tuple[str, ...], index: int) -> tuple[str, ...]:
    return targets[:index] + targets[index + 1 :]
