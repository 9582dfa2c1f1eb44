"""Text to ids and back as the model's own tokenizer does it, without this project's additions.

Benchmarks are asked as lm-evaluation-harness asks them: of a model in a folder, with the tokenizer
in that folder (`transformers.AutoTokenizer`). The rules here are those of its `HFLM` and
`TemplateLM` for encoder-decoders: contexts end with the end-of-sequence token, continuations do
not, spaces at the end of a context belong to the continuation, and contexts that are too long lose
their beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.text.tokenizer import Ids, as_ids


class PlainTokenizer:
    """The tokenizer of a model folder, as transformers loads it."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        loader: Any = AutoTokenizer
        self._tokenizer: Any = loader.from_pretrained(str(folder), local_files_only=True)
        self._tokenizer.model_max_length = int(1e30)  # only silences a warning: nothing is cut by it

    def context(self, text: str, limit: int) -> tuple[Ids, bool]:
        """Returns the ids of a context, at most the last `limit`, and whether that cut it."""
        ids = self._tokenizer.encode(text) if text else [self._prefix]
        return as_ids(ids[-limit:], len(self._tokenizer)), len(ids) > limit

    def pair(self, context: str, continuation: str, limit: int) -> tuple[Ids, Ids, bool]:
        """Returns the ids of a context and of its continuation, and whether the context was cut."""
        stripped = context.rstrip()
        ids = self._tokenizer.encode(context[len(stripped) :] + continuation, add_special_tokens=False)
        if not context and ids and ids[0] == self._prefix:  # it is the context then, not scored twice
            ids = ids[1:]
        found, cut = self.context(stripped, limit)
        return found, as_ids(ids, len(self._tokenizer)), cut

    def decode(self, ids: Sequence[int], until: Sequence[str]) -> str:
        """Returns the text of generated ids up to the first text of `until`."""
        text = str(self._tokenizer.decode(ids, skip_special_tokens=True))
        for end in until:
            text = text.split(end, maxsplit=1)[0] if end else text
        return text

    @property
    def _prefix(self) -> int:
        """What stands for an empty context."""
        first = self._tokenizer.bos_token_id
        return int(self._tokenizer.eos_token_id if first is None else first)
