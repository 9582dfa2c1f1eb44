"""The plain form of a short answer, which keeps every sign that may carry a meaning.

Only what is decoration at the ends is dropped: `The Hague.` is `the hague`, but -5 is not 5, C# is
not C, and 3.14 is not "3 14". SQuAD's normalization drops all punctuation; see `metrics.squad`.
"""

import unicodedata

import regex

# Characters whose compatibility form has another meaning: 10² is not 102, nor 1½ "11/2".
_KEPT_FORMS = ("<super>", "<sub>", "<fraction>")

_INVISIBLE = regex.compile(r"[[\p{Cf}--[\u200c\u200d]]\ufe0e\ufe0f]", regex.V1)  # joiners are part of some words
_VARIANTS = str.maketrans({**dict.fromkeys("‐‑‒–—―−", "-"), **dict.fromkeys("‘’‚‛", "'"), **dict.fromkeys("“”„‟", '"')})

# Sentence marks at the end. `!` and `?` only after a word: 5! and n! are factorials.
_END_MARK = regex.compile(r"(?:[\p{Terminal_Punctuation}--[!?]]|(?<=\p{L}\p{L}[!?]*)[!?])$", regex.V1)
_QUOTED = regex.compile(
    r"""(["'`]|\*\*)(?=.*\p{L})(?P<inside>(?:(?!\1).)+)\1|«\s*(?P<inside>[^«»]+?)\s*»""", regex.DOTALL
)
_WORD = regex.compile(r"[\p{L}\p{N}]")
_BRACKETED = regex.compile(r"\((?P<inside>\w+)\)")


def fold(text: str) -> str:
    """Removes what never has a meaning: case, extra white space, typographic and width variants.

    Unicode's compatibility form (NFKC), except for superscripts, subscripts and fractions; dashes
    and the minus sign become `-`, curly quotes straight ones; invisible characters are dropped.
    """
    forms = (
        c if unicodedata.decomposition(c).startswith(_KEPT_FORMS) else unicodedata.normalize("NFKC", c) for c in text
    )
    plain = unicodedata.normalize("NFC", "".join(forms)).translate(_VARIANTS)
    return " ".join(_INVISIBLE.sub("", plain).casefold().split())


def normalize_answer(text: str) -> str:
    """Returns `fold(text)` without decoration at its ends: " (B). " becomes "b".

    Decoration is a final sentence mark, quotes or `**` around a text with a letter, and round
    brackets around one word. Nothing inside a text is dropped, and a text of signs alone stays.
    """
    folded = fold(text)
    if not _WORD.search(folded):
        return folded
    while (bare := _undecorated(folded)) and bare != folded:
        folded = bare
    return folded


def _undecorated(text: str) -> str:
    if enclosed := _QUOTED.fullmatch(text) or _BRACKETED.fullmatch(text):
        return str(enclosed["inside"]).strip()
    return str(_END_MARK.sub("", text)).strip()
