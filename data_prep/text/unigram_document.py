"""The tokenizer.json of a T5-like model, extended so that no text is lost.

`data_prep.text.unigram` says by which conventions.
"""

import copy
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers

from data_prep.text.tokenizer import EOS, PAD, PRINTABLE

NAMES = {PAD: "<pad>", EOS: "</s>"}
UNKNOWN = "<unk>"
_CONTROL = re.compile(r"<pad>|</?s>|<unk>|<mask>|<extra_id_\d+>")
"""Tokens that a text never becomes, wherever in the vocabulary they stand."""
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))

SPACE = "▁"
RUNS_OF_SPACES = (2, 3, 4, 8, 12, 16)

# Unicode noncharacters, which no text may contain: they carry white space through a normalizer that
# would collapse it.
_NEWLINE, _TAB, _BLANK = "\ufdd0", "\ufdd1", "\ufdd2"


class NotT5Error(Exception):
    """A tokenizer.json cannot be used; the message says why."""


def extend(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Extends a T5-like tokenizer.json by this module's conventions.

    Returns it and the tokens added.

    One that follows them already is returned with nothing added.
    """
    document = copy.deepcopy(document)
    vocabulary = _check_model(document)
    _take_in_added_tokens(document, vocabulary)
    falls_back = _fall_back_to_bytes(document["model"])
    literals = [*(token["content"] for token in document["added_tokens"]), *_literals(vocabulary)]
    added: list[str] = []
    splitting, decoder = _pre_tokenizer(literals), _decoder(falls_back=falls_back)
    if document.get("pre_tokenizer") != splitting or document.get("decoder") != decoder:
        _check_pre_tokenizer(document.get("pre_tokenizer"))
        document["normalizer"] = _normalizer(document.get("normalizer"))
        document["pre_tokenizer"], document["decoder"] = splitting, decoder
        added = _add_tokens(vocabulary)
    document["post_processor"] = _post_processor()
    document["truncation"] = document["padding"] = None
    return document, added


def _check_model(document: dict[str, Any]) -> list[Any]:
    model = document.get("model") or {}
    vocabulary = model.get("vocab")
    if model.get("type") != "Unigram" or not isinstance(vocabulary, list):
        raise NotT5Error(f"not a T5 tokenizer: its model is {model.get('type')!r} instead of 'Unigram'")
    if not isinstance(model.get("unk_id"), int):
        raise NotT5Error("not a T5 tokenizer: it has no unknown token")
    for number, name in _names(model).items():
        if len(vocabulary) <= number or vocabulary[number][0] != name:
            found = repr(vocabulary[number][0]) if len(vocabulary) > number else "nothing"
            raise NotT5Error(f"not a T5 tokenizer: id {number} is {found} instead of {name!r}")
    return vocabulary


def _names(model: Mapping[str, Any]) -> dict[int, str]:
    return {**NAMES, model["unk_id"]: UNKNOWN}


def _fall_back_to_bytes(model: dict[str, Any]) -> bool:
    """Turns on byte fallback where the vocabulary has a piece for every byte, as in mT5 and UMT5.

    sentencepiece writes what has no piece of its own as bytes; converters to tokenizer.json often
    leave that out, and text would be lost.
    """
    pieces = {piece for piece, _ in model["vocab"]}
    falls_back = pieces.issuperset(_BYTES)
    if model.get("byte_fallback") and not falls_back:
        raise NotT5Error("it uses byte fallback, but has no pieces for all bytes")
    if falls_back:
        model["byte_fallback"] = True
    return falls_back


def _literals(vocabulary: list[Any]) -> list[str]:
    """Returns the pieces that stand for no text, but are not marked as special (mT5, UMT5)."""
    found = [piece for piece, _ in vocabulary if piece.startswith((f"{SPACE}<extra_id_", *_BYTES[:1]))]
    return [re.sub(f"^{SPACE}", "", piece) for piece in found]


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
            raise NotT5Error(f"its added token {content!r} has the id {number}, which does not fit the vocabulary")
        is_own = number == len(vocabulary) and not _CONTROL.fullmatch(content)
        if number == len(vocabulary):
            vocabulary.append([content.replace(" ", SPACE) if is_own else content, 0.0])
        if token["special"] and not is_own:
            kept.append({**token, "normalized": False})
    present = {token["content"] for token in kept}
    for number, name in _names(document["model"]).items():
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
        raise NotT5Error(f"not a T5 tokenizer: it splits words by {kinds}, not by Metaspace")
    if last.get("replacement", SPACE) != SPACE or last.get("split") is False or last.get("prepend_scheme") == "never":
        raise NotT5Error("not a T5 tokenizer: its Metaspace does not begin every word with ▁")


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
    built = build({"version": "1.0", "added_tokens": [], "normalizer": normalizer, "model": model})
    return built.normalizer is None or bool(built.normalizer.normalize_str(probe) == probe)


def _pre_tokenizer(special: Iterable[str]) -> dict[str, Any]:
    """Splits into extra spaces, newlines, tabs, first characters of control literals, and words."""
    literals = {_family(token) for token in special if len(token) > 1}
    first = "".join(sorted({re.escape(token[0]) for token in literals}))
    rests = (re.escape(t[0]) + _REST.get(t, re.escape(t[1:])) for t in literals)
    control = f"(?={'|'.join(sorted(rests))})"
    plain = rf"[^{SPACE}\n\t{first}]"
    other = rf"(?!{control})[{first}]"
    pattern = rf"{SPACE}+(?={SPACE})|[\n\t]|{control}[{first}]|{SPACE}?(?:{plain}+|{other})+|{SPACE}"
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _family(token: str) -> str:
    """Returns one token for all that are written alike."""
    return _BYTES[0] if token in _BYTES else re.sub(r"^<extra_id_\d+>$", "<extra_id_0>", token)


_REST = {"<extra_id_0>": r"extra_id_[0-9]+>", _BYTES[0]: r"0x[0-9A-F]{2}>"}


def _decoder(*, falls_back: bool) -> dict[str, Any]:
    steps = [_replace(f"\n{SPACE}", "\n"), _replace(f"\t{SPACE}", "\t"), _replace(SPACE, " ")]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    bytes_first = [{"type": "ByteFallback"}] if falls_back else []
    return {"type": "Sequence", "decoders": [*bytes_first, {"type": "Fuse"}, *steps, strip]}


def _post_processor() -> dict[str, Any]:
    end = {"SpecialToken": {"id": NAMES[EOS], "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    token = {"id": NAMES[EOS], "ids": [EOS], "tokens": [NAMES[EOS]]}
    return {
        "type": "TemplateProcessing",
        "single": [first, end],
        "pair": [first, end, second, end],
        "special_tokens": {NAMES[EOS]: token},
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


def keeps_plain_text(normalizer: dict[str, Any] | None) -> bool:
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


def build(document: dict[str, Any]) -> tokenizers.Tokenizer:
    """Returns the library's tokenizer of a tokenizer.json; NotT5Error if it refuses it."""
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # the library raises bare Exception
        raise NotT5Error(f"the tokenizers library refuses it: {error}") from None
