"""Asking a run's model: the task's own wording around a text, an answer."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.config import Task
from raytrain.config.run_layout import RunLayout
from raytrain.serving.models import RunModels, Which
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store
from raytrain_core.text import did_you_mean


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

    Each text is put into the task's wording number `template` (by default the first one).
    UsageError for a run, a task or a wording that there is not, DataError where the run has not got
    that far. What has to be fetched is kept under `cache`, by default the cache folder of this
    machine (`spec.storage.cache_folder`).
    """
    models = RunModels(store, layout, cache=cache)
    prompts = render(named(models.tasks, task), texts, template)
    return [answer.text for answer in models.decoder(which).answer(prompts)]


def named(tasks: Sequence[Task], name: str) -> Task:
    """The task of that name; UsageError, with the nearest one, if there is none."""
    for task in tasks:
        if task.name == name:
            return task
    names = [task.name for task in tasks]
    raise UsageError(
        f"the run has no task {name!r}{did_you_mean(name, names)}",
        hint=f"It has {', '.join(names)}.",
    )


def render(task: Task, texts: Sequence[str], template: int | None) -> list[str]:
    """The texts in wording `template` of the task; UsageError if it has no such wording."""
    from data_prep.text.templates import templates_of

    templates = templates_of(task)
    number = 0 if template is None else template
    if not 0 <= number < len(templates):
        raise UsageError(
            f"task {task.name} has no template {number}", hint=f"It has {len(templates)}: 0 to {len(templates) - 1}."
        )
    return [templates[number].render(text) for text in texts]
