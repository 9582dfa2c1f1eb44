"""T5's tokenizer, extended so that no text is lost: the only way from text to ids and back.

T5's vocabulary has no `{ } < ~ \\ ^` and no backtick, newline or tab, and folds runs of spaces:
code and dialogues lose their layout. `read` adds a token for every missing
printable character, newline, tab and some runs of spaces (15 for the real T5, whose models have 28
spare embedding rows) and keeps all other ids: a line of words with single spaces between them is
tokenised as before.

How text becomes tokens, with `▁` for a space as in sentencepiece:

- Every line, and the text after a tab, begins with one `▁` that stands for no space, like the start
  of a text in T5. So a word at the start of a line is the same token as inside a line.
- The last of a run of spaces belongs to the word after it; the others form one segment (`▁▁▁`).
- A literal such as `</s>` or `<extra_id_0>` in a text never becomes a control token. The tokenizer
  encodes special tokens as text, and its pre-tokenizer splits such a literal after its first
  character, because the vocabulary contains these strings too.

All of this is stored in tokenizer.json, so plain `AutoTokenizer` gives the same ids from a saved
folder.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import tokenizers

from data_prep.text.tokenizer import EOS, PAD, PRINTABLE, Ids, Tokenizer, as_ids, keeps
from data_prep.text.unigram_document import NAMES, SPACE, UNKNOWN, NotT5Error, build, extend, keeps_plain_text
from data_prep.text.word_cache import WordCache
from raytrain_core.errors import DataError

_LITERALS = ("<extra_id_0>", "<extra_id_12>", "<0x41>")
_CHUNK = 1000  # texts per call: measured to be fastest, and bounds memory


class UnigramTokenizer(Tokenizer):
    """A T5-like tokenizer: Unigram, pad 0, eos 1."""

    splits_at_spaces = True

    def __init__(self, document: dict[str, Any], *, added: Sequence[str] = ()) -> None:
        """`document` is a tokenizer.json that follows this module's conventions.

        `from_folder` creates it.
        """
        self._tokenizer = build(document)
        self._tokenizer.encode_special_tokens = True
        self._text = _canonical(self._tokenizer)
        self._of_written: tokenizers.Tokenizer | None = None
        """The same without its normalizer, for texts normalised by `_written`: a third of the
        work."""
        if keeps_plain_text(document.get("normalizer")):
            self._of_written = build({**document, "normalizer": None})
            self._of_written.encode_special_tokens = True
        literals = [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]
        self._words = WordCache(
            lambda texts: self._ids(self._of_written, [_written(text) for text in texts]), literals, self.size
        )
        self.added = tuple(added)
        self.unknown = document["model"]["unk_id"]

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self._text, self.added)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Loads and extends the tokenizer of a model folder.

        Raises DataError if it is not a T5 tokenizer.
        """
        path = folder / "tokenizer.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise DataError(
                f"{folder}: no tokenizer.json",
                hint="A model folder needs one; AutoTokenizer.from_pretrained(...).save_pretrained(...) "
                "of transformers writes it from spiece.model.",
            ) from None
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: cannot be read as JSON ({error})") from None
        try:
            extended, added = extend(document)
            tokenizer = cls(extended, added=added)
            tokenizer.check()
        except NotT5Error as error:
            raise DataError(
                f"{path}: {error}",
                hint="raytrain reads tokenizers of T5, mT5, UMT5, ByT5 and of models derived from them.",
            ) from None
        return tokenizer

    @property
    def size(self) -> int:
        """The number of ids; a model may have more embedding rows."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def id_of(self, token: str) -> int | None:
        """Returns the id of a token; None if the vocabulary does not contain it."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    @property
    def digest(self) -> str:
        """The hex sha256 of everything that determines the ids."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    def encode_open(self, texts: Sequence[str]) -> list[Ids]:
        """Returns all ids of each text, without EOS."""
        ids: list[Ids] = []
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            plain = [self._of_written is not None and keeps(text) for text in chunk]
            kept = [text for text, is_plain in zip(chunk, plain, strict=True) if is_plain]
            others = [text for text, is_plain in zip(chunk, plain, strict=True) if not is_plain]
            found = iter(self._words.encode(kept)), iter(self._ids(self._tokenizer, others))
            ids.extend(next(found[0] if is_plain else found[1]) for is_plain in plain)
        return ids

    def _ids(self, tokenizer: tokenizers.Tokenizer | None, texts: list[str]) -> list[Ids]:
        if tokenizer is None or not texts:
            return []
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [as_ids(encoding.ids, self.size) for encoding in encodings]

    def first_tokens(self, text: str, count: int) -> str:
        """Returns the beginning of `text` that its first `count` tokens stand for."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= count else text[: offsets[count - 1][1]] if count else ""

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the token of each id as the vocabulary spells it."""
        return [str(self._tokenizer.id_to_token(int(i))) for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of these ids without control tokens (pad, eos, unk, extra ids)."""
        return str(self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True))

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """Returns the texts of several rows of ids."""
        return list(self._tokenizer.decode_batch([[int(i) for i in ids] for ids in batch], skip_special_tokens=True))

    def files(self) -> dict[str, bytes]:
        """Returns the files of a Hugging Face tokenizer folder, always with the same bytes."""
        special = [t.content for _, t in sorted(self._tokenizer.get_added_tokens_decoder().items()) if t.special]
        config = {
            # The generic class uses tokenizer.json as it is; T5Tokenizer builds its own
            # pre-tokenizer.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": NAMES[PAD],
            "eos_token": NAMES[EOS],
            "unk_token": UNKNOWN,
            "additional_special_tokens": [token for token in special if token not in (*NAMES.values(), UNKNOWN)],
            "split_special_tokens": True,  # keeps literals such as </s> in a text as text
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
        }
        return {
            "tokenizer.json": self._text.encode(),
            "tokenizer_config.json": (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode(),
        }

    def check(self) -> None:
        """Raises unless printable ASCII is lossless and control literals stay text."""
        control = [t.content for t in self._tokenizer.get_added_tokens_decoder().values() if t.special]
        control += [literal for literal in _LITERALS if self.id_of(literal) or self.id_of(SPACE + literal)]
        every = f"{PRINTABLE[:40]} {PRINTABLE[40:]}"
        probes = ["", *"\n\t ", every, *(f"a{c}a {c}{c} {c}a" for c in PRINTABLE), *(f"a{c}b {c} {c}" for c in control)]
        probes += [" a  b   c \n\n  d\t\te \n", "\n", " \n ", "a\n", *(" " * n + "a" + " " * n for n in range(1, 40))]
        forbidden = {self._tokenizer.token_to_id(mark + c) for c in control for mark in ("", SPACE)} - {None}
        for probe in probes:
            ids = self._tokenizer.encode(probe, add_special_tokens=False).ids
            if forbidden.intersection(ids) or self.decode(ids) != probe:
                raise NotT5Error(f"{probe!r} is not lossless (decodes as {self.decode(ids)!r})")


def _written(text: str) -> str:
    """Normalises a text for which `keeps` holds like `_normalizer`."""
    return text and SPACE + text.replace(" ", SPACE).replace("\n", f"\n{SPACE}").replace("\t", f"\t{SPACE}")


@cache
def _restored(text: str, added: tuple[str, ...]) -> UnigramTokenizer:
    """Unpickles a tokenizer: built once in a process, however many objects refer to it."""
    return UnigramTokenizer(json.loads(text), added=added)


def _canonical(tokenizer: tokenizers.Tokenizer) -> str:
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, sort_keys=True) + "\n"
