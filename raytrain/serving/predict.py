"""Generating with the models of a run, with the instruction templates of its tasks."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from data_prep.config import Task
from raytrain.config.run_layout import RunLayout
from raytrain.serving.models import RunModels, Which
from raytrain.serving.prompts import Prompt, make_prompts
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store
from raytrain_core.text import did_you_mean


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model generated, and the prompt that it read."""

    answer: str
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class PredictionPair:
    """A text and what the two models generate for it; None for a model that was not used."""

    text: str
    before: str | None
    after: str | None
    prompt_tokens: int
    """Tokens of the prompt with the complete text."""
    read_tokens: int
    """Tokens of it that the model read."""
    notice: str | None
    """What was left out, in words."""


def read_texts(arguments: Sequence[str] | None, *, lines: bool = False, stream: TextIO | None = None) -> list[str]:
    """Returns `arguments`, or else standard input as one text (with `lines`: one text per line).

    Raises UsageError where no text is left or the input is not UTF-8.
    """
    if arguments:
        return list(arguments)
    stream = stream if stream is not None else sys.stdin
    if stream.isatty():
        print("type the text, then Ctrl-D:", file=sys.stderr)
    try:
        content = stream.read()
    except UnicodeDecodeError:
        raise UsageError("standard input is not UTF-8") from None
    texts = [t for t in (content.splitlines() if lines else [content.removesuffix("\n")]) if t.strip()]
    if not texts:
        raise UsageError("no text given", hint="Pass it as an argument or on standard input.")
    return texts


def predict_pairs(
    texts: Sequence[str],
    *,
    store: Store,
    layout: RunLayout,
    task: str,
    before: bool = False,
    compare: bool = False,
    template: int | None = None,
    refuse_long: bool = False,
) -> list[PredictionPair]:
    """Generates for `texts` with the tuned model, the base model (`before`) or both (`compare`)."""
    if before and compare:
        raise UsageError("--before and --compare exclude each other", hint="--compare uses both models.")

    def generate(which: Which) -> list[Prediction]:
        return predict(
            list(texts),
            store=store,
            layout=layout,
            task=task,
            which=which,
            template=template,
            refuse_long=refuse_long,
        )

    base = generate("before") if before or compare else []
    tuned = generate("after") if not before else []
    prompts = [prediction.prompt for prediction in tuned or base]
    return [
        PredictionPair(
            text, base[i].answer if base else None, tuned[i].answer if tuned else None, p.tokens, p.read, p.notice
        )
        for i, (text, p) in enumerate(zip(texts, prompts, strict=True))
    ]


def predict(
    texts: Sequence[str],
    *,
    store: Store,
    layout: RunLayout,
    task: str,
    which: Which,
    template: int | None = None,
    refuse_long: bool = False,
    cache: Path | None = None,
) -> list[Prediction]:
    """Generates for `texts` with the model that the run trained (`after`) or began with (`before`).

    Each text is put into the task's instruction template number `template`, by default the first. A
    text that is too long is cut as in training, which its prompt says; with `refuse_long` it is an
    error. Downloaded models are kept under `cache`, by default this machine's cache folder
    (`raytrain.config.locations.cache_folder`).

    Raises UsageError for an unknown run, task or template, DataError where the run has no such
    model yet.
    """
    models = RunModels(store, layout, cache=cache)
    chosen, limit = find_task(models.tasks, task), models.limits.max_input_tokens
    prompts = make_prompts(models.tokenizer, chosen, template, texts, limit=limit, refuse_long=refuse_long)
    generated = models.generator(which).generate([prompt.text for prompt in prompts])
    return [Prediction(found.text, prompt) for found, prompt in zip(generated, prompts, strict=True)]


def find_task(tasks: Sequence[Task], name: str) -> Task:
    """Returns the task called `name`; raises UsageError that suggests the closest name."""

    for task in tasks:
        if task.name == name:
            return task
    names = [task.name for task in tasks]
    raise UsageError(
        f"the run has no task {name!r}{did_you_mean(name, names)}",
        hint=f"Its tasks are {', '.join(names)}.",
    )
