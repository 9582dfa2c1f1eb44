"""Divides rows into train, validation and test: by their files, else by a hash of their content."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data_prep.config import Split, Task
from raytrain_core.errors import DataError
from raytrain_core.hashing import content_key, unit


@dataclass(frozen=True, slots=True)
class Splitter:
    """Assigns rows to splits."""

    shares: Mapping[Split | None, tuple[tuple[Split, float], ...]]
    """By the split of a file: the splits its rows go to, with shares summing to 1.

    Other files are not read.
    """
    rule: str
    """The rule in words, for manifest and messages."""

    def split(self, file_split: Split | None, text: str) -> Split:
        """Returns the split of a row with the input `text`.

        Equal inputs get the same split in every task.
        """
        shares = self.shares[file_split]
        if len(shares) > 1:
            point = unit(content_key("split", text))
            for split, share in shares[:-1]:
                if point < share:
                    return split
                point -= share
        return shares[-1][0]


def splitter_of(task: Task, file_splits: Iterable[Split | None]) -> Splitter:
    """Returns how the rows of a task are divided, given the splits of its files.

    A trained task needs all three splits, a probe validation and test. A missing split is taken by
    hash from train, or from all rows if no file names a split; for a probe, validation and test
    from each other. Raises DataError if there is nothing to train on: rows that their files call
    test or validation are never divided and trained on.
    """
    splits = set(file_splits)
    validation, test = task.split.validation, task.split.test
    if task.probe:
        if len(splits) > 1:
            splits.discard("train")  # a probe is never trained on, so train is needed only if there is nothing else
        if splits == {"validation", "test"}:
            return Splitter(_by_file("validation", "test"), "according to the files")
        half = validation / (validation + test) if validation + test else 0.5
        only = splits.pop()
        rule = f"the rows of {only or 'the source'} divided by hash: {half:.0%} validation, {1 - half:.0%} test"
        return Splitter({only: (("validation", half), ("test", 1 - half))}, rule)
    if "train" not in splits and splits != {None}:
        held = " and ".join(split for split in ("validation", "test") if split in splits)
        raise DataError(
            f"task {task.name}: has {held} rows but none to train on",
            hint="Add a train split, make it a probe (probe: true), or say that these rows may be trained on "
            "and divided: source.splits: {train: ...}.",
        )
    if len(splits) == 1:
        parts: tuple[tuple[Split, float], ...] = (("validation", validation), ("test", test))
        rule = f"divided by hash: {validation:.1%} validation, {test:.1%} test"
        return Splitter({splits.pop(): (*parts, ("train", 1 - validation - test))}, rule)
    if splits == {"train", "test"}:
        shares = _by_file("test") | {"train": (("validation", validation), ("train", 1 - validation))}
        return Splitter(shares, f"according to the files; validation by hash: {validation:.1%} of train")
    if splits == {"train", "validation"}:
        shares = _by_file("validation") | {"train": (("test", test), ("train", 1 - test))}
        return Splitter(shares, f"according to the files; test by hash: {test:.1%} of train")
    return Splitter(_by_file("train", "validation", "test"), "according to the files")


def needed_splits(task: Task) -> tuple[Split, ...]:
    """Returns the splits that must not be empty."""
    return ("validation", "test") if task.probe else ("train", "validation", "test")


def _by_file(*splits: Split) -> dict[Split | None, tuple[tuple[Split, float], ...]]:
    return {split: ((split, 1.0),) for split in splits}
