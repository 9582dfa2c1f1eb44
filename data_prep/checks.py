"""What can be said of prepared rows: lengths, what was cut or lost, duplicates, leakage between splits and tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.document.models import Split

Keys = NDArray[np.uint64]

# What is trained on, and what it must not hold.
_LEAKS: tuple[tuple[Split, Split], ...] = (("train", "validation"), ("train", "test"), ("validation", "test"))


class Lengths:
    """Token counts of many rows, kept as a histogram: memory grows with the longest row, not with their number."""

    def __init__(self) -> None:
        self._counts = np.zeros(1, np.int64)

    def add(self, lengths: NDArray[np.int64]) -> None:
        """Count these."""
        counts = np.bincount(lengths, minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def summary(self) -> dict[str, float | int]:
        """mean, p50, p95 (the smallest length that at least that share of the rows does not exceed) and max."""
        total = int(self._counts.sum())
        if not total:
            return {"mean": 0.0, "p50": 0, "p95": 0, "max": 0}
        mean = float(np.dot(self._counts, np.arange(len(self._counts))) / total)
        below = np.cumsum(self._counts)
        p50, p95 = (int(np.searchsorted(below, np.ceil(total * share))) for share in (0.5, 0.95))
        return {"mean": round(mean, 2), "p50": p50, "p95": p95, "max": int(np.flatnonzero(self._counts)[-1])}


class SplitStatistics:
    """Counts over the rows of one split while they are written."""

    def __init__(self, templates: int) -> None:
        self.rows = 0
        self._templates = np.zeros(templates, np.int64)
        self._source, self._target = Lengths(), Lengths()
        self._sources = self._cut_sources = self._cut_targets = self._altered_targets = 0
        self._tokens = self._unknown = 0

    def add_sources(
        self, lengths: NDArray[np.int64], templates: Sequence[int], truncated: int, kept_tokens: int, unknown: int
    ) -> None:
        """Rendered prompts in one wording each; `lengths` in tokens before cutting."""
        self._source.add(lengths)
        self._templates += np.bincount(templates, minlength=len(self._templates))
        self._sources += len(lengths)
        self._cut_sources += truncated
        self._tokens += kept_tokens
        self._unknown += unknown

    def add_targets(
        self, lengths: NDArray[np.int64], truncated: int, altered: int, kept_tokens: int, unknown: int
    ) -> None:
        """First targets, once per example; `altered`: those that text -> ids -> text changes."""
        self._target.add(lengths)
        self.rows += len(lengths)
        self._cut_targets += truncated
        self._altered_targets += altered
        self._tokens += kept_tokens
        self._unknown += unknown

    def summary(self, keys: Keys) -> dict[str, Any]:
        """As it stands in the manifest; shares are fractions of the rows, `unknown_tokens` of the tokens kept."""
        return {
            "rows": self.rows,
            "source_tokens": self._source.summary(),
            "target_tokens": self._target.summary(),
            "truncated_sources": _share(self._cut_sources, self._sources),
            "truncated_targets": _share(self._cut_targets, self.rows),
            "altered_targets": _share(self._altered_targets, self.rows),
            "unknown_tokens": _share(self._unknown, self._tokens),
            "templates": {str(i): int(n) for i, n in enumerate(self._templates) if n},
            "duplicates": duplicates(keys),
        }


def duplicates(keys: Keys) -> int:
    """Rows whose input an earlier row has."""
    return len(keys) - len(np.unique(keys))


def leakage(keys: Mapping[Split, Keys]) -> dict[str, int]:
    """Rows of validation and test whose input train (or validation) has too: {"test in train": 3}."""
    return {
        f"{held} in {seen}": int(np.isin(keys[held], keys[seen]).sum())
        for seen, held in _LEAKS
        if seen in keys and held in keys
    }


def leakage_across(keys: Mapping[tuple[str, Split], Keys]) -> list[dict[str, Any]]:
    """Validation and test rows of one task whose input is trained on in another; those with none are left out."""
    found = []
    for (task, split), held in keys.items():
        for (other, seen_split), seen in keys.items():
            if split != "train" and seen_split == "train" and other != task and (n := int(np.isin(held, seen).sum())):
                found.append({"task": task, "split": split, "trained_in": other, "rows": n, "of": len(held)})
    return found


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
