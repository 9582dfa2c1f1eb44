"""Makes untrusted text safe to show."""

import re

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
