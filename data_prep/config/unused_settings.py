"""Settings that change nothing beside the others: refused, since somebody meant something.

A value equal to the default is never refused: an API server writes defaults into documents.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

SHAPES = ("messages", "sharegpt", "alpaca", "squad")
"""Formats that say what rows look like, not how the file is written."""

NUMBER_TASKS = ("text", "question-answering")
"""Task types whose targets may be numbers as numbers."""

_NO_CSV = re.compile(r"\.(jsonl|jsonlines|ndjson|ldjson|jl|json|parquet|pq|conll\w*|iob2?|bio)(\.[a-z0-9]+)?$", re.I)


class Unused(NamedTuple):
    """A setting without effect: its place below the task, and why, with what to do."""

    place: tuple[str, ...]
    why: str


def refuse_unused(task: Any, kind: str) -> None:
    """Raises a ValidationError that names the field of every `Unused` of a model."""
    found = list(_CHECKS[kind](task))
    if found:
        # each is reported where it stands in the document
        details = [
            InitErrorDetails(
                type=PydanticCustomError("value_error", "{error}", {"error": one.why}), loc=one.place, input=None
            )
            for one in found
        ]
        raise ValidationError.from_exception_data(kind, details)


def _of_source(source: Any) -> Iterator[Unused]:
    uris = [source.uri] if source.uri is not None else list((source.splits or {}).values())
    hub = bool(uris) and all(uri.startswith("hf://") for uri in uris)
    if source.format is not None and source.reader is not None:
        yield Unused(("format",), "has no effect with reader, whose function gives the rows; leave one of them out")
    elif source.format is not None and source.format not in SHAPES and hub:
        yield Unused(
            ("format",), f"has no effect on hf://, where only the shapes of rows ({', '.join(SHAPES)}) have one"
        )
    if source.csv is None or source.csv == type(source.csv)():
        return
    if source.reader is not None or hub:
        yield Unused(("csv",), "has no effect: these rows are not read from CSV or TSV files; leave it out")
    elif source.format is not None and source.format not in (*SHAPES, "csv", "tsv"):
        yield Unused(("csv",), f"has no effect on format {source.format}; leave it out, or set format: csv")
    elif source.format not in ("csv", "tsv") and uris and all(_NO_CSV.search(uri) for uri in uris):
        yield Unused(("csv",), "has no effect: by their names, the files are not CSV or TSV; leave it out")


def _of_task(task: Any) -> Iterator[Unused]:
    yield from _of_columns(task)
    yield from _of_answers(task)
    if task.mask is not None and "phone" not in task.mask.kinds and _is_set(task.mask, "phone_regions"):
        yield Unused(("mask", "phoneRegions"), "has no effect without the kind phone; add it to kinds, or leave it out")
    if task.on_bad_row == "fail" and _is_set(task, "bad_row_limit"):
        yield Unused(("badRowLimit",), "has no effect: the first bad row ends preparation; set onBadRow: skip")
    if task.probe and task.near_twins == "drop":
        yield Unused(("nearTwins",), "has no effect on a probe, which has no training rows of its own; leave it out")
    yield from _of_templates(task)
    splits = (task.source.splits or {}).keys()
    for name in () if task.probe else ("validation", "test"):
        if {"train", name} <= splits and _is_set(task.split, name):
            yield Unused(("split", name), f"has no effect: source.splits has the {name} rows; leave one of them out")


def _of_templates(task: Any) -> Iterator[Unused]:
    count = len(task.templates or ())
    if 0 < count < task.templates_per_example and _is_set(task, "templates_per_example"):
        yield Unused(
            ("templatesPerExample",),
            f"is more than the number of templates, {count}; write more of them, or set {count} at most",
        )
    text = "".join(task.templates or ())
    for name in task.fields if task.templates is not None else ():
        if f"{{{name}}}" not in text and name not in languages(task):
            yield Unused(("fields", name), f"is used by no template: none contains {{{name}}}")


def languages(task: Any) -> tuple[str, ...]:
    """The fields that name languages: scoring reads them, whether or not a template does."""
    return ("from", "to") if task.type in ("translation", "code-translation") else ()


def _of_columns(task: Any) -> Iterator[Unused]:
    columns = task.columns
    tagged, listed = columns.tokens is not None, columns.choices is not None
    if tagged and task.type != "ner":
        for name in ("tokens", "tags"):
            yield Unused(("columns", name), f"is for ner, not for {task.type}; leave it out, or set type: ner")
    elif tagged:
        for name in ("input", "target", "references"):
            if _is_set(columns, name):
                yield Unused(("columns", name), "has no effect: tokens and tags give input and answer; leave one out")
    if listed and task.type != "multiple-choice":
        why = f"is for multiple-choice, not for {task.type}; leave it out, or set type: multiple-choice"
        yield Unused(("columns", "choices"), why)
    elif listed and columns.references:
        yield Unused(("columns", "references"), "has no effect: the answer is one of the choices; leave it out")


def _of_answers(task: Any) -> Iterator[Unused]:
    tagged, listed = task.columns.tags is not None, task.columns.choices is not None
    if task.tag_scheme is not None and (task.type != "ner" or not tagged):
        yield Unused(("tagScheme",), "has no effect without tags; set type: ner and columns.tokens and columns.tags")
    if task.number_choices is not None and (task.type != "multiple-choice" or not listed):
        yield Unused(("numberChoices",), "has no effect without choices; set type: multiple-choice and columns.choices")
    if task.whole_numbers != "detect" and task.type not in NUMBER_TASKS and task.columns.id is None:
        types = " and ".join(NUMBER_TASKS)
        yield Unused(("wholeNumbers",), f"has no effect: it is for targets of {types}, and for ids; leave it out")
    if task.type == "ner" and not tagged and task.label_names is not None:
        yield Unused(("labelNames",), "has no effect on answers written as text; it names the tags in columns.tags")
    if task.type == "multiple-choice" and listed:
        for name, alias in (("labels", "labels"), ("label_names", "labelNames")):
            if getattr(task, name) is not None:
                yield Unused((alias,), "has no effect: the answers are the choices of each row; leave it out")


def _is_set(model: Any, name: str) -> bool:
    """Whether a field has another value than its default."""
    return bool(getattr(model, name) != type(model).model_fields[name].get_default(call_default_factory=True))


def _of_mixture(mixture: Any) -> Iterator[Unused]:
    if mixture.strategy != "temperature" and _is_set(mixture, "temperature"):
        yield Unused(("temperature",), f"has no effect with strategy {mixture.strategy}; set strategy: temperature")
    if mixture.strategy in ("weights", "equal") and mixture.cap is not None:
        yield Unused(("cap",), f"has no effect with strategy {mixture.strategy}; leave it out")


_CHECKS = {"Source": _of_source, "Task": _of_task, "MixtureStrategy": _of_mixture}
