"""Token ids of the same inputs in several templates, without tokenising an input once for each.

The tokenizer splits a text at white space and normalises each word on its own. So if a template has
white space around the input, the ids of the prompt are those of the text before, the input and the
text after, concatenated. A test compares them with the ids of the complete prompt.
"""

from collections.abc import Container, Iterator, Sequence

import numpy as np

from data_prep.text.templates import Template
from data_prep.text.tokenizer import Encoded, Ids, Tokenizer, finished, keeps


class PromptEncoder:
    """Encodes `inputs` in any of `templates`."""

    def __init__(self, tokenizer: Tokenizer, templates: Sequence[Template], inputs: Sequence[str]) -> None:
        self._tokenizer, self._texts = tokenizer, inputs
        joins = tokenizer.splits_at_spaces
        self._frames = [_frame(tokenizer, template) if joins else None for template in templates]
        joinable = [i for i, text in enumerate(inputs) if joins and _joinable(text)]
        ids = tokenizer.encode_open([inputs[i] for i in joinable])
        self._inputs: list[Ids | None] = [None] * len(inputs)
        for i, found in zip(joinable, ids, strict=True):
            self._inputs[i] = found

    def altered(self) -> int:
        """Returns how many inputs change from text to ids and back."""
        doubtful = [i for i, text in enumerate(self._texts) if not keeps(text)]
        missing = [i for i in doubtful if self._inputs[i] is None]
        encoded = dict(zip(missing, self._tokenizer.encode_open([self._texts[i] for i in missing]), strict=True))
        found = (encoded[i] if ids is None else ids for i in doubtful for ids in [self._inputs[i]])
        return self._tokenizer.altered(zip(found, (self._texts[i] for i in doubtful), strict=True))

    def encode(
        self, prompts: Sequence[str], templates: Sequence[int], limit: int, others: Container[int] = ()
    ) -> Encoded:
        """Encodes `prompts` like `Tokenizer.encode_counted`.

        Prompt i is input i in template `templates[i]`.

        Prompts i in `others` may be any text.
        """
        frames = [None if i in others else self._frames[template] for i, template in enumerate(templates)]
        whole = [
            i for i, (frame, ids) in enumerate(zip(frames, self._inputs, strict=True)) if frame is None or ids is None
        ]
        encoded = iter(self._tokenizer.encode_open([prompts[i] for i in whole]))

        def rows() -> Iterator[Ids]:
            for frame, ids in zip(frames, self._inputs, strict=True):
                yield next(encoded) if frame is None or ids is None else np.concatenate([frame[0], ids, frame[1]])

        return finished(rows(), limit, self._tokenizer.unknown)


def _joinable(text: str) -> bool:
    """Whether the ends of an input cannot merge with white space next to them."""
    return bool(text) and all(
        c.isalnum() or (c.isascii() and c.isprintable() and c != " ") for c in (text[0], text[-1])
    )


def _frame(tokenizer: Tokenizer, template: Template) -> tuple[Ids, Ids] | None:
    """Ids before and after the input; None if the input occurs twice or not between white space.

    The first `▁` of the text after is the one that every text begins with; the last of the text
    before becomes the input's own.
    """
    if len(template.segments) != 2:
        return None
    before, after = template.segments
    if (before and before[-1] not in " \n\t") or (after and after[0] not in " \n\t") or after[:2] == "  ":
        return None
    first, last = tokenizer.encode_open([before, after])
    return (first[:-1] if before else first), (last[1:] if after else last)
