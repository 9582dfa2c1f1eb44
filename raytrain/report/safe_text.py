"""Makes untrusted text safe to show, and marks the words that agree with a reference."""

import difflib
import re
from typing import NamedTuple

CUT_MARK = " … [cut: {count:,} more characters]"
_INVISIBLE = {
    *range(0x202A, 0x202F),  # embeddings and overrides: they can turn the text around them
    *range(0x2066, 0x206A),  # isolates
    0x061C,
    0x200B,
    0x200E,
    0x200F,
    0x2028,
    0x2029,
    0xFEFF,
}
_UNSAFE = re.compile(
    "[" + "".join(map(chr, sorted(_INVISIBLE))) + "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
)
_WORDS = re.compile(r"\w+|[^\w\s]|\s+")


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures block
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"[U+{code:04X}]"


def readable(text: str, limit: int) -> str:
    """Cuts `text` to `limit` characters and replaces control characters.

    Those include invisible and bidirectional ones. Line breaks and tabs stay. A mark at the end
    says how many characters were cut.
    """
    text = text.replace("\r\n", "\n")
    cut = len(text) - limit
    shown = _UNSAFE.sub(_visible, text[:limit])
    return shown + CUT_MARK.format(count=cut) if cut > 0 else shown


class Span(NamedTuple):
    """A span of text that agrees with the reference, or does not."""

    text: str
    agrees: bool


def agreement(text: str, reference: str, *, exact: bool = False) -> list[Span]:
    """Splits `text` into spans whose words occur in `reference` in the same order, and the others.

    Case is ignored unless `exact`. White space between two agreeing words agrees as well. Joining
    the spans gives `text` back.
    """
    words = _WORDS.findall(text)
    keys = [w if exact else w.casefold() for w in words]
    expected = [w if exact else w.casefold() for w in _WORDS.findall(reference) if not w.isspace()]
    places = [i for i, w in enumerate(words) if not w.isspace()]
    matcher = difflib.SequenceMatcher(None, [keys[i] for i in places], expected, autojunk=False)
    agrees = [False] * len(words)
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            agrees[places[block.a + offset]] = True
    for i, word in enumerate(words):
        if word.isspace() and 0 < i < len(words) - 1:
            agrees[i] = agrees[i - 1] and agrees[i + 1]
    spans: list[Span] = []
    for word, good in zip(words, agrees, strict=True):
        if spans and spans[-1].agrees == good:
            spans[-1] = Span(spans[-1].text + word, good)
        else:
            spans.append(Span(word, good))
    return spans
