"""Words of a text in any script, with the signs that carry a meaning."""

import regex

from raytrain.evaluation.answers.normal import fold, normalize_answer

# Scripts that do not separate words.
_UNSPACED = regex.compile(
    r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Line_Break=Complex_Context}]\p{M}*", regex.V1
)


def space_characters(text: str) -> str:
    """Puts blanks around each character of a script that does not separate words."""
    return text if text.isascii() else str(_UNSPACED.sub(r" \g<0> ", text))


def words(text: str) -> list[str]:
    """Returns the words of a short answer in their plain form: `C#`, `-5`, `well-known`."""
    return [normalize_answer(word) for word in space_characters(fold(text)).split()]
