"""Rows of a job's tasks as the model will see them, read from the sources; nothing is written."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.config import Task
from data_prep.sources.files import source_files
from data_prep.tasks.examples import Example, example_maker
from data_prep.text.templates import template_order, templates_of
from raytrain.config.job import FineTuneJob
from raytrain.config.locations import storage_location
from raytrain.model.source import local_path
from raytrain_core.errors import RowError, UsageError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.scratch import scratch
from raytrain_core.text import did_you_mean

BAD_AT_MOST = 20  # bad rows of a task that are shown before giving up on it


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the model reads it: all its pieces with the final `</s>`, and whether they are cut to `limit`."""

    pieces: list[str]
    limit: int
    cut: bool
    unknown: int


_Tokenizing = Callable[[str, str], tuple[Tokens, Tokens]]


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row: where it stands, the prompt in its first wording, and what is wished for."""

    where: str
    template: int
    prompt: str
    targets: list[str]
    prompt_tokens: Tokens | None = None
    target_tokens: Tokens | None = None
    """Of the first target."""


@dataclass(frozen=True, slots=True)
class TaskPreview:
    """The first rows of a task, and the bad rows met on the way."""

    task: str
    type: str
    probe: bool
    variants: int
    rows: list[PreviewRow]
    bad: list[str]


def show(
    job: FineTuneJob, *, base_folder: Path, task: str | None = None, rows: int = 3, tokens: bool = False
) -> list[TaskPreview]:
    """The first `rows` rows of every task, or of one, with their `tokens` if these are asked for.

    UsageError if there is no such task, or if the tokenizer is not here; DataError for a task's
    source.
    """
    names = [t.name for t in job.spec.tasks]
    if task is not None and task not in names:
        raise UsageError(
            f"the job has no task {task}{did_you_mean(task, names)}",
            hint=f"its tasks are {', '.join(names)}",
        )
    chosen = [t for t in job.spec.tasks if task in (None, t.name)]
    store = open_store(storage_location(None, job, base_folder=base_folder))  # only tells how sources in S3 are reached
    tokenizing = _tokenizing(job, base_folder) if tokens else None
    return [_preview(t, job.spec.mixture.seed, base_folder, store, rows, tokenizing=tokenizing) for t in chosen]


def _tokenizing(job: FineTuneJob, base_folder: Path) -> _Tokenizing:
    """From a prompt and its target to their tokens, by the tokenizer of a model that is a folder here."""
    from data_prep.text.tokenizer import EOS, UNK, Tokenizer

    folder = local_path(job.spec.model, base_folder)
    if not folder.is_dir():
        raise UsageError(
            f"model {job.spec.model}: its tokenizer is not here, so there are no tokens to show",
            hint="name a local folder as the model, or leave --tokens out",
        )
    tokenizer, training = Tokenizer.from_folder(folder), job.spec.training

    def tokens(text: str, limit: int) -> Tokens:
        ids = [*tokenizer.encode_open([text])[0].tolist(), EOS]
        return Tokens(tokenizer.pieces(ids), limit, len(ids) > limit, ids[:limit].count(UNK))

    return lambda prompt, target: (
        tokens(prompt, training.max_input_tokens),
        tokens(target, training.max_target_tokens),
    )


def _preview(
    task: Task, seed: int, base_folder: Path, store: Store, wanted: int, *, tokenizing: _Tokenizing | None
) -> TaskPreview:
    templates, found, bad = templates_of(task), list[PreviewRow](), list[str]()
    with scratch("show") as folder:
        for where, example in _examples(task, base_folder, store, folder):
            if isinstance(example, str):
                bad.append(f"{where}: {example}")
            else:
                number = template_order(seed, example.meta["input"], len(templates))[0]
                prompt = templates[number].render(example.input)
                tokens = (None, None) if tokenizing is None else tokenizing(prompt, example.targets[0])
                found.append(PreviewRow(where, number, prompt, list(example.targets), *tokens))
            if len(found) == wanted or len(bad) == BAD_AT_MOST:
                break
    return TaskPreview(task.name, task.type, task.probe, len(templates), found, bad)


def _examples(task: Task, base_folder: Path, store: Store, folder: Path) -> Iterator[tuple[str, Example | str]]:
    """Examples of the first file that is wanted, or why a row is none."""
    make: Any = example_maker(task)
    files = source_files(task, base_folder, store)
    files.sort(key=lambda file: file.split not in ("train", None))  # stable: train first where it is told
    for file, row in itertools.chain.from_iterable(((f, r) for r in f.rows(folder)) for f in files):
        where = f"{file.name}:{row.number}"
        if row.values is None:
            yield where, row.reason
            continue
        try:
            example = make(row.values)
        except RowError as error:
            yield where, str(error)
            continue
        if example is not None:
            yield where, example
