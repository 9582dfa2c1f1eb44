"""Fields of a source: where rows come from, and how their files are written."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from data_prep.config.unused_settings import refuse_unused
from raytrain_core.config.base import SpecModel, problem_text
from raytrain_core.errors import UsageError
from raytrain_core.storage.uri import check_source_uri

Split = Literal["train", "validation", "test"]
Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "conll", "messages", "sharegpt", "alpaca", "squad"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def _one_character(text: str) -> str:
    if text == "none":
        return text
    text = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(text) != 1 or text in "\r\n\0 " or not text.isascii():
        raise ValueError("must be one character, tab or none")
    return text


def _delimiter(text: str) -> str:
    if text in ("none", '"', "\\"):
        raise ValueError("must be one character or tab")
    return _one_character(text)


def _known_encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
    except LookupError:
        raise ValueError(f"{name} is not a known encoding") from None
    if not found._is_text_encoding:
        raise ValueError(f"{name} is not an encoding of text")
    return found.name


class CsvOptions(SpecModel):
    """How a CSV or TSV file is written, where that should not be detected."""

    delimiter: Annotated[str, AfterValidator(_delimiter)] | None = Field(
        default=None,
        description="What divides the fields, by default what the whole file agrees with; `tab` is a tab.",
        examples=[";", "tab"],
    )
    quote: Annotated[str, AfterValidator(_one_character)] | None = Field(
        default=None,
        description=(
            "What encloses fields, or `none`. By default a quotation mark in CSV, and in TSV only if the file shows "
            "that it quotes."
        ),
        examples=['"', "none"],
    )
    escape: Annotated[str, AfterValidator(_one_character)] | None = Field(
        default=None,
        description=(
            "What stands before a quotation mark that is text, e.g. a backslash; `none` if such marks are doubled. By "
            "default doubled, or a backslash if only that makes sense of the file (as Spark and MySQL write)."
        ),
        examples=["\\", "none"],
    )
    encoding: Annotated[str, AfterValidator(_known_encoding)] | None = Field(
        default=None,
        description="Encoding, e.g. cp1252; by default UTF-8, or UTF-16 and UTF-32 if the file begins so.",
        examples=["cp1252", "utf-16"],
    )
    header: list[str] | None = Field(
        default=None, min_length=1, description="Names of the columns, for files that do not begin with them."
    )


class Source(SpecModel):
    """Where the rows of a task come from: one URI, or one URI per split."""

    uri: str | None = Field(
        default=None,
        description=(
            "A file, folder or glob of JSONL, CSV, TSV (plain, .gz, .zst, .bz2, .xz or .lz4) or Parquet files; "
            "s3://..., gs://... or az://... (read at storage.endpoint if the storage is in the same cloud); or "
            "hf://name[:config][@revision] on the Hugging Face hub. In folders and on the hub, the split is taken "
            "from the words train, validation (or dev, valid) and test in file names. Relative "
            "paths are relative to the job file."
        ),
    )
    splits: dict[Split, str] | None = Field(
        default=None, description="One URI per split, instead of `uri`, e.g. {train: a.jsonl, test: b.jsonl}."
    )
    format: Format | None = Field(
        default=None,
        description=(
            "Format of the files; by default inferred from the file extension. messages (OpenAI), sharegpt, alpaca and "
            "squad are rows of that shape in JSON Lines, JSON or Parquet; they give the columns input and target. "
            "conll gives tokens and tags: a token a line, its tag last, a blank line between sentences."
        ),
    )
    csv: CsvOptions | None = Field(
        default=None, description="How CSV and TSV files are written; by default detected over each whole file."
    )
    licence: str | None = Field(
        default=None,
        description="Licence of the data as stated by its owner, for the data card, e.g. CC BY 4.0.",
        examples=["CC BY 4.0"],
    )
    reader: str | None = Field(
        default=None,
        description=(
            "Custom reader: name of a function in an installed package (an entry point of raytrain.readers). It "
            "takes the URI, or the absolute path of each file, and yields rows. A reader named after a URI scheme "
            "(`jira`) reads that scheme's URIs (jira://...) without being named here."
        ),
    )

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.uri is None) == (self.splits is None):
            raise ValueError("give either uri or splits")
        for uri in [self.uri] if self.uri is not None else (self.splits or {}).values():
            try:
                check_source_uri(uri, has_reader=self.reader is not None)
            except UsageError as error:
                raise ValueError(problem_text(error)) from None
        refuse_unused(self, "Source")
        return self
