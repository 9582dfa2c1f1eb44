"""Remembers the ids of words, so that a word that occurs again costs a lookup.

T5's pre-tokenizer splits a text before every space, and the model tokenises each piece on its own
(the module `data_prep.text.unigram` says how): the ids of a line are those of its words, one
after the other. A text where a word could depend on its neighbours is not divided: one with runs of
spaces, or with the first character of an added token such as `</s>`.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from data_prep.text.tokenizer import Ids, as_ids

WORDS = 1 << 16
"""Words remembered; when there are more, remembering begins again. This bounds the memory."""
LONGEST = 32
"""Characters of a remembered word: longer ones (URLs, base64) rarely occur again."""

_LONG = re.compile(rf"\S{{{LONGEST + 1}}}")


class WordCache:
    """Encodes texts by their words.

    `encode` returns the ids of texts in full, as if each were alone. A text is given as `keeps`
    admits it: printable ASCII, newlines and tabs.
    """

    def __init__(self, encode: Callable[[list[str]], list[Ids]], literals: Collection[str], size: int) -> None:
        """`literals` are the added tokens, which are found in a text before it is split.

        `size` is that of the vocabulary.
        """
        self._encode = encode
        self._type: Any = as_ids([], size).dtype
        self._ids: dict[str, bytes] = {}
        # White space at the ends of a piece would meet that of its neighbour.
        self._whole = (*sorted({literal[0] for literal in literals}), "  ", " \n", " \t", "\n ", "\t ")

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Returns the ids of each text."""
        divided = [self._divided(text) for text in texts]
        whole = iter(self._encode([text for text, words in zip(texts, divided, strict=True) if words is None]))
        self._learn({word for words in divided if words is not None for word in words})
        of_word = self._ids.__getitem__
        return [
            next(whole) if words is None else np.frombuffer(b"".join(map(of_word, words)), self._type)
            for words in divided
        ]

    def _divided(self, text: str) -> list[str] | None:
        """Returns the words of a text, or None if it must stay whole.

        Substrings one by one: a regular expression of all of them takes five times as long.
        """
        if not text or text[0].isspace() or text[-1].isspace() or any(piece in text for piece in self._whole):
            return None
        words = text.split(" ")
        return None if max(map(len, words)) > LONGEST and _LONG.search(text) else words

    def _learn(self, words: set[str]) -> None:
        """Makes sure that the ids of all these words are known."""
        new = sorted(word for word in words if word not in self._ids)  # not a difference of sets: it visits all ids
        if len(self._ids) + len(new) > WORDS:
            self._ids, new = {}, sorted(words)
        for word, found in zip(new, self._encode(new), strict=True):
            self._ids[word] = found.tobytes()
