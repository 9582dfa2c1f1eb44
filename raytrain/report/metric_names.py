"""Names and one-clause explanations of metrics, and the labels of task types and baselines."""

from typing import NamedTuple


class MetricName(NamedTuple):
    """The label of a metric, and what it measures in one clause."""

    label: str
    meaning: str


METRIC_NAMES: dict[str, MetricName] = {
    "rouge1": MetricName("ROUGE-1", "single words shared with the reference"),
    "rouge2": MetricName("ROUGE-2", "word pairs shared with the reference"),
    "rougeL": MetricName("ROUGE-L", "words shared with the reference in the same order"),
    "rougeLsum": MetricName("ROUGE-Lsum", "ROUGE-L computed sentence by sentence"),
    "accuracy": MetricName("accuracy", "share of correct answers"),
    "within_one": MetricName("within one", "share of ratings that are at most one step off"),
    "mae": MetricName("mean error", "average distance of a rating from the reference, in steps; lower is better"),
    "f1": MetricName("F1", "harmonic mean of precision and recall over entities with the right text and type"),
    "precision": MetricName("precision", "share of predicted entities that are correct"),
    "recall": MetricName("recall", "share of expected entities that were found"),
    "unparsable": MetricName("unparsable", "share of answers that are not in the expected format; lower is better"),
    "chrf": MetricName("chrF", "character n-grams shared with the reference"),
    "bleu": MetricName("BLEU", "word n-grams (1 to 4) shared with the reference"),
    "exact_code": MetricName("exact code", "share of translations equal to the reference, ignoring white space"),
    "macro_f1": MetricName("macro F1", "mean of the F1 of each label; rare labels count as much as frequent ones"),
    "spearman": MetricName("rank correlation", "whether answers rank rows like the references do (Spearman's rho)"),
    "no_label": MetricName("no label", "share of answers that are not one of the labels; lower is better"),
    "parses": MetricName("parses", "share of answers that are code without syntax errors"),
    "perplexity": MetricName("perplexity", "how unexpected the reference is to the model; lower is better"),
    "choice_accuracy": MetricName("right choice", "share of questions whose correct choice is the most likely one"),
    "exact@squad": MetricName("exact (SQuAD)", "share of answers equal to the reference after SQuAD's normalization"),
    "f1@squad": MetricName("word F1 (SQuAD)", "F1 of words in any order after SQuAD's normalization"),
    "word_f1": MetricName("word F1", "words shared with the reference in any order"),
    "bleu@t5": MetricName("BLEU (T5)", "BLEU as reported in the T5 papers"),
    "exact_match": MetricName("exact match", "share of answers equal to the reference"),
}
_HARNESS_MEANINGS = {
    "acc": "share of rows whose correct choice is the most likely one",
    "acc_norm": "share of rows whose correct choice is the most likely one for its length in characters",
    "exact_match": "share of answers equal to the reference, after the benchmark's own filters",
}
TYPE_LABELS = {
    "summarization": "summarization",
    "rating": "rating",
    "sentiment": "sentiment",
    "ner": "named entities",
    "translation": "translation",
    "code-translation": "code translation",
    "multiple-choice": "multiple choice",
    "question-answering": "question answering",
    "text": "free text",
}
VARIANTS = {"t5": "T5 variant", "hf": "Hugging Face variant"}
BASELINE_LABELS = {
    "most-frequent": "always the most frequent answer",
    "own-answer": "always the model's own most frequent answer",
    "copy": "copying the input",
    "lead-3": "the first three sentences",
    "longest-sentence": "the longest sentence",
}


def metric_label(name: str) -> str:
    """Returns the display name of a metric."""
    plain, _, variant = name.partition("@")
    if variant == "lm-eval":
        return f"{METRIC_NAMES[plain].label if plain in METRIC_NAMES else plain} (lm-eval)"
    if name not in METRIC_NAMES and plain in METRIC_NAMES and variant in VARIANTS:
        return f"{METRIC_NAMES[plain].label} ({VARIANTS[variant]})"
    key = name if name in METRIC_NAMES else name.replace("-", "_")
    return METRIC_NAMES[key].label if key in METRIC_NAMES else name.replace("_", " ").replace("-", " ")


def metric_meaning(name: str) -> str:
    """Explains a metric in one clause; empty for metrics of plugins."""
    if name.endswith("@lm-eval"):
        return _HARNESS_MEANINGS.get(name.partition("@")[0], "as lm-evaluation-harness computes it")
    if name not in METRIC_NAMES and name.partition("@")[2] in VARIANTS:
        return metric_meaning(name.partition("@")[0])
    key = name if name in METRIC_NAMES else name.replace("-", "_")
    return METRIC_NAMES[key].meaning if key in METRIC_NAMES else ""


def baseline_label(name: str) -> str:
    """Describes the answer that a baseline gives."""
    return BASELINE_LABELS.get(name, name.replace("-", " ").replace("_", " "))


def type_label(name: str) -> str:
    """Returns the display name of a task type."""
    return TYPE_LABELS.get(name, name.replace("-", " "))
