"""Shows rows of a job's tasks as the model will see them, read from the sources.

Nothing is written.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.config import Task
from data_prep.sources.files import SourceFile
from data_prep.sources.task_files import find_sources
from data_prep.tally import Tally
from data_prep.tasks.profile import Profile
from data_prep.tasks.task_rows import TaskRow, read_task_rows, task_profile
from data_prep.text.templates import template_order, templates_of
from raytrain.config.job import FineTuneJob
from raytrain.config.locations import storage_location
from raytrain.model.source import local_path
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.scratch import scratch
from raytrain_core.text import did_you_mean

MOST_BAD_ROWS = 20  # bad rows of a task after which reading stops


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the model reads it.

    All its tokens with the final `</s>`, and whether `limit` truncates them.
    """

    tokens: list[str]
    limit: int
    cut: bool
    unknown: int


_Tokenize = Callable[[str, str], tuple[Tokens, Tokens]]


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row: its place in the source, the prompt of its first variant, and its targets."""

    where: str
    template: int
    prompt: str
    targets: list[str]
    prompt_tokens: Tokens | None = None
    target_tokens: Tokens | None = None
    """Of the first target."""


@dataclass(frozen=True, slots=True)
class TaskPreview:
    """The first rows of a task, and the bad rows before them."""

    task: str
    type: str
    probe: bool
    variants: int
    rows: list[PreviewRow]
    bad: list[str]
    read: int
    """Rows read to find these."""
    events: list[str]
    """What happened to the rows read, a line for each kind."""


def preview(
    job: FineTuneJob, *, base_folder: Path, task: str | None = None, rows: int = 3, tokens: bool = False
) -> list[TaskPreview]:
    """Returns the first `rows` rows of every task (or of `task`), with their tokens if requested.

    Raises UsageError if there is no such task or no local tokenizer, DataError for a broken source.
    """
    chosen = _chosen(job, task)
    store = open_store(storage_location(None, job, base_folder=base_folder))  # only tells how to reach S3
    tokenize = _tokenizer(job, base_folder) if tokens else None
    return [_preview(one, job.spec.mixture.seed, base_folder, store, rows, tokenize=tokenize) for one in chosen]


def _chosen(job: FineTuneJob, task: str | None) -> list[Task]:
    names = [one.name for one in job.spec.tasks]
    if task is not None and task not in names:
        raise UsageError(
            f"the job has no task {task}{did_you_mean(task, names)}",
            hint=f"its tasks are {', '.join(names)}",
        )
    return [one for one in job.spec.tasks if task in (None, one.name)]


def _tokenizer(job: FineTuneJob, base_folder: Path) -> _Tokenize:
    """A function from a prompt and its target to their tokens, by a local folder's tokenizer."""
    from data_prep.text.tokenizer import EOS
    from data_prep.text.tokenizer_folder import read_tokenizer

    folder = local_path(job.spec.model, base_folder)
    if not folder.is_dir():
        raise UsageError(
            f"model {job.spec.model}: its tokenizer is not on this machine, so tokens cannot be shown",
            hint="name a local folder as the model, or omit --tokens",
        )
    tokenizer, training = read_tokenizer(folder), job.spec.training

    def tokens(text: str, limit: int) -> Tokens:
        ids = [*tokenizer.encode_open([text])[0].tolist(), EOS]
        return Tokens(tokenizer.tokens(ids), limit, len(ids) > limit, ids[:limit].count(tokenizer.unknown))

    return lambda prompt, target: (
        tokens(prompt, training.max_input_tokens),
        tokens(target, training.max_target_tokens),
    )


def _preview(
    task: Task, seed: int, base_folder: Path, store: Store, limit: int, *, tokenize: _Tokenize | None
) -> TaskPreview:
    templates, rows, bad, tally = templates_of(task), list[PreviewRow](), list[str](), Tally()
    with scratch("show") as folder:
        found = find_sources(task, base_folder, store)
        tally.merge(found.tally(folder))
        profile = task_profile(task, found.files, folder)
        tally.merge(profile.tally(found.files[0].name))
        for row in _rows(task, found.files, folder, profile):
            tally.add_row(row.file.name, row.number, row.events)
            if row.error:
                bad.append(f"{row.where}: {row.error}")
            elif row.example is not None:
                number = template_order(seed, row.example.meta["input"], len(templates))[0]
                prompt = templates[number].render(row.example.input)
                tokens = (None, None) if tokenize is None else tokenize(prompt, row.example.targets[0])
                rows.append(PreviewRow(row.where, number, prompt, list(row.example.targets), *tokens))
            if len(rows) == limit or len(bad) == MOST_BAD_ROWS:
                break
    return TaskPreview(task.name, task.type, task.probe, len(templates), rows, bad, tally.rows["read"], tally.lines())


def _rows(task: Task, files: list[SourceFile], folder: Path, profile: Profile) -> Iterator[TaskRow]:
    """All rows, those of training files first if the files say their split."""
    files.sort(key=lambda file: file.split not in ("train", None))  # a stable sort
    return read_task_rows(task, files, folder, profile)
