"""Work units: up to 20,000 examples of a split with all that determines the parts made of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from data_prep.config import Split
from data_prep.shards.blocks import Segment
from data_prep.shards.manifest import PartPair, PartRef
from data_prep.shards.settings import PrepLimits
from data_prep.shards.split_statistics import SplitStatistics
from data_prep.tally import Tally
from data_prep.tasks.examples import Example
from data_prep.text.few_shot import Shots
from data_prep.text.templates import Template
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class PrepSpec:
    """How the examples of a task are rendered and tokenised."""

    task: str
    digest: str
    """Of everything that determines the task's shards."""
    templates: tuple[Template, ...]
    templates_per_example: int
    seed: int
    tokenizer: Tokenizer
    limits: PrepLimits
    shots: Shots | None = None
    """For training prompts."""

    def variants_of(self, split: Split) -> int:
        """Returns how many templates each example is rendered with: outside training, one."""
        return min(self.templates_per_example, len(self.templates)) if split == "train" else 1


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Consecutive examples of a split, from which one part a variant is made.

    Any process makes the same parts of it. Row ids are unique in the split already. With
    `overwrite`, everything is made and stored again, which repairs damaged objects.
    """

    spec: PrepSpec
    split: Split
    number: int
    """Of the unit in its split."""
    start: int
    """Number of its first example in the split."""
    examples: list[Example]
    store: Store
    overwrite: bool = False
    kind: str = ""
    """Set if it holds only some of the unit's examples."""

    @property
    def key(self) -> str:
        """Where the parts made of the unit are recorded."""
        return f"{units_prefix(self.spec.digest)}{self.split}-{self.number:06d}{self.kind}.json"


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """A work unit whose examples are still where they were read; pickles."""

    spec: PrepSpec
    split: Split
    number: int
    start: int
    rows: int
    """Number of its examples."""
    segments: Sequence[Segment]
    renamed: Mapping[int, str]
    """Ids that rows get in place of their own, which occurred already, by place in the unit."""
    store: Store
    overwrite: bool = False
    left_out: frozenset[int] = frozenset()
    """Examples that have a near-twin in training and are dropped, by place in the unit."""

    def load(self) -> WorkUnit:
        """Returns the unit with its examples."""
        examples = [example for segment in self.segments for example in segment.load()]
        for place, identifier in self.renamed.items():
            examples[place] = replace(examples[place], id=identifier)
        kept = [example for place, example in enumerate(examples) if place not in self.left_out]
        kind = "-without-near-twins" if self.left_out else ""
        return WorkUnit(self.spec, self.split, self.number, self.start, kept, self.store, self.overwrite, kind)


@dataclass(frozen=True, slots=True)
class ShardParts:
    """What was made of a work unit.

    A pair of parts for each variant, the input hashes, and what was counted.
    """

    pairs: tuple[PartPair, ...]
    keys: PartRef
    statistics: SplitStatistics
    tally: Tally
    """What was cut."""

    def all_parts(self) -> list[PartRef]:
        """Returns every object."""
        return [self.keys, *(part for pair in self.pairs for part in (pair.text, pair.tokens))]

    def to_json(self) -> bytes:
        """Returns the record to store."""
        record = {"pairs": [asdict(pair) for pair in self.pairs], "keys": asdict(self.keys)}
        counted = {"statistics": self.statistics.to_json(), "tally": self.tally.to_json()}
        return json.dumps(record | counted).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Reads what `to_json` returned.

        Raises ValueError, KeyError or TypeError for anything else.
        """
        record: dict[str, Any] = json.loads(data)
        pairs = tuple(
            PartPair(pair["rows"], PartRef(**pair["text"]), PartRef(**pair["tokens"])) for pair in record["pairs"]
        )
        statistics, tally = SplitStatistics.from_json(record["statistics"]), Tally.from_json(record["tally"])
        return cls(pairs, PartRef(**record["keys"]), statistics, tally)


def units_prefix(digest: str) -> str:
    """Returns the prefix of the records of finished units, kept until the task is complete."""
    return f"shards/units/{digest}/"
