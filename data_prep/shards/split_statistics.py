"""Statistics of a split, counted while it is written.

Lengths, truncation, unknown tokens, templates, duplicates.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data_prep.shards.leakage import Keys, duplicates


class Lengths:
    """A histogram of token counts.

    Its memory grows with the longest row, not with the number of rows.
    """

    def __init__(self, histogram: Mapping[str, int] | None = None) -> None:
        """Starts empty, or from what `histogram` returned."""
        found = {int(length): count for length, count in (histogram or {}).items()}
        self._counts = np.zeros(max(found, default=0) + 1, np.int64)
        for length, count in found.items():
            self._counts[length] = count

    def add(self, lengths: NDArray[np.int64]) -> None:
        """Adds the lengths of more rows."""
        self._merge(np.bincount(lengths))

    def merge(self, other: Self) -> None:
        """Adds the counts of `other`."""
        self._merge(other._counts)

    def histogram(self) -> dict[str, int]:
        """Returns how many rows have each length, for JSON."""
        return {str(length): int(self._counts[length]) for length in np.flatnonzero(self._counts)}

    def summary(self) -> dict[str, float | int]:
        """Returns mean, p50, p95 and max.

        95% of the rows are at most as long as p95.
        """
        total = int(self._counts.sum())
        if not total:
            return {"mean": 0.0, "p50": 0, "p95": 0, "max": 0}
        mean = float(np.dot(self._counts, np.arange(len(self._counts))) / total)
        below = np.cumsum(self._counts)
        p50, p95 = (int(np.searchsorted(below, np.ceil(total * share))) for share in (0.5, 0.95))
        return {"mean": round(mean, 2), "p50": p50, "p95": p95, "max": int(np.flatnonzero(self._counts)[-1])}

    def _merge(self, counts: NDArray[np.int64]) -> None:
        short, long = sorted((self._counts, counts), key=len)
        self._counts = long.copy()
        self._counts[: len(short)] += short


class SplitStatistics:
    """Counts over rows while they are written.

    Those of the work units add up to those of the split.
    """

    def __init__(self) -> None:
        self._source, self._target = Lengths(), Lengths()
        self._templates: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Reads what `to_json` returned."""
        statistics = cls()
        statistics._source, statistics._target = Lengths(document["source"]), Lengths(document["target"])
        statistics._templates, statistics._counts = Counter(document["templates"]), Counter(document["counts"])
        return statistics

    def to_json(self) -> dict[str, Any]:
        """Returns everything counted, as plain data."""
        return {
            "source": self._source.histogram(),
            "target": self._target.histogram(),
            "templates": dict(self._templates),
            "counts": dict(self._counts),
        }

    def merge(self, other: Self) -> None:
        """Adds the counts of `other`."""
        self._source.merge(other._source)
        self._target.merge(other._target)
        self._templates += other._templates
        self._counts += other._counts

    def add_inputs(self, altered: int) -> None:
        """Adds raw inputs, once for each example.

        `altered` of them change from text to ids and back.
        """
        self._counts["altered_inputs"] += altered

    def add_sources(
        self, lengths: NDArray[np.int64], templates: Sequence[int], truncated: int, kept_tokens: int, unknown: int
    ) -> None:
        """Adds the prompts of one variant; `lengths` are in tokens before truncation."""
        self._source.add(lengths)
        self._templates.update(map(str, templates))
        self._counts.update(sources=len(lengths), cut_sources=truncated, tokens=kept_tokens, unknown=unknown)

    def add_few_shot(self, prompts: int) -> None:
        """Adds prompts that show few-shot examples; they are counted as sources too."""
        self._counts["few_shot"] += prompts

    def add_targets(
        self, lengths: NDArray[np.int64], truncated: int, altered: int, kept_tokens: int, unknown: int
    ) -> None:
        """Adds first targets, once for each example.

        `altered` of them change from text to ids and back.
        """
        self._target.add(lengths)
        self._counts.update(rows=len(lengths), cut_targets=truncated, altered_targets=altered)
        self._counts.update(tokens=kept_tokens, unknown=unknown)

    def summary(self, keys: Keys) -> dict[str, Any]:
        """Returns the statistics for the manifest.

        Shares are fractions of the rows; `unknown_tokens` is a fraction of the tokens kept.
        """
        counts = self._counts
        return {
            "rows": counts["rows"],
            "source_tokens": self._source.summary(),
            "target_tokens": self._target.summary(),
            "truncated_sources": _share(counts["cut_sources"], counts["sources"]),
            "truncated_targets": _share(counts["cut_targets"], counts["rows"]),
            "altered_inputs": _share(counts["altered_inputs"], counts["rows"]),
            "altered_targets": _share(counts["altered_targets"], counts["rows"]),
            "unknown_tokens": _share(counts["unknown"], counts["tokens"]),
            "few_shot": _share(counts["few_shot"], counts["sources"]),
            "templates": {name: self._templates[name] for name in sorted(self._templates, key=int)},
            "duplicates": duplicates(keys),
        }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
