"""Fields of a task: its columns, answers, templates and rows."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from data_prep.config.row_conditions import compile_condition
from data_prep.config.source import Source
from data_prep.config.unused_settings import refuse_unused
from raytrain_core.config.base import SpecModel

NAME_PATTERN = r"^[a-z][-a-z0-9]{0,39}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

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


def _valid_condition(condition: str) -> str:
    compile_condition(condition)
    return condition


def _contains_target_once(answer: str) -> str:
    if answer.count("{target}") != 1:
        raise ValueError("must contain {target} exactly once")
    return answer


class Columns(SpecModel):
    """Which columns of a row are used, and for what."""

    input: str = Field(default="input", description="Column with the input text.")
    target: str = Field(
        default="target",
        description=(
            "Column with the expected answer; a list holds several references, of which the first is trained on. "
            "`a|b` (here and in every other column) takes whichever of the two columns a row has."
        ),
    )
    references: list[str] = Field(
        default_factory=list,
        description="Columns with additional references, each a text or a list; they may be empty.",
        examples=["[second_summary, third_summary]"],
    )
    tokens: str | None = Field(
        default=None,
        description=("For ner: column with the list of tokens, used together with `tags` instead of input and target."),
    )
    tags: str | None = Field(
        default=None,
        description=("For ner: column with the list of BIO tags of `tokens`; `labelNames` translates numeric tags."),
    )
    choices: str | None = Field(
        default=None,
        description=(
            "For multiple-choice: column with the list of choices (in CSV: as JSON), or with a mapping that has "
            "the lists text and label. The target is a choice's text, label, letter, or 0-based number."
        ),
    )
    id: str | None = Field(
        default=None,
        description=(
            "Column with a row's identifier; by default a hash of its content. Repeated identifiers within a "
            "split are numbered: q7, q7-2, ..."
        ),
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tokens is None) != (self.tags is None):
            raise ValueError("tokens and tags belong together: map both or none")
        return self


class SplitFractions(SpecModel):
    """How to divide the rows of a source that has only one split: by a hash of their content."""

    validation: float = Field(default=0.05, ge=0, lt=1, description="Share of rows for validation.")
    test: float = Field(default=0.05, ge=0, lt=1, description="Share of rows for test.")

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be less than 1")
        return self


class Mask(SpecModel):
    """Personal data to replace by placeholders such as [EMAIL_1] before anything is stored."""

    kinds: list[Literal["email", "phone", "card"]] = Field(
        default_factory=list,
        description=(
            "Built-in kinds, recognized by their form; card numbers must also be an issuer's and have a valid check "
            "digit (Luhn), phone numbers follow a word such as call or must be valid in the plan of their country."
        ),
    )
    phone_regions: list[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]] = Field(
        default=["US", "GB", "DE", "FR"],
        description=(
            "Countries (ISO 3166) in one of which a phone number without a country code must be valid; those with one "
            "are found for all countries."
        ),
        examples=["[IN, US]"],
    )
    patterns: dict[Name, str] = Field(
        default_factory=dict,
        description=(
            "Custom kinds: a name, shown in capitals in the placeholder, and a Python regular expression. They "
            "are applied before `kinds`, in this order."
        ),
        examples=["{order: 'ORD-[0-9]{6}'}"],
    )

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if not self.kinds and not self.patterns:
            raise ValueError("nothing to mask: give kinds or patterns")
        for name, pattern in self.patterns.items():
            try:
                found = re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"patterns.{name} is not a valid regular expression: {error}") from None
            if found.search("") is not None:
                raise ValueError(f"patterns.{name} matches the empty string: {pattern!r}")
        return self


Marks = Literal["BIO", "IOBES", "BILOU", "BMES", "BMEWO", "types"]


class TagScheme(SpecModel):
    """How the tags of a ner column are spelled; by default that is found over the whole column."""

    marks: Marks = Field(
        default="BIO", description="The marks of the tags; types: tags are entity types without marks."
    )
    position: Literal["before", "behind"] = Field(
        default="before", description="Where the mark stands: before the type (B-PER) or behind it (PER-B)."
    )
    separator: str = Field(default="-", max_length=3, description="Text between mark and type.")
    any_case: bool = Field(default=False, description="Marks may be in lower case too (b-per).")
    outside: list[str] = Field(
        default=["O", ""], min_length=1, description="Tags of tokens outside entities.", examples=["[O, '0']"]
    )
    type: str | None = Field(default=None, description="Type of entities whose tags are marks alone (B, I, O).")


class FewShot(SpecModel):
    """Few-shot prompts: some training prompts first show other, solved training rows."""

    share: float = Field(
        default=0.1, gt=0, le=1, description="Share of training prompts that get shots; chosen by the mixture seed."
    )
    examples: int = Field(
        default=2,
        ge=1,
        le=8,
        description="Number of shots; fewer if they do not fit into maxInputTokens together with the row.",
    )


class Task(SpecModel):
    """A named source of rows with its type, templates and answer format."""

    name: Name = Field(description="Name of the task, unique in the job; used in scores and reports.")
    type: TaskType = Field(description="Type of the task; provides templates, answer format and metrics.")
    source: Source = Field(description="Where the rows come from.")
    columns: Columns = Field(default_factory=Columns, description="Which columns of a row are used, and for what.")
    transform: str | None = Field(
        default=None,
        description=(
            "Name of a function in an installed package (an entry point of raytrain.rows). It takes each row as "
            "read from the source, and returns the row to use, or None to drop it."
        ),
    )
    where: Annotated[str, AfterValidator(_valid_condition)] | None = Field(
        default=None,
        description=(
            "Only rows that fulfil this condition are used. It may use columns, comparisons, in, and, or, not, "
            'len(), lower(), numbers, texts and lists; write row["odd name"] for a column whose name is not an '
            "identifier."
        ),
        examples=["stars != 3 and len(text) < 2000", "language in ['en', 'de']"],
    )
    mask: Mask | None = Field(
        default=None, description="Personal data to replace in all used text; replacements are counted by kind."
    )
    templates: list[Annotated[str, StringConstraints(min_length=1, max_length=4000)]] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description=(
            "Instruction templates, each with {input} and optionally keys of `fields`; they replace those of the "
            "task type."
        ),
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Values for additional placeholders in the templates, e.g. {from: Java, to: Python} for code-translation."
        ),
    )
    few_shot: FewShot | None = Field(
        default=None,
        description=(
            "Adds solved examples to some training prompts, in the same template. Validation and test rows never "
            "get any, so scores stay comparable."
        ),
    )
    target_format: Annotated[str, AfterValidator(_contains_target_once)] | None = Field(
        default=None,
        description=(
            "How an answer is written, with {target} exactly once, e.g. 'Rating: {target}'. The text around it is "
            "learned too, and removed before an answer is scored."
        ),
    )
    templates_per_example: int = Field(
        default=3,
        ge=1,
        le=100,
        description=(
            "Number of templates prepared for each training example; each repetition of an example uses the next one."
        ),
    )
    labels: list[str] | None = Field(
        default=None,
        description=(
            "The allowed answers. Default: 1 to 5 for rating, negative and positive for sentiment; for ner, the "
            "entity types. Rows with other answers are bad rows. If no label is a number, a number in a row is "
            "the 0-based index of a label."
        ),
    )
    label_names: dict[str, str] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Meaning of the source's labels (or ner tags), e.g. {0: negative, 1: positive}; without `labels` "
            "these are the allowed answers. Rows with other labels are bad rows."
        ),
    )
    tag_scheme: TagScheme | None = Field(
        default=None,
        description=(
            "For ner: how the tags are spelled, e.g. {marks: IOBES, position: behind, separator: _}. By default it "
            "is found over the whole column and recorded; a column with two spellings is refused."
        ),
    )
    number_choices: Literal["text", "from-0", "from-1"] | None = Field(
        default=None,
        description=(
            "For multiple-choice: what a number as the target means: the text of a choice, or its place counted from "
            "0 or from 1. By default that is found over the whole column; if two meanings fit, the column is refused."
        ),
    )
    whole_numbers: Literal["detect", "as-written"] = Field(
        default="detect",
        description=(
            "What becomes of whole numbers written with `.0` in targets, references and ids, such as pandas makes of "
            "whole numbers in a column with gaps. detect: written without `.0` if every number of the column is "
            "whole, which is told; as-written: `1.0` stays `1.0`."
        ),
    )
    split: SplitFractions = Field(
        default_factory=SplitFractions, description="How to divide the rows of a source that has only one split."
    )
    limit: int | None = Field(default=None, ge=1, description="Maximum number of rows per split.")
    near_twins: Literal["keep", "drop"] = Field(
        default="keep",
        description=(
            "What to do with validation and test rows whose input equals that of a training row of the task or shares "
            "at least half of its eight-word sequences with one: keep marks them, and the report also gives the score "
            "without them; drop leaves them out."
        ),
    )
    on_bad_row: Literal["fail", "skip"] = Field(
        default="fail",
        description=(
            "What to do with a bad row, which is reported with file, line and reason: fail ends preparation, skip "
            "leaves the row out."
        ),
    )
    bad_row_limit: int = Field(
        default=1000, ge=0, description="With onBadRow: skip, the maximum number of bad rows tolerated."
    )
    probe: bool = Field(
        default=False,
        description=("A probe is scored before and after but never trained on: it shows what the model forgets."),
    )
    metrics: list[str] | None = Field(
        default=None, description="Metrics instead of those of the task type; the first is the primary metric."
    )

    @model_validator(mode="after")
    def _each_has_an_effect(self) -> Self:
        if self.probe and self.few_shot is not None:
            raise ValueError("a probe has no training rows, so fewShot does not apply")
        refuse_unused(self, "Task")
        return self
