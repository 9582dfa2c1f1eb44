"""One row of a source, step by step: as the file has it, and what it becomes for the model.

Nothing is written.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.config import Task
from data_prep.config.row_conditions import compile_condition
from data_prep.sources.compression import lines, open_bytes
from data_prep.sources.file_names import compression_of
from data_prep.sources.files import LocalFile, SourceFile
from data_prep.sources.source_row import SourceRow
from data_prep.sources.task_files import source_files
from data_prep.tally import Event, meaning_of
from data_prep.tasks.columns import used_columns
from data_prep.tasks.examples import Example, LeftOut, example_maker, row_transform
from data_prep.tasks.task_rows import task_profile
from data_prep.tasks.values import without_nan
from data_prep.text.fit_prompt import ends_with_input, fit_prompt
from data_prep.text.templates import template_order, templates_of
from data_prep.text.tokenizer import EOS, Tokenizer
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.config.job import FineTuneJob
from raytrain.config.locations import storage_location
from raytrain.model.source import local_path
from raytrain_core.errors import RowError, UsageError
from raytrain_core.storage import open_store
from raytrain_core.storage.scratch import scratch
from raytrain_core.text import did_you_mean

_RAW_LINES = 200
"""Lines of a record that are shown at most; a field of CSV may hold many."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a row is after one step: file, read, columns, cleaned, template, tokens, cut."""

    name: str
    text: str
    notes: tuple[str, ...] = ()
    """What the step changed."""


@dataclass(frozen=True, slots=True)
class RowTrace:
    """A row of one task; the steps end where it is left out or bad."""

    task: str
    where: str
    steps: list[Step]
    outcome: str
    """What became of it: `used`, or why it is not."""


def trace_row(job: FineTuneJob, row: str, *, base_folder: Path, task: str | None = None) -> list[RowTrace]:
    """Returns the steps of row `FILE:LINE` for every task (or `task`) that reads the file.

    `LINE` alone means the only file of the task. Raises UsageError if there is no such task, file
    or row.
    """
    name, line = _place(row)
    store = open_store(storage_location(None, job, base_folder=base_folder))  # only tells how to reach S3
    traces, known = list[RowTrace](), list[str]()
    for one in job.spec.tasks:
        if task not in (None, one.name):
            continue
        files = source_files(one, base_folder, store)
        known += [file.name for file in files]
        for file in _named(files, name):
            traces.append(_Tracer(job, one, files, base_folder).trace(file, line))
    if not known:
        names = [one.name for one in job.spec.tasks]
        raise UsageError(
            f"the job has no task {task}{did_you_mean(task or '', names)}", hint=f"its tasks are {', '.join(names)}"
        )
    if not traces:
        raise UsageError(
            f"--raw {row}: no file {name!r}{did_you_mean(name, known)}" if name else f"--raw {row}: several files",
            hint=f"write FILE:LINE with one of {', '.join(dict.fromkeys(known))}",
        )
    return traces


def _place(row: str) -> tuple[str, int]:
    name, _, line = row.rpartition(":")
    if not line.isdecimal() or not int(line):
        raise UsageError(f"--raw {row}: not a row", hint="write FILE:LINE, e.g. rows.jsonl:17, or LINE")
    return name, int(line)


def _named(files: Sequence[SourceFile], name: str) -> list[SourceFile]:
    if not name:
        return list(files) if len(files) == 1 else []
    exact = [file for file in files if file.name == name]
    return exact or [file for file in files if file.name.endswith(f"/{name}")]


@dataclass(frozen=True, slots=True)
class _Tracer:
    """Traces rows of one task."""

    job: FineTuneJob
    task: Task
    files: Sequence[SourceFile]
    base_folder: Path

    def trace(self, file: SourceFile, line: int) -> RowTrace:
        """Returns the steps of the row that begins in a line."""
        name, where, steps = self.task.name, f"{file.name}:{line}", list[Step]()
        with scratch("show") as folder:
            found, following = _find(file, line, folder)
            steps.append(Step("file", _raw(file, line, following)))
            if found.values is None:
                return RowTrace(name, where, steps, f"bad row: {found.reason}")
            steps.append(Step("read", _as_json(found.values), _told(found.events)))
            try:
                steps.append(_columns(self.task, found))
                made = example_maker(self.task, task_profile(self.task, self.files, folder))(found.values)
            except RowError as error:
                return RowTrace(name, where, steps, f"bad row: {error}")
        if isinstance(made, LeftOut):
            return RowTrace(name, where, steps, f"left out by {made.kind}")
        steps.append(Step("cleaned", _cleaned(made), _told(made.events)))
        return RowTrace(name, where, [*steps, *_model_view(self.job, self.task, made, self.base_folder)], "used")


def _find(file: SourceFile, line: int, folder: Path) -> tuple[SourceRow, int | None]:
    """The row that begins in a line, and where the next one begins."""
    rows = itertools.dropwhile(lambda row: row.number < line, file.rows(folder))
    found, following = next(rows, None), next(rows, None)
    if found is None or found.number != line:
        near = f"the next row begins in line {found.number}" if found is not None else "the file has no later row"
        raise UsageError(f"{file.name}: no row begins in line {line}", hint=near)
    return found, following.number if following is not None else None


def _raw(file: SourceFile, line: int, following: int | None) -> str:
    """The lines of the row as they are in the file."""
    if not isinstance(file, LocalFile) or file.path.suffix == ".parquet":
        return "(not a text file of this machine: shown as read)"
    last = following if following is not None else line + _RAW_LINES
    with open_bytes(file.path, compression_of(file.path.name), file.name) as opened:
        chosen = itertools.islice(lines(opened), line - 1, min(last - 1, line + _RAW_LINES - 1))
        return b"".join(text or b"(too long)" for _, text in chosen).decode("utf-8", "backslashreplace").rstrip("\r\n")


def _columns(task: Task, row: SourceRow) -> Step:
    """The columns that the task uses, after its row function; raises RowError where that fails."""
    assert row.values is not None
    values, missing = without_nan(row.values)
    changed = row_transform(task)(values)
    if changed is None:
        return Step("columns", "(left out by transform)")
    names = {*used_columns(task), *(compile_condition(task.where).columns if task.where is not None else ())}
    notes = [f"NaN taken as missing: {', '.join(missing)}"] if missing else []
    notes += [f"changed by {task.transform}"] if task.transform is not None else []
    return Step("columns", _as_json({k: v for k, v in changed.items() if k in names}), tuple(notes))


def _cleaned(example: Example) -> str:
    return "\n".join([example.input, *(f"=> {target}" for target in example.targets)])


def _model_view(job: FineTuneJob, task: Task, example: Example, base_folder: Path) -> Iterator[Step]:
    templates, training = templates_of(task), job.spec.training
    number = template_order(job.spec.mixture.seed, example.meta["input"], len(templates))[0]
    prompt = templates[number].render(example.input)
    yield Step("template", prompt, (f"template {number}",))
    folder = local_path(job.spec.model, base_folder)
    if not folder.is_dir():
        yield Step("tokens", f"(the tokenizer of {job.spec.model} is not on this machine)")
        return
    tokenizer = read_tokenizer(folder)
    limit, answer_limit = training.max_input_tokens, training.max_target_tokens
    ids, answer = ([*tokenizer.encode_open([text])[0].tolist(), EOS] for text in (prompt, example.targets[0]))
    counts = f"{len(ids):,} of the prompt, {len(answer):,} of the answer"
    yield Step("tokens", _shown(tokenizer, ids) + "\n=> " + _shown(tokenizer, answer), (counts,))
    notes = []
    if len(ids) > limit:
        fitting = fit_prompt(tokenizer, templates[number], example.input, limit, example.tail)
        if ends_with_input(templates[number], example.tail) or fitting is None:
            prompt = tokenizer.decode(ids[: limit - 1])
        else:
            prompt = fitting
        notes.append(f"the input is cut: {len(ids):,} tokens, maxInputTokens is {limit:,}")
    if len(answer) > answer_limit:
        notes.append(f"the answer is cut: {len(answer):,} tokens, maxTargetTokens is {answer_limit:,}")
    target = tokenizer.decode(answer[: answer_limit - 1]) if len(answer) > answer_limit else example.targets[0]
    yield Step("cut", f"{prompt}\n=> {target}" if notes else "(nothing is cut)", tuple(notes))


def _shown(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return " ".join(token.replace("\n", "⏎").replace("\t", "⇥") for token in tokenizer.tokens(ids))


def _as_json(values: object) -> str:
    return json.dumps(values, ensure_ascii=False, indent=1, default=str)


def _told(events: Sequence[Event]) -> tuple[str, ...]:
    return tuple(meaning_of(event.kind) + (f": {event.note}" if event.note else "") for event in events)
