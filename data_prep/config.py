"""Pydantic models of sources, tasks and mixture: the one definition of their fields.

Field names are camelCase in the job and snake_case in Python. Every field carries a
description: `raytrain explain`, the JSON Schema and the reference documentation are generated from
them.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from data_prep.conditions import compile_condition
from raytrain_core.config.base import SpecModel

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][-a-z0-9]{0,39}$")]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

TaskType = Literal[
    "summarization",
    "rating",
    "sentiment",
    "ner",
    "translation",
    "code-translation",
    "multiple-choice",
    "question-answering",
    "text",
]


def _understood(condition: str) -> str:
    compile_condition(condition)
    return condition


def _one_target(answer: str) -> str:
    if answer.count("{target}") != 1:
        raise ValueError("must hold {target} once")
    return answer


class Source(SpecModel):
    """Where the rows of a task come from: one URI, or one URI per split."""

    uri: str | None = Field(
        default=None,
        description=(
            "File, folder or glob of JSONL, CSV, TSV (each also .gz or .zst) or Parquet; s3://... (at "
            "storage.endpoint, if the storage is in s3:// too); or hf://name[:config][@revision]. In a folder (and on "
            "the hub) files are told apart by the words train, validation (or dev, valid) and test in their names. "
            "Relative paths are relative to the job file."
        ),
    )
    splits: dict[Split, str] | None = Field(
        default=None, description="One URI per split, instead of `uri`, e.g. {train: a.jsonl, test: b.jsonl}."
    )
    format: Literal["jsonl", "csv", "tsv", "parquet"] | None = Field(
        default=None, description="Format of the files; by default told by their extension."
    )
    licence: str | None = Field(
        default=None,
        description="Licence of the rows as its owner states it, for the data card, e.g. CC BY 4.0.",
        examples=["CC BY 4.0"],
    )
    reader: str | None = Field(
        default=None,
        description=(
            "For anything odd: name of a function in an installed package (an entry point of raytrain.readers) that "
            "takes the URI, or the absolute path of each file, and gives rows. A reader with the name of a scheme "
            "(`jira`) reads the URIs of that scheme (jira://...) without being named."
        ),
    )

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.uri is None) == (self.splits is None):
            raise ValueError("give either uri or splits")
        return self


class Columns(SpecModel):
    """Which columns of a row are what. `input` and `target` unless said otherwise."""

    input: str = Field(default="input", description="Column with the text that the task works on.")
    target: str = Field(
        default="target",
        description=(
            "Column with the wished answer; a list holds several references, the first is trained on. "
            "`a|b` (here and in every other column) is whichever of the two a row has."
        ),
    )
    references: list[str] = Field(
        default_factory=list,
        description="Further columns with references, each a text or a list; a row may leave them empty.",
        examples=["[second_summary, third_summary]"],
    )
    tokens: str | None = Field(
        default=None,
        description="For ner: column with a list of tokens, together with `tags`, instead of input/target.",
    )
    tags: str | None = Field(
        default=None,
        description="For ner: column with the list of BIO tags of `tokens`; numbers get their names by `labelNames`.",
    )
    choices: str | None = Field(
        default=None,
        description=(
            "For multiple-choice: column with the list of choices (in CSV: as JSON), or a mapping of lists text and "
            "label. The target is a choice's text, its label, its letter, or its number counted from 0."
        ),
    )
    id: str | None = Field(
        default=None,
        description=(
            "Column with a row's identifier; by default a hash of its content. A row whose identifier the split has "
            "already gets the number of the occurrence appended: q7, q7-2, ..."
        ),
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tokens is None) != (self.tags is None):
            raise ValueError("tokens and tags belong together: map both or none")
        return self


class SplitFractions(SpecModel):
    """How rows are divided where a source has one split only: by hash of their content."""

    validation: float = Field(default=0.05, ge=0, lt=1, description="Share of the rows for validation.")
    test: float = Field(default=0.05, ge=0, lt=1, description="Share of the rows for test.")

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must stay below 1")
        return self


class Mask(SpecModel):
    """Personal data that is replaced by placeholders such as [EMAIL_1] before anything is stored."""

    kinds: list[Literal["email", "phone", "card"]] = Field(
        default_factory=list,
        description="What is found by its form; a card's number must also end in the right check digit (Luhn).",
    )
    patterns: dict[Name, str] = Field(
        default_factory=dict,
        description=(
            "Own kinds: a name, which the placeholder shows in capitals, and a regular expression (Python's). "
            "They come before `kinds`, in the order of the job."
        ),
        examples=["{order: 'ORD-[0-9]{6}'}"],
    )

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if not self.kinds and not self.patterns:
            raise ValueError("masks nothing: give kinds or patterns")
        for name, pattern in self.patterns.items():
            try:
                found = re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"patterns.{name} is no regular expression: {error}") from None
            if found.search("") is not None:
                raise ValueError(f"patterns.{name} also fits where there is nothing: {pattern!r}")
        return self


class FewShot(SpecModel):
    """Training prompts that show some other training rows, with their answers, before the row that is asked."""

    share: float = Field(
        default=0.1, gt=0, le=1, description="Share of the training prompts that get shots; which ones, the seed says."
    )
    examples: int = Field(
        default=2,
        ge=1,
        le=8,
        description="How many shots, as far as they fit into maxInputTokens together with the row.",
    )


class Task(SpecModel):
    """A named source of rows with its type, its wordings and its answer format."""

    name: Name = Field(description="Name of the task, unique in the job; scores and reports use it.")
    type: TaskType = Field(description="What kind of task it is: brings wordings, answer format and metrics.")
    source: Source = Field(description="Where the rows come from.")
    columns: Columns = Field(default_factory=Columns, description="Which columns of a row are what.")
    transform: str | None = Field(
        default=None,
        description=(
            "Name of a function in an installed package (an entry point of raytrain.rows) that takes each row as its "
            "source has it and gives the row to use, or None to leave it out."
        ),
    )
    where: Annotated[str, AfterValidator(_understood)] | None = Field(
        default=None,
        description=(
            "Condition that a row must fulfil to be used, over its columns: comparisons, in, and, or, not, len(), "
            'lower(), numbers, texts, lists; row["odd name"] is a column whose name is no word.'
        ),
        examples=["stars != 3 and len(text) < 2000", "language in ['en', 'de']"],
    )
    mask: Mask | None = Field(
        default=None, description="Personal data to replace in everything that is used of a row; counted by kind."
    )
    templates: list[Annotated[str, StringConstraints(min_length=1, max_length=4000)]] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description=(
            "Wordings of the instruction, each with {input} and, where it helps, keys of `fields`; "
            "instead of those that the task type brings."
        ),
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        description="Values for further places in the wordings, e.g. {from: Java, to: Python} for code-translation.",
    )
    few_shot: FewShot | None = Field(
        default=None,
        description=(
            "Shots in some training prompts, in the wording of the row itself. Validation and test rows get none: "
            "their scores stay comparable."
        ),
    )
    target_format: Annotated[str, AfterValidator(_one_target)] | None = Field(
        default=None,
        description=(
            "How an answer is written, with {target} in it once, e.g. 'Rating: {target}'. What stands around it is "
            "learned too, and taken off before an answer is scored."
        ),
    )
    templates_per_example: int = Field(
        default=3,
        ge=1,
        le=100,
        description="How many wordings of each training example are prepared; repeat r of an example takes the next.",
    )
    labels: list[str] | None = Field(
        default=None,
        description=(
            "The allowed answers: for rating 1 to 5 by default, for sentiment negative and positive, for ner the types "
            "of entities. A row with another one is a bad row. If none of them is a number, a number in a row is the "
            "label at that place, counted from 0."
        ),
    )
    label_names: dict[str, str] | None = Field(
        default=None,
        min_length=1,
        description=(
            "What the source's labels (or ner tags) mean, e.g. {0: negative, 1: positive}; "
            "without `labels` these are the allowed answers. A row with another one is a bad row."
        ),
    )
    split: SplitFractions = Field(
        default_factory=SplitFractions, description="How rows are divided where the source has one split only."
    )
    limit: int | None = Field(default=None, ge=1, description="At most this many rows of each split.")
    on_bad_row: Literal["fail", "skip"] = Field(
        default="fail", description="Whether a bad row (named by file, line, reason) ends preparation or is left out."
    )
    bad_row_limit: int = Field(
        default=1000, ge=0, description="With onBadRow: skip, how many bad rows are borne before preparation ends."
    )
    probe: bool = Field(
        default=False, description="Scored before and after but never trained on: it shows what is forgotten."
    )
    metrics: list[str] | None = Field(
        default=None, description="Names of metrics instead of those of the task type, the first is the headline."
    )

    @model_validator(mode="after")
    def _shots_of_something(self) -> Self:
        if self.probe and self.few_shot is not None:
            raise ValueError("a probe has no training rows: fewShot is for tasks that are trained")
        return self


class MixtureStrategy(SpecModel):
    """How some tasks share the examples that they have together."""

    strategy: Literal["proportional", "temperature", "weights", "equal"] = Field(
        default="proportional",
        description=(
            "proportional: by number of training examples, at most `cap` counted; temperature: proportional, "
            "raised to 1/`temperature`; weights: as given; equal: the same for each task."
        ),
    )
    cap: int | None = Field(default=None, ge=1, description="Examples of one task counted at most (T5's K).")
    temperature: float = Field(default=2.0, gt=0, description="For temperature: 1 is proportional, large is equal.")
    weights: dict[str, float] | None = Field(default=None, description="For weights: a positive weight for every task.")

    @model_validator(mode="after")
    def _weights_where_asked(self) -> Self:
        if (self.strategy == "weights") != (self.weights is not None):
            raise ValueError("strategy: weights and the field weights belong together")
        if self.weights is not None and any(not w > 0 for w in self.weights.values()):
            raise ValueError("every weight must be positive; leave the task out or make it a probe instead")
        return self


class MixtureGroup(MixtureStrategy):
    """A mixture inside the mixture: tasks with one rate together, which they share by a strategy of their own."""

    name: Name = Field(description="Name of the group, unique in the mixture.")
    rate: float = Field(gt=0, description="Its part of the mixture, relative to the rates of the other groups.")
    tasks: list[Name] = Field(min_length=1, description="Names of its tasks; a task is in one group.")


class Replay(MixtureStrategy):
    """Tasks from what the model was taught before, mixed back in against forgetting; they share by a strategy too."""

    share: float = Field(gt=0, lt=1, description="Part of all examples that these tasks get together, e.g. 0.2.")
    tasks: list[Name] = Field(
        min_length=1, description="Names of trained tasks; all others divide the rest as the mixture says."
    )


class Mixture(MixtureStrategy):
    """In which shares the tasks are mixed. Probes have no share."""

    groups: list[MixtureGroup] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Nested mixtures, e.g. [{name: chats, rate: 3, tasks: [a, b]}, {name: code, rate: 1, tasks: [c], "
            "strategy: equal}]: every trained task that is not replayed is in one of them, and strategy, cap, "
            "temperature and weights stand in each group instead of here."
        ),
    )
    replay: Replay | None = Field(
        default=None,
        description=(
            "Part of the training that goes over earlier tasks again: the known remedy against forgetting, "
            "e.g. {share: 0.2, tasks: [flan]}."
        ),
    )
    seed: int = Field(default=17, ge=0, lt=2**63, description="Seed of the order of examples and of their wordings.")

    @model_validator(mode="after")
    def _groups_share_themselves(self) -> Self:
        if self.groups is None:
            return self
        names = [group.name for group in self.groups]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two groups are named {', '.join(double)}")
        fields = ("strategy", "cap", "temperature", "weights")
        if any(getattr(self, field) != MixtureStrategy.model_fields[field].default for field in fields):
            raise ValueError("with groups, strategy, cap, temperature and weights stand in each group")
        return self
