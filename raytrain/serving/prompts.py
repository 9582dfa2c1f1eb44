"""A user's text in a task's template, short enough for the model, and what was left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_prep.config import Task
from raytrain_core.errors import UsageError

if TYPE_CHECKING:
    from data_prep.text.templates import Template
    from data_prep.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads for one text."""

    text: str
    tokens: int
    """Tokens of the prompt with the complete text."""
    read: int
    """Tokens that the model reads: fewer where the prompt exceeds its limit."""

    @property
    def notice(self) -> str | None:
        """A sentence about what was cut; None if nothing was."""
        if self.read >= self.tokens:
            return None
        return f"the prompt has {self.tokens:,} tokens, of which the model read {self.read:,}; the rest was left out"


def template_of(task: Task, number: int | None) -> "Template":
    """Returns template `number` of the task, by default the first; UsageError if there is none."""
    from data_prep.text.templates import templates_of

    templates = templates_of(task)
    number = 0 if number is None else number
    if not 0 <= number < len(templates):
        raise UsageError(
            f"task {task.name} has no template {number}",
            hint=f"It has {len(templates)}, numbered 0 to {len(templates) - 1}.",
        )
    return templates[number]


def whole_prompts(tokenizer: "Tokenizer", texts: Sequence[str], *, limit: int) -> list[Prompt]:
    """Takes each text as a whole prompt, of which the model reads the first `limit` tokens."""
    counts = [len(ids) + 1 for ids in tokenizer.encode_open(texts)]  # and the end of sequence
    return [Prompt(text, count, min(count, limit)) for text, count in zip(texts, counts, strict=True)]


def make_prompts(
    tokenizer: "Tokenizer",
    task: Task,
    number: int | None,
    texts: Sequence[str],
    *,
    limit: int,
    refuse_long: bool = False,
) -> list[Prompt]:
    """Puts each text into template `number` of the task, by default the first.

    Where the prompt exceeds `limit` tokens, the text is cut; the instruction stays, and so do the
    options at the end of a question, as in training. With `refuse_long`, raises UsageError for a
    text that would be cut.
    """
    from data_prep.tasks.examples import options_at_end

    template = template_of(task, number)
    prompts = [template.render(text) for text in texts]
    counts = [len(ids) + 1 for ids in tokenizer.encode_open(prompts)]
    return [
        Prompt(prompt, count, count)
        if count <= limit
        else _cut(tokenizer, template, text, options_at_end(task, text), count, limit, refuse_long=refuse_long)
        for prompt, text, count in zip(prompts, texts, counts, strict=True)
    ]


def _cut(  # noqa: PLR0917
    tokenizer: "Tokenizer", template: "Template", text: str, tail: int, tokens: int, limit: int, *, refuse_long: bool
) -> Prompt:
    from data_prep.text.fit_prompt import fit_prompt

    if refuse_long:
        raise UsageError(
            f"the prompt has {tokens:,} tokens, but the model reads at most {limit:,}",
            hint="Shorten the text, or allow that its end is left out.",
        )
    fitted = fit_prompt(tokenizer, template, text, limit, tail)
    if fitted is None:  # the instruction alone is too long: the end of it is lost
        return Prompt(template.render(text), tokens, limit)
    return Prompt(fitted, tokens, len(tokenizer.encode_open([fitted])[0]) + 1)
