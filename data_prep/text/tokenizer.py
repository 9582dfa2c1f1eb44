"""T5's tokenizer, extended so that no text is lost: the only way from text to ids and back.

T5's vocabulary has no `{ } < ~ \\ ^` and no backtick, newline or tab, and folds runs of spaces:
code and dialogues lose their layout. `Tokenizer.from_folder` adds a token for every missing
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

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray

from data_prep.text.word_cache import WordCache
from raytrain_core.errors import DataError

PAD, EOS, UNK = 0, 1, 2
_NAMES = {PAD: "<pad>", EOS: "</s>", UNK: "<unk>"}
_CONTROL = re.compile(r"<pad>|</?s>|<unk>|<mask>|<extra_id_\d+>")
"""Tokens that a text never becomes, wherever in the vocabulary they stand."""
_LARGEST = 1 << 16  # ids are stored as uint16

SPACE = "▁"
RUNS_OF_SPACES = (2, 3, 4, 8, 12, 16)
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

# Unicode noncharacters, which no text may contain: they carry white space through a normalizer that
# would collapse it.
_NEWLINE, _TAB, _BLANK = "\ufdd0", "\ufdd1", "\ufdd2"

_CHUNK = 1000  # texts per call: measured to be fastest, and bounds memory

Ids = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of texts, each ending in EOS, and how much was lost."""

    ids: list[Ids]
    lengths: NDArray[np.int64]
    """Tokens of each text with EOS, before truncation."""
    truncated: int
    """How many texts were truncated."""
    unknown: int
    """How many tokens in `ids` are `<unk>`."""


def finished(rows: Iterable[Ids], limit: int) -> Encoded:
    """Truncates rows of ids without EOS to `limit` and appends EOS; counts what was lost."""
    if limit < 1:
        raise ValueError("limit must leave room for EOS")
    ids, lengths = [], []
    for found in rows:
        row = np.empty(min(len(found) + 1, limit), np.uint16)
        row[:-1] = found[: limit - 1]
        row[-1] = EOS
        ids.append(row)
        lengths.append(len(found) + 1)
    all_lengths = np.array(lengths, np.int64)
    unknown = int(np.count_nonzero(np.concatenate(ids) == UNK)) if ids else 0
    return Encoded(ids, all_lengths, int(np.count_nonzero(all_lengths > limit)), unknown)


class Tokenizer:
    """A T5-like tokenizer: Unigram, pad 0, eos 1, unk 2, at most 65,536 ids."""

    def __init__(self, document: dict[str, Any], *, added: Sequence[str] = ()) -> None:
        """`document` is a tokenizer.json that follows this module's conventions.

        `from_folder` creates it.
        """
        self._tokenizer = _build(document)
        self._tokenizer.encode_special_tokens = True
        self._text = _canonical(self._tokenizer)
        self._of_written: tokenizers.Tokenizer | None = None
        """The same without its normalizer, for texts normalised by `_written`: a third of the
        work."""
        if _keeps_plain_text(document.get("normalizer")):
            self._of_written = _build({**document, "normalizer": None})
            self._of_written.encode_special_tokens = True
        literals = [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]
        self._words = WordCache(lambda texts: _ids(self._of_written, [_written(text) for text in texts]), literals)
        self.added: tuple[str, ...] = tuple(added)
        """The tokens that the extension added to the vocabulary, in the order of their ids (the
        last ones)."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self._text, self.added)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
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
        except _NotT5Error as error:
            raise DataError(
                f"{path}: {error}", hint="raytrain trains T5, FLAN-T5 and models derived from them."
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

    def encode_batch(self, texts: Sequence[str], limit: int) -> list[Ids]:
        """Returns the ids of each text, at most `limit` with EOS at the end."""
        return self.encode_counted(texts, limit).ids

    def encode_counted(self, texts: Sequence[str], limit: int) -> Encoded:
        """Encodes like `encode_batch`, and counts truncated texts and unknown tokens."""
        return finished(self.encode_open(texts), limit)

    def encode_open(self, texts: Sequence[str]) -> list[Ids]:
        """Returns all ids of each text, without EOS."""
        ids: list[Ids] = []
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            plain = [self._of_written is not None and keeps(text) for text in chunk]
            kept = [text for text, is_plain in zip(chunk, plain, strict=True) if is_plain]
            others = [text for text, is_plain in zip(chunk, plain, strict=True) if not is_plain]
            found = iter(self._words.encode(kept)), iter(_ids(self._tokenizer, others))
            ids.extend(next(found[0] if is_plain else found[1]) for is_plain in plain)
        return ids

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

    def altered(self, texts: Iterable[tuple[Ids, str]]) -> int:
        """Returns how many of these texts differ from the text of their ids."""
        doubtful = [(ids, text) for ids, text in texts if not keeps(text)]
        back = self.decode_batch(ids.tolist() for ids, _ in doubtful)
        return sum(text != found for (_, text), found in zip(doubtful, back, strict=True))

    def files(self) -> dict[str, bytes]:
        """Returns the files of a Hugging Face tokenizer folder, always with the same bytes."""
        special = [t.content for _, t in sorted(self._tokenizer.get_added_tokens_decoder().items()) if t.special]
        config = {
            # The generic class uses tokenizer.json as it is; T5Tokenizer builds its own
            # pre-tokenizer.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": _NAMES[PAD],
            "eos_token": _NAMES[EOS],
            "unk_token": _NAMES[UNK],
            "additional_special_tokens": [token for token in special if token not in _NAMES.values()],
            "split_special_tokens": True,  # keeps literals such as </s> in a text as text
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
        }
        return {
            "tokenizer.json": self._text.encode(),
            "tokenizer_config.json": (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode(),
        }

    def save(self, folder: Path) -> None:
        """Writes a folder that plain `AutoTokenizer.from_pretrained` loads to the same ids."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files().items():
            (folder / name).write_bytes(data)

    def check(self) -> None:
        """Raises unless printable ASCII is lossless and control literals stay text."""
        control = [t.content for t in self._tokenizer.get_added_tokens_decoder().values() if t.special]
        every = f"{PRINTABLE[:40]} {PRINTABLE[40:]}"
        probes = ["", *"\n\t ", every, *(f"a{c}a {c}{c} {c}a" for c in PRINTABLE), *(f"a{c}b {c} {c}" for c in control)]
        probes += [" a  b   c \n\n  d\t\te \n", "\n", " \n ", "a\n", *(" " * n + "a" + " " * n for n in range(1, 40))]
        forbidden = {self._tokenizer.token_to_id(c) for c in control}
        for probe in probes:
            ids = self._tokenizer.encode(probe, add_special_tokens=False).ids
            if forbidden.intersection(ids) or self.decode(ids) != probe:
                raise _NotT5Error(f"{probe!r} is not lossless (decodes as {self.decode(ids)!r})")


def keeps(text: str) -> bool:
    """Whether every tokenizer of this module is lossless for `text`.

    Printable ASCII, newlines and tabs.
    """
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _written(text: str) -> str:
    """Normalises a text for which `keeps` holds like `_normalizer`."""
    return text and SPACE + text.replace(" ", SPACE).replace("\n", f"\n{SPACE}").replace("\t", f"\t{SPACE}")


def _ids(tokenizer: tokenizers.Tokenizer | None, texts: list[str]) -> list[Ids]:
    if tokenizer is None or not texts:
        return []
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(encoding.ids, np.uint16) for encoding in encodings]


def _keeps_plain_text(normalizer: dict[str, Any] | None) -> bool:
    """Whether a result of `_normalizer` is known to change only white space of printable ASCII.

    Unicode's normal forms and T5's own map (`Precompiled`) change no ASCII character; of
    replacements, only those of white space are known.
    """
    if normalizer is None:
        return False
    inside = [step for step in normalizer["normalizers"] if not _is_ours(step)]
    steps = [part for step in inside for part in step.get("normalizers", [step])]
    return all(
        step["type"] in ("NFC", "NFD", "NFKC", "NFKD", "Precompiled")
        or (step["type"] == "Replace" and step["pattern"].get("Regex") in _WHITE)
        for step in steps
    )


def _is_ours(step: dict[str, Any]) -> bool:
    """Whether `_normalizer` added this step around the base's."""
    return step in (*_BEFORE, *_AROUND[0], *_AROUND[1], *_AFTER)


class _NotT5Error(Exception):
    """A tokenizer.json cannot be used; the message says why."""


def extend(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Extends a T5-like tokenizer.json by this module's conventions.

    Returns it and the tokens added.

    One that follows them already is returned with nothing added.
    """
    document = copy.deepcopy(document)
    vocabulary = _check_model(document)
    _take_in_added_tokens(document, vocabulary)
    special = [t["content"] for t in document["added_tokens"]]
    added: list[str] = []
    if document.get("pre_tokenizer") != _pre_tokenizer(special) or document.get("decoder") != _decoder():
        _check_pre_tokenizer(document.get("pre_tokenizer"))
        document["normalizer"] = _normalizer(document.get("normalizer"))
        document["pre_tokenizer"] = _pre_tokenizer(special)
        document["decoder"] = _decoder()
        added = _add_tokens(vocabulary)
    document["post_processor"] = _post_processor()
    document["truncation"] = document["padding"] = None
    if len(vocabulary) > _LARGEST:
        raise _NotT5Error(f"{len(vocabulary):,} tokens, at most {_LARGEST:,} are supported")
    return document, added


def _check_model(document: dict[str, Any]) -> list[Any]:
    model = document.get("model") or {}
    vocabulary = model.get("vocab")
    if model.get("type") != "Unigram" or not isinstance(vocabulary, list):
        raise _NotT5Error(f"not a T5 tokenizer: its model is {model.get('type')!r} instead of 'Unigram'")
    if model.get("byte_fallback"):
        raise _NotT5Error("not a T5 tokenizer: it uses byte fallback")
    for number, name in _NAMES.items():
        if len(vocabulary) <= number or vocabulary[number][0] != name:
            found = repr(vocabulary[number][0]) if len(vocabulary) > number else "nothing"
            raise _NotT5Error(f"not a T5 tokenizer: id {number} is {found} instead of {name!r}")
    if model.get("unk_id") != UNK:
        raise _NotT5Error(f"not a T5 tokenizer: its unknown token is {model.get('unk_id')} instead of {UNK}")
    return vocabulary


def _take_in_added_tokens(document: dict[str, Any], vocabulary: list[Any]) -> None:
    """Turns tokens added later into ordinary vocabulary entries with the same ids.

    Control tokens (pad, eos, unk, `<extra_id_0>` ...) stay special: in a text they are text.
    Special tokens that were added to the vocabulary, such as `[EVENT]`, are there to be used in
    texts.

    An added token splits a text before it is normalised, so white space around it would be lost.
    """
    kept = []
    for token in sorted(document.get("added_tokens") or [], key=lambda t: t["id"]):
        number, content = token["id"], token["content"]
        if number > len(vocabulary) or (number < len(vocabulary) and vocabulary[number][0] != content):
            raise _NotT5Error(f"its added token {content!r} has the id {number}, which does not fit the vocabulary")
        is_own = number == len(vocabulary) and not _CONTROL.fullmatch(content)
        if number == len(vocabulary):
            vocabulary.append([content.replace(" ", SPACE) if is_own else content, 0.0])
        if token["special"] and not is_own:
            kept.append({**token, "normalized": False})
    present = {token["content"] for token in kept}
    for number, name in _NAMES.items():
        if name not in present:
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            kept.append({"id": number, "content": name, **flags})
    document["added_tokens"] = sorted(kept, key=lambda t: t["id"])


def _check_pre_tokenizer(pre_tokenizer: dict[str, Any] | None) -> None:
    """Raises unless words are split at spaces and begin with `▁`.

    Else the vocabulary would not fit.
    """
    steps = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    kinds = [step.get("type") for step in steps]
    last = steps[-1]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
        raise _NotT5Error(f"not a T5 tokenizer: it splits words by {kinds}, not by Metaspace")
    if last.get("replacement", SPACE) != SPACE or last.get("split") is False or last.get("prepend_scheme") == "never":
        raise _NotT5Error("not a T5 tokenizer: its Metaspace does not begin every word with ▁")


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


_BEFORE = (_replace("\r\n", "\n"), _replace("\r", "\n"), _replace("\n", _NEWLINE), _replace("\t", _TAB))
_AROUND = ((_replace(" ", _BLANK),), (_replace(_BLANK, SPACE),))
_AFTER = (
    *(_replace(" ", SPACE), _replace(_NEWLINE, f"\n{SPACE}"), _replace(_TAB, f"\t{SPACE}")),
    {"type": "Prepend", "prepend": SPACE},
)
_WHITE = (r"\s+", r"\s{2,}", " +", " {2,}", r"[\n\t\r]")  # patterns that match only white space


def _normalizer(base: dict[str, Any] | None) -> dict[str, Any]:
    """Wraps the base's normalizer so that white space is carried past it and becomes tokens."""
    inside: list[dict[str, Any]] = []
    if base is not None:
        before, after = _AROUND if not _keeps_spaces(base) else ((), ())
        inside = [*before, base, *after]
    return {"type": "Sequence", "normalizers": [*_BEFORE, *inside, *_AFTER]}


def _keeps_spaces(normalizer: dict[str, Any]) -> bool:
    probe = "  a   b  "
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]], "byte_fallback": False}
    built = _build({"version": "1.0", "added_tokens": [], "normalizer": normalizer, "model": model})
    return built.normalizer is None or bool(built.normalizer.normalize_str(probe) == probe)


def _pre_tokenizer(special: Iterable[str]) -> dict[str, Any]:
    """Splits into extra spaces, newlines, tabs, first characters of control literals, and words."""
    literals = {re.sub(r"^<extra_id_\d+>$", "<extra_id_0>", token) for token in special if len(token) > 1}
    first = "".join(sorted({re.escape(token[0]) for token in literals}))
    rests = (re.escape(t[0]) + (r"extra_id_[0-9]+>" if t == "<extra_id_0>" else re.escape(t[1:])) for t in literals)
    control = f"(?={'|'.join(sorted(rests))})"
    plain = rf"[^{SPACE}\n\t{first}]"
    other = rf"(?!{control})[{first}]"
    pattern = rf"{SPACE}+(?={SPACE})|[\n\t]|{control}[{first}]|{SPACE}?(?:{plain}+|{other})+|{SPACE}"
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _decoder() -> dict[str, Any]:
    steps = [_replace(f"\n{SPACE}", "\n"), _replace(f"\t{SPACE}", "\t"), _replace(SPACE, " ")]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {"type": "Sequence", "decoders": [{"type": "Fuse"}, *steps, strip]}


def _post_processor() -> dict[str, Any]:
    end = {"SpecialToken": {"id": _NAMES[EOS], "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    token = {"id": _NAMES[EOS], "ids": [EOS], "tokens": [_NAMES[EOS]]}
    return {
        "type": "TemplateProcessing",
        "single": [first, end],
        "pair": [first, end, second, end],
        "special_tokens": {_NAMES[EOS]: token},
    }


def _add_tokens(vocabulary: list[Any]) -> list[str]:
    """Appends missing tokens and returns them.

    Characters get the lowest score, because they compete only with <unk>: text that could be
    encoded before keeps its tokens. A run of spaces gets the score of one space, so that it wins.
    """
    scores: dict[str, float] = dict(vocabulary)
    lowest = min(scores.values())
    space = scores.get(SPACE, lowest)
    scored = dict.fromkeys([SPACE, *PRINTABLE, "\n", "\t"], lowest) | {SPACE * n: space for n in RUNS_OF_SPACES}
    added = [piece for piece in scored if piece not in scores]
    vocabulary.extend([piece, scored[piece]] for piece in added)
    return added


@cache
def _restored(text: str, added: tuple[str, ...]) -> Tokenizer:
    """Unpickles a tokenizer: built once in a process, however many objects refer to it."""
    return Tokenizer(json.loads(text), added=added)


def _build(document: dict[str, Any]) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # the library raises bare Exception
        raise _NotT5Error(f"the tokenizers library refuses it: {error}") from None


def _canonical(tokenizer: tokenizers.Tokenizer) -> str:
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, sort_keys=True) + "\n"
