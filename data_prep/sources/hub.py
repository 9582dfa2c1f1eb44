"""Data sets of the Hugging Face hub as sources: hf://name[:config][@revision]."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.config import Format, Split
from data_prep.sources.compression import LONGEST_ROW
from data_prep.sources.file_names import split_of_name
from data_prep.sources.plugins import short
from data_prep.sources.read_as import ReadAs
from data_prep.sources.shapes import in_shape
from data_prep.sources.source_row import SourceRow, too_long
from data_prep.sources.spans import WHOLE, Span
from data_prep.sources.undivided import Undivided
from raytrain_core.errors import DataError, UsageError

_URI = re.compile(
    r"hf://(?:datasets/)?(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[^@:]+))?(?:@(?P<revision>[^@]+))?/?"
)
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class HubSplit(Undivided):
    """One split of a data set on the hub, at one commit."""

    dataset: str
    config: str | None
    commit: str
    hub_split: str
    split: Split | None
    shape: Format | None = None
    """Shape of its rows, if it is one of `shapes`."""

    @property
    def read_as(self) -> ReadAs:
        """As rows of named values, in their shape."""
        return ReadAs("jsonl", self.shape)

    @property
    def name(self) -> str:
        """hf://name:config@commit/split."""
        config = f":{self.config}" if self.config else ""
        return f"hf://{self.dataset}{config}@{self.commit[:12]}/{self.hub_split}"

    @property
    def fingerprint(self) -> str:
        """Data set, commit and split; a commit never changes."""
        return f"hf:{self.dataset}:{self.config}:{self.commit}:{self.hub_split}"

    def sha256(self, scratch: Path) -> str:
        """Returns the hash of the fingerprint, which stands for the contents."""
        return hashlib.sha256(self.fingerprint.encode()).hexdigest()

    def rows(self, scratch: Path, span: Span = WHOLE) -> Iterator[SourceRow]:
        """Yields every row, streamed, with class labels by name instead of number."""
        return self._rows() if self.shape is None else in_shape(self._rows(), self.shape)

    def _rows(self) -> Iterator[SourceRow]:
        import datasets

        try:
            data = datasets.load_dataset(
                self.dataset, self.config, split=self.hub_split, revision=self.commit, streaming=True
            )
            features = dict(data.features or {})
            for number, row in enumerate(data, 1):
                if characters(row, LONGEST_ROW) > LONGEST_ROW:
                    yield SourceRow(number, None, too_long())
                else:
                    yield SourceRow(number, {key: _named(features.get(key), value) for key, value in row.items()})
        except DataError:
            raise
        except Exception as error:  # the hub, its client or the data set's format may raise anything
            raise DataError(f"{self.name}: cannot be read ({short(error)})") from None

    def count(self, scratch: Path) -> int | None:
        """Returns None: unknown before reading."""
        return None


def hub_splits(uri: str, where: str, shape: Format | None = None) -> list[HubSplit]:
    """Returns the splits of a data set at the current commit of its revision.

    Raises DataError if unreachable.
    """

    match = _URI.fullmatch(uri)
    if match is None:
        raise UsageError(f"{where}: {uri} is not a data set", hint="Write hf://name[:config][@revision].")
    name, config, revision = match["name"], match["config"], match["revision"]
    import datasets
    import huggingface_hub

    info = _ask(lambda: huggingface_hub.HfApi().dataset_info(name, revision=revision, timeout=_SECONDS), uri, where)
    name, commit = str(info.id), str(info.sha)  # `squad` is now rajpurkar/squad; other requests need that name
    splits = _ask(lambda: datasets.get_dataset_split_names(name, config, revision=commit), uri, where)
    found = [HubSplit(name, config, commit, split, split_of_name(split), shape) for split in splits]
    # A data set may have further splits (unsupervised, ...): if any has a known name, only those
    # count.
    return [split for split in found if split.split] or found


def _ask(request: Callable[[], Any], uri: str, where: str) -> Any:
    try:
        return request()
    except Exception as error:  # of three libraries and their connections
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        raise DataError(
            f"{where}: {uri} cannot be read from the hub ({short(error)})",
            hint="HF_HUB_OFFLINE is set."
            if offline
            else "Check the name, and whether the hub is reachable (HF_ENDPOINT).",
        ) from None


def characters(value: Any, enough: int) -> int:
    """Counts characters and bytes in `value` at any depth, plus one for each nested value.

    Stops counting above `enough`.
    """
    if isinstance(value, str | bytes):
        return len(value)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    count = 0
    for one in inside:
        count += characters(one, enough) + 1
        if count > enough:
            break
    return count


def _named(feature: Any, value: Any) -> Any:
    """Replaces numbers of class labels by their names."""
    if value is None or feature is None:
        return value
    if hasattr(feature, "int2str"):
        return feature.int2str(value) if isinstance(value, int) and value >= 0 else None
    inner = getattr(feature, "feature", None)
    if inner is not None and isinstance(value, list):
        return [_named(inner, one) for one in value]
    if isinstance(feature, dict) and isinstance(value, dict):
        return {key: _named(feature.get(key), one) for key, one in value.items()}
    return value
