"""chrF and BLEU as sacrebleu computes them (Post 2018), from its own n-grams and counts."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from raytrain.evaluation.answers.words import space_characters
from raytrain.evaluation.metrics.base import Floats, Meta, Metric, ratio

_ORDER = 6  # sacrebleu's default maximum length of character n-grams
_BETA_SQUARED = 4.0  # its default beta is 2: recall counts twice


@cache
def _bleu(tokenizer: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(
        tokenize=tokenizer, force=True
    )  # no warning about a blank before the last full stop: code often has one


def _matches(predicted: Sequence[Counter[str]], expected: Sequence[Counter[str]]) -> list[int]:
    """Predicted, expected and matching n-grams of each length."""
    pairs = zip(predicted, expected, strict=True)
    # As in sacrebleu, what is predicted does not count for a length that the reference has not.
    return [n for p, e in pairs for n in (p.total() if e else 0, e.total(), (p & e).total())]


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
        """Returns the n-gram counts per length with the best reference, of equals the first."""
        from sacrebleu.metrics.helpers import extract_all_char_ngrams

        predicted, *references = (extract_all_char_ngrams(text, _ORDER) for text in (prediction, *targets))
        counts = np.array([_matches(predicted, expected) for expected in references], dtype=np.float64)
        return tuple(counts[np.argmax(self.combine_many(counts))].tolist())

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """Returns a row as long as any without a match, and one that matches."""
        counts = stats.reshape(len(stats), _ORDER, 3)
        size = counts[:, :, :2].max(axis=(0, 2))
        nothing = np.stack([size, size, np.zeros(_ORDER)], axis=1).ravel()
        return nothing, np.stack([size, size, size], axis=1).ravel()

    def combine_many(self, sums: Floats) -> Floats:
        """Sacrebleu's F score for many sums at once."""
        counts = sums.reshape(len(sums), _ORDER, 3)
        predicted, expected, matching = counts[:, :, 0], counts[:, :, 1], counts[:, :, 2]
        both = (predicted > 0) & (expected > 0)  # "effective order": lengths that both sides have
        orders = both.sum(axis=1).astype(np.float64)
        precision = ratio((ratio(matching, predicted, empty=0.0) * both).sum(axis=1), orders, empty=0.0)
        recall = ratio((ratio(matching, expected, empty=0.0) * both).sum(axis=1), orders, empty=0.0)
        return ratio((1 + _BETA_SQUARED) * precision * recall, _BETA_SQUARED * precision + recall, empty=0.0)


class Bleu(Metric):
    """Corpus BLEU-4 with brevity penalty (Papineni et al. 2002).

    Characters of scripts that do not separate words are words, as in sacrebleu's tokenizer `zh`.

    `bleu@t5` is the variant of T5's evaluation, with sacrebleu's international tokenizer.
    """

    columns = ("predicted", "expected", *(f"matching{n}" for n in range(1, 5)), *(f"total{n}" for n in range(1, 5)))

    def __init__(self, name: str = "bleu", tokenizer: str = "13a") -> None:
        self.name, self._tokenizer = name, tokenizer

    @property
    def protocol(self) -> str:
        """Sacrebleu's signature in words."""
        words = " (characters in Chinese, Japanese, Thai and the like)" if self._tokenizer == "13a" else ""
        return (
            f"sacrebleu {version('sacrebleu')}, corpus BLEU-4, tokenizer {self._tokenizer}{words}, case kept, "
            "smoothing exp, all references at once; the value of a single row is corpus BLEU of that row"
        )

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns both lengths, and the matching and all predicted n-grams of 1 to 4 words."""
        if self._tokenizer == "13a":
            prediction, targets = space_characters(prediction), [space_characters(target) for target in targets]
        found = _bleu(self._tokenizer).corpus_score([prediction], [[target] for target in targets])
        return tuple(map(float, (found.sys_len, found.ref_len, *found.counts, *found.totals)))

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """Returns a row as long as any that is wrong and missing, and one that is more than right.

        They are worse and better than any real one: a wrong row is not missing as well, a right one
        has a reference. Smoothing and the brevity penalty make BLEU of few rows that uncertain.
        """
        length, totals = stats[:, :2].max(), stats[:, 6:].max(axis=0)
        nothing = np.array([0.0, length, *np.zeros(4), *totals])
        return nothing, np.array([length, 0.0, *totals, *totals])

    def combine_many(self, sums: Floats) -> Floats:
        """Sacrebleu's `compute_bleu` for many sums at once, which need not be whole numbers."""
        predicted, expected, matching, total = sums[:, 0], sums[:, 1], sums[:, 2:6], sums[:, 6:]
        brevity = np.exp(np.minimum(0.0, 1 - ratio(expected, predicted, empty=np.inf)))
        # Smoothing "exp": the k-th length without a match counts as half of the k - 1 before.
        missing = np.cumsum((matching == 0) & (total > 0), axis=1)
        precision = ratio(np.where(matching > 0, matching, 0.5**missing), total, empty=0.0)
        with np.errstate(divide="ignore"):  # a length without any n-gram makes the score 0
            score = brevity * np.exp(np.log(precision).mean(axis=1))
        return np.where(matching.any(axis=1), score, 0.0)
