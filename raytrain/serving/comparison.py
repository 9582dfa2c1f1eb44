"""Asking the models of a run: the tuned one, the one before, or both side by side."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

from raytrain_core.errors import UsageError

if TYPE_CHECKING:
    from raytrain.config.run_layout import RunLayout
    from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class Answer:
    """One text and what the models said to it; None where a model was not asked."""

    text: str
    before: str | None
    after: str | None


def texts_of(arguments: Sequence[str] | None, *, lines: bool = False, stream: TextIO | None = None) -> list[str]:
    """The texts to ask: the arguments, else standard input as one text, or each of its lines with `lines`."""
    if arguments:
        return list(arguments)
    stream = stream if stream is not None else sys.stdin
    if stream.isatty():
        print("type the text, then Ctrl-D:", file=sys.stderr)
    try:
        given = stream.read()
    except UnicodeDecodeError:
        raise UsageError("standard input is not UTF-8") from None
    texts = [t for t in (given.splitlines() if lines else [given.removesuffix("\n")]) if t.strip()]
    if not texts:
        raise UsageError("there is no text to answer", hint="give it as an argument or on standard input")
    return texts


def answers(
    texts: Sequence[str],
    *,
    store: "Store",
    layout: "RunLayout",
    task: str,
    before: bool = False,
    compare: bool = False,
    template: int | None = None,
) -> list[Answer]:
    """Ask for `texts` of one task: the tuned model, with `before` the base model, with `compare` both."""
    from raytrain.serving.predict import predict

    if before and compare:
        raise UsageError("--before and --compare exclude each other", hint="--compare asks both models")

    def ask(which: Literal["before", "after"]) -> list[str]:
        return predict(list(texts), store=store, layout=layout, task=task, which=which, template=template)

    old = ask("before") if before or compare else [None] * len(texts)
    new = ask("after") if not before else [None] * len(texts)
    return [Answer(text, b, a) for text, b, a in zip(texts, old, new, strict=True)]
