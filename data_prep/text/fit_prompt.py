"""Cuts a prompt that is too long where it may be cut: in the text of the row.

The instruction, and the options of multiple-choice, stay. A prompt that ends with the input needs
nothing of this: it is cut at its end.
"""

from data_prep.text.templates import Template
from data_prep.text.tokenizer import Tokenizer

_TRIES = 8


def ends_with_input(template: Template, tail: int) -> bool:
    """Whether a prompt may simply be cut at its end."""
    return len(template.segments) == 2 and not template.segments[-1].strip() and not tail


def fit_prompt(tokenizer: Tokenizer, template: Template, text: str, limit: int, tail: int = 0) -> str | None:
    """Returns the prompt with `text` cut so that it has at most `limit` tokens with EOS.

    The last `tail` characters of `text` stay too. None if the prompt is too long even without any
    other text.
    """
    body, options = text[: len(text) - tail], text[len(text) - tail :]
    times = len(template.segments) - 1
    keep = (limit - _tokens(tokenizer, template.render(options))) // times
    for _ in range(_TRIES):
        if keep < 1:
            return None
        prompt = template.render(tokenizer.first_tokens(body, keep).rstrip() + options)
        excess = _tokens(tokenizer, prompt) - limit
        if excess <= 0:
            return prompt
        keep -= -(-excess // times)
    return None


def _tokens(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode_open([text])[0]) + 1
