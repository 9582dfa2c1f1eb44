"""What can be said of prepared rows: lengths, what was cut or lost, duplicates, leakage between splits and tasks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Split

Keys = NDArray[np.uint64]

# What is trained on, and what it must not hold.
_LEAKS: tuple[tuple[Split, Split], ...] = (("train", "validation"), ("train", "test"), ("validation", "test"))


class Lengths:
    """Token counts of many rows, kept as a histogram: memory grows with the longest row, not with their number."""

    def __init__(self, histogram: Mapping[str, int] | None = None) -> None:
        """Empty, or what `histogram` gave."""
        found = {int(length): count for length, count in (histogram or {}).items()}
        self._counts = np.zeros(max(found, default=0) + 1, np.int64)
        for length, count in found.items():
            self._counts[length] = count

    def add(self, lengths: NDArray[np.int64]) -> None:
        """Count these."""
        self._merge(np.bincount(lengths))

    def merge(self, other: Self) -> None:
        """Count what `other` has counted."""
        self._merge(other._counts)

    def histogram(self) -> dict[str, int]:
        """How many rows have each length, for JSON."""
        return {str(length): int(self._counts[length]) for length in np.flatnonzero(self._counts)}

    def summary(self) -> dict[str, float | int]:
        """mean, p50, p95 (the smallest length that at least that share of the rows does not exceed) and max."""
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
    """Counts over the rows of one split while they are written; those of its items add up to those of the split."""

    def __init__(self) -> None:
        self._source, self._target = Lengths(), Lengths()
        self._templates: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        statistics = cls()
        statistics._source, statistics._target = Lengths(document["source"]), Lengths(document["target"])
        statistics._templates, statistics._counts = Counter(document["templates"]), Counter(document["counts"])
        return statistics

    def to_json(self) -> dict[str, Any]:
        """Everything that was counted, as plain data."""
        return {
            "source": self._source.histogram(),
            "target": self._target.histogram(),
            "templates": dict(self._templates),
            "counts": dict(self._counts),
        }

    def merge(self, other: Self) -> None:
        """Count what `other` has counted."""
        self._source.merge(other._source)
        self._target.merge(other._target)
        self._templates += other._templates
        self._counts += other._counts

    def add_inputs(self, altered: int) -> None:
        """Raw inputs, once per example; `altered`: those that text -> ids -> text changes."""
        self._counts["altered_inputs"] += altered

    def add_sources(
        self, lengths: NDArray[np.int64], templates: Sequence[int], truncated: int, kept_tokens: int, unknown: int
    ) -> None:
        """Rendered prompts in one wording each; `lengths` in tokens before cutting."""
        self._source.add(lengths)
        self._templates.update(map(str, templates))
        self._counts.update(sources=len(lengths), cut_sources=truncated, tokens=kept_tokens, unknown=unknown)

    def add_few_shot(self, prompts: int) -> None:
        """Prompts among the sources that show other rows first."""
        self._counts["few_shot"] += prompts

    def add_targets(
        self, lengths: NDArray[np.int64], truncated: int, altered: int, kept_tokens: int, unknown: int
    ) -> None:
        """First targets, once per example; `altered`: those that text -> ids -> text changes."""
        self._target.add(lengths)
        self._counts.update(rows=len(lengths), cut_targets=truncated, altered_targets=altered)
        self._counts.update(tokens=kept_tokens, unknown=unknown)

    def summary(self, keys: Keys) -> dict[str, Any]:
        """As it stands in the manifest; shares are fractions of the rows, `unknown_tokens` of the tokens kept."""
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
    """Validation and test rows of one task whose input is trained on in another; those with none are left out.

    All that is trained on is sorted once, so that thousands of tasks can be held against each
    other.
    """
    trained = {task: np.unique(found) for (task, split), found in keys.items() if split == "train"}
    names = list(trained)
    owners = np.repeat(np.arange(len(names)), [len(found) for found in trained.values()])
    seen: Keys = np.concatenate([np.empty(0, np.uint64), *trained.values()])
    order = np.argsort(seen, kind="stable")
    seen, owners = seen[order], owners[order]
    found = []
    for (task, split), held in keys.items():
        if split == "train":
            continue
        first, last = (np.searchsorted(seen, held, side) for side in ("left", "right"))
        hits = last - first
        places = np.repeat(first - np.cumsum(hits) + hits, hits) + np.arange(hits.sum())
        rows = np.bincount(owners[places], minlength=len(names))
        found += [
            {"task": task, "split": split, "trained_in": names[i], "rows": int(rows[i]), "of": len(held)}
            for i in np.flatnonzero(rows)
            if names[i] != task
        ]
    return found


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
