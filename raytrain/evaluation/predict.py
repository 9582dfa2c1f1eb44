"""Asking a run's model: the task's own wording around a text, a greedy answer."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from data_prep.document.models import Task
from data_prep.errors import DataError, UsageError
from data_prep.storage import Store
from data_prep.storage.commit import read_manifest
from raytrain.evaluation.scores import ModelRef
from raytrain.evaluation.scoring import Limits
from raytrain.spec.layout import RunLayout
from raytrain.spec.record import read_record
from raytrain.spec.storage import cache_folder

Which = Literal["before", "after"]


def predict(
    texts: Sequence[str],
    *,
    store: Store,
    layout: RunLayout,
    task: str,
    which: Which,
    template: int | None = None,
    cache: Path | None = None,
) -> list[str]:
    """Answers to `texts` by the model that the run left (`after`) or by the one that it started from (`before`).

    Each text is put into the task's wording number `template` (by default the first one). UsageError for a run, a
    task or a wording that there is not, DataError where the run has not got that far. What has to be fetched is kept
    under `cache`, by default the cache folder of this machine (`spec.storage.cache_folder`).
    """
    record = read_record(store, layout)
    if record is None:
        raise UsageError(f"{store.uri}: there is no run {layout.name}", hint="Check its name and --storage.")
    prompts = render(_named(record.job.spec.tasks, task), texts, template)
    if record.shard_set is None:
        raise DataError(f"run {layout.name}: its data is not prepared yet", hint="Let the run get further first.")
    folder = cache or cache_folder()
    from data_prep.shards import ShardSet, load_tokenizer
    from raytrain.evaluation.decoding import Decoder, load_model
    from raytrain.model.source import resolve

    model: ModelRef
    if which == "before":
        base = resolve(record.job.spec.model, store=store, base_folder=record.base_folder, cache=folder / "models")
        model = ModelRef("base", str(base), record.model_digest or "")
    elif read_manifest(store, layout.model) is None:
        raise DataError(f"run {layout.name} has no tuned model yet", hint="Let it finish, or ask the one --before.")
    else:
        model = ModelRef("export", layout.model, "")
    spec = record.job.spec
    limits = Limits(
        spec.training.max_input_tokens,
        spec.evaluation.max_new_tokens or spec.training.max_target_tokens,
        spec.evaluation.batch_size,
    )
    tokenizer = load_tokenizer(ShardSet.load(store, record.shard_set), store)
    loaded = load_model(model, model, store=store, cache_folder=folder / "models", tokenizer_size=tokenizer.size)
    return [answer.text for answer in Decoder(loaded, tokenizer, limits).answer(prompts)]


def _named(tasks: Sequence[Task], name: str) -> Task:
    for task in tasks:
        if task.name == name:
            return task
    names = [task.name for task in tasks]
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    raise UsageError(
        f"the run has no task {name!r}" + (f", did you mean {close[0]}?" if close else ""),
        hint=f"It has {', '.join(names)}.",
    )


def render(task: Task, texts: Sequence[str], template: int | None) -> list[str]:
    """The texts in wording `template` of the task; UsageError if it has no such wording."""
    from data_prep.templates import templates_of

    wordings = templates_of(task)
    number = 0 if template is None else template
    if not 0 <= number < len(wordings):
        raise UsageError(
            f"task {task.name} has no wording {number}", hint=f"It has {len(wordings)}: 0 to {len(wordings) - 1}."
        )
    return [wordings[number].render(text) for text in texts]
