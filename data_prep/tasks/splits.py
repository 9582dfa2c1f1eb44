"""Which rows become train, validation and test: as their files say, and by hash of content where they do not say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data_prep.config import Split, Task
from raytrain_core.errors import DataError
from raytrain_core.hashing import content_key, unit


@dataclass(frozen=True, slots=True)
class Splitter:
    """Where a row goes, by the split its file has: shares in the order of the splits, summing to 1."""

    shares: Mapping[Split | None, tuple[tuple[Split, float], ...]]
    """A file's split that is not here is not read."""
    rule: str
    """The same in words, for the manifest."""

    def split(self, file_split: Split | None, text: str) -> Split:
        """The split of a row with the input `text`; equal inputs go the same way, in every task."""
        shares = self.shares[file_split]
        if len(shares) > 1:
            point = unit(content_key("split", text))
            for split, share in shares[:-1]:
                if point < share:
                    return split
                point -= share
        return shares[-1][0]


def splitter_of(task: Task, told: Iterable[Split | None]) -> Splitter:
    """How the rows of a task are divided, given the splits that its files have; DataError if that leaves a hole.

    A trained task needs all three, a probe validation and test. What lacks is taken by hash: from
    the only split there is, validation or test from train, for a probe each of validation and test
    from the other.
    """
    splits = set(told)
    validation, test = task.split.validation, task.split.test
    if task.probe:
        if len(splits) > 1:
            splits.discard("train")  # never trained on, so not needed where there is something else
        if splits == {"validation", "test"}:
            return Splitter(_as_told("validation", "test"), "as the files say")
        half = validation / (validation + test) if validation + test else 0.5
        only = splits.pop()
        rule = f"the rows of {only or 'the source'} divided by hash: {half:.0%} validation, {1 - half:.0%} test"
        return Splitter({only: (("validation", half), ("test", 1 - half))}, rule)
    if len(splits) == 1:
        parts: tuple[tuple[Split, float], ...] = (("validation", validation), ("test", test))
        rule = f"divided by hash: {validation:.1%} validation, {test:.1%} test"
        return Splitter({splits.pop(): (*parts, ("train", 1 - validation - test))}, rule)
    if "train" not in splits:
        raise DataError(
            f"task {task.name}: there are validation and test rows but none to train on",
            hint="Add a train split, or make it a probe (probe: true).",
        )
    if splits == {"train", "test"}:
        shares = _as_told("test") | {"train": (("validation", validation), ("train", 1 - validation))}
        return Splitter(shares, f"as the files say; validation by hash: {validation:.1%} of train")
    if splits == {"train", "validation"}:
        shares = _as_told("validation") | {"train": (("test", test), ("train", 1 - test))}
        return Splitter(shares, f"as the files say; test by hash: {test:.1%} of train")
    return Splitter(_as_told("train", "validation", "test"), "as the files say")


def needed_splits(task: Task) -> tuple[Split, ...]:
    """The splits that must not be empty."""
    return ("validation", "test") if task.probe else ("train", "validation", "test")


def _as_told(*splits: Split) -> dict[Split | None, tuple[tuple[Split, float], ...]]:
    return {split: ((split, 1.0),) for split in splits}
