"""Clauses of an answer that affirm something: a label in a negated clause is not named.

The words are those of the larger European languages; in Chinese, Japanese, Korean, Hindi and
Turkish the negating particles. A negation of another language is not recognized.
"""

from collections.abc import Callable

import regex

_WORDS = (
    "not no never nothing nobody neither nor none without hardly barely cannot isnt arent wasnt doesnt dont "
    "didnt cant wont non false wrong incorrect lacks lack fails opposite nicht kein keine keinen nie weder "
    "ohne ne pas jamais aucun sans nunca sin ni não nem sem mai nessun senza niet geen nooit zonder не нет ни "
    "без inte ej ikke ikkje bez değil नहीं मत"
)
_PARTICLES = r"[不没沒未無无]|非(?!常)|ない|ません|않|아니|지 못"
_NEGATION = regex.compile(rf"(?<!\w)(?:{'|'.join(_WORDS.split())})(?!\w)|\b\w+n't\b|{_PARTICLES}")
_PHRASES = regex.compile(r"\b(?:anything but|far from|rather than|instead of|opposed to)\b")
_CLAUSE = regex.compile(r"[.,;!?](?=\s|$)|[。，；！？、…\n]|\b(?:but)\b")


def affirmed(text: str, cut_labels: Callable[[str], tuple[str, set[int]]]) -> list[str]:
    """Returns the clauses without a negation, labels that contain one aside ("not relevant").

    A clause that is a negation alone refers to what was said before it: "positive? No."
    `cut_labels` removes the labels from a text.
    """
    clauses: list[str] = []
    for clause in _CLAUSE.split(_PHRASES.sub(" not ", text)):
        rest, labels = cut_labels(clause)
        if not _NEGATION.search(rest):
            clauses.append(clause)
        elif not labels and _NEGATION.fullmatch(rest.strip()) and regex.search(r"\w", "".join(clauses)):
            clauses.clear()
    return clauses
