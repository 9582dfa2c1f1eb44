"""ROUGE of a summary against its reference, as Google's rouge_score with a stemmer computes it."""

from collections.abc import Mapping, Sequence
from typing import Any

KINDS = ("rougeL", "rouge1", "rouge2")


def rouge_scores(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Returns the F-measure of each kind for one row."""
    from rouge_score.rouge_scorer import RougeScorer

    found = RougeScorer(KINDS, use_stemmer=True).score(doc["summary"], results[0])
    return {kind: found[kind].fmeasure for kind in KINDS}
