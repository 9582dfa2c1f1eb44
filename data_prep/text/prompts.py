"""Token ids of the same inputs in several wordings, without tokenising an input once per wording.

The tokenizer cuts a text at its white space and normalises no character by what stands beyond it;
so where a wording puts white space around the input, the ids of the prompt are those of what stands
before, of the input, and of what stands after, joined. A test holds them against the ids of the
whole prompt.
"""

from collections.abc import Container, Iterator, Sequence

import numpy as np

from data_prep.text.templates import Template
from data_prep.text.tokenizer import Encoded, Ids, Tokenizer, finished, keeps


class PromptEncoder:
    """Encodes `inputs` inside any of `templates`."""

    def __init__(self, tokenizer: Tokenizer, templates: Sequence[Template], inputs: Sequence[str]) -> None:
        self._tokenizer, self._texts = tokenizer, inputs
        self._frames = [_frame(tokenizer, template) for template in templates]
        joinable = [i for i, text in enumerate(inputs) if _joinable(text)]
        ids = tokenizer.encode_open([inputs[i] for i in joinable])
        self._inputs: list[Ids | None] = [None] * len(inputs)
        for i, found in zip(joinable, ids, strict=True):
            self._inputs[i] = found

    def altered(self) -> int:
        """How many inputs text -> ids -> text changes."""
        doubtful = [i for i, text in enumerate(self._texts) if not keeps(text)]
        lacking = [i for i in doubtful if self._inputs[i] is None]
        encoded = dict(zip(lacking, self._tokenizer.encode_open([self._texts[i] for i in lacking]), strict=True))
        found = (encoded[i] if ids is None else ids for i in doubtful for ids in [self._inputs[i]])
        return self._tokenizer.altered(zip(found, (self._texts[i] for i in doubtful), strict=True))

    def encode(
        self, prompts: Sequence[str], templates: Sequence[int], limit: int, others: Container[int] = ()
    ) -> Encoded:
        """What `Tokenizer.encode_counted` gives for `prompts`, the i-th being input i in template `templates[i]`.

        Except for those i in `others`, which are any text.
        """
        frames = [None if i in others else self._frames[template] for i, template in enumerate(templates)]
        whole = [
            i for i, (frame, ids) in enumerate(zip(frames, self._inputs, strict=True)) if frame is None or ids is None
        ]
        encoded = iter(self._tokenizer.encode_open([prompts[i] for i in whole]))

        def rows() -> Iterator[Ids]:
            for frame, ids in zip(frames, self._inputs, strict=True):
                yield next(encoded) if frame is None or ids is None else np.concatenate([frame[0], ids, frame[1]])

        return finished(rows(), limit)


def _joinable(text: str) -> bool:
    """Whether nothing at the ends of an input could grow together with white space beside it."""
    return bool(text) and all(
        c.isalnum() or (c.isascii() and c.isprintable() and c != " ") for c in (text[0], text[-1])
    )


def _frame(tokenizer: Tokenizer, template: Template) -> tuple[Ids, Ids] | None:
    """Ids before and after the input; None where it stands twice, or not between white space.

    The first `▁` of what stands after is the one that every text begins with; the last of what
    stands before becomes the input's own.
    """
    if len(template.pieces) != 2:
        return None
    before, after = template.pieces
    if (before and before[-1] not in " \n\t") or (after and after[0] not in " \n\t") or after[:2] == "  ":
        return None
    first, last = tokenizer.encode_open([before, after])
    return (first[:-1] if before else first), (last[1:] if after else last)
