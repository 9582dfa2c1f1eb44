"""chrF and BLEU as sacrebleu computes them (Post 2018), from sacrebleu's own counts."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from raytrain.evaluation.metrics.base import Floats, Meta, Metric, ratio

_ORDER = 6  # sacrebleu's default maximum length of character n-grams
_BETA_SQUARED = 4.0  # its default beta is 2: recall counts twice


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@cache
def _bleu(tokenizer: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(
        tokenize=tokenizer, force=True
    )  # no warning about a blank before the last full stop: code often has one


def _counts(scorer: Any, prediction: str, targets: Sequence[str]) -> tuple[float, ...]:
    return tuple(map(float, scorer._extract_corpus_statistics([prediction], [[target] for target in targets])[0]))


class Chrf(Metric):
    """Corpus chrF: F2 of character n-grams of length 1 to 6 (Popović 2015)."""

    name = "chrf"
    columns = tuple(f"{what}{n}" for n in range(1, _ORDER + 1) for what in ("predicted", "expected", "matching"))

    @property
    def protocol(self) -> str:
        """Sacrebleu's signature in words."""
        return (
            f"sacrebleu {version('sacrebleu')}, corpus chrF2, character n-grams 1-6, case kept, "
            "white space ignored, best of several references"
        )

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns the n-gram counts per length: predicted, expected, matching."""
        return _counts(_chrf(), prediction, targets)

    def combine_many(self, sums: Floats) -> Floats:
        """Sacrebleu's `_compute_f_score` for many sums at once."""
        counts = sums.reshape(len(sums), _ORDER, 3)
        predicted, expected, matching = counts[:, :, 0], counts[:, :, 1], counts[:, :, 2]
        both = (predicted > 0) & (expected > 0)  # "effective order": lengths that both sides have
        orders = both.sum(axis=1).astype(np.float64)
        precision = ratio((ratio(matching, predicted, empty=0.0) * both).sum(axis=1), orders, empty=0.0)
        recall = ratio((ratio(matching, expected, empty=0.0) * both).sum(axis=1), orders, empty=0.0)
        return ratio((1 + _BETA_SQUARED) * precision * recall, _BETA_SQUARED * precision + recall, empty=0.0)


class Bleu(Metric):
    """Corpus BLEU-4 with brevity penalty (Papineni et al. 2002).

    `bleu@t5` is the variant of T5's evaluation, with sacrebleu's international tokenizer.
    """

    columns = ("predicted", "expected", *(f"matching{n}" for n in range(1, 5)), *(f"total{n}" for n in range(1, 5)))

    def __init__(self, name: str = "bleu", tokenizer: str = "13a") -> None:
        self.name, self._tokenizer = name, tokenizer

    @property
    def protocol(self) -> str:
        """Sacrebleu's signature in words."""
        return (
            f"sacrebleu {version('sacrebleu')}, corpus BLEU-4, tokenizer {self._tokenizer}, case kept, smoothing exp, "
            "all references at once; the value of a single row is corpus BLEU of that row"
        )

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns both lengths, and the matching and all predicted n-grams of 1 to 4 words."""
        return _counts(_bleu(self._tokenizer), prediction, targets)

    def combine_many(self, sums: Floats) -> Floats:
        """Sacrebleu's score of each sum."""
        bleu = _bleu(self._tokenizer)
        scores = [bleu._compute_score_from_stats([int(x) for x in row]).score / 100 for row in sums]
        return np.array(scores, dtype=np.float64)
