"""Which option an answer to a multiple-choice question names."""

from collections.abc import Sequence

import regex

from data_prep.tasks.task_types import letter
from raytrain.evaluation.answers.normal import fold, normalize_answer

# Such as "the correct answer is" or "option".
_LEAD_IN = regex.compile(r"^(?:the )?(?:(?:correct|right|best) )?(?:answer|option|choice)\b(?: is\b)?\s*[:=]?\s*")
# b, (b), [b], b), "b." or "b:", alone or before the option's text
_LETTER = regex.compile(r"(?:\((?P<name>[a-z])\)|\[(?P<name>[a-z])\]|(?P<name>[a-z])[).:]?)[.:]?(?:\s+(?P<text>.+))?")


def letter_named(answer: str) -> tuple[str, str] | None:
    """Returns letter and remaining text of an answer in an option's form: "b. Paris" is (b, paris).

    None for any other form. Case is ignored, and so is a lead-in such as "The answer is".
    """
    plain = normalize_answer(answer)
    for text in (plain, fold(answer), normalize_answer(_LEAD_IN.sub("", plain)), _LEAD_IN.sub("", fold(answer))):
        if found := _LETTER.fullmatch(text):
            return found["name"], normalize_answer(found["text"] or "")
    return None


def choice_named(answer: str, choices: Sequence[str]) -> int | None:
    """Returns the index of the one option that `answer` names; None for none or several.

    An option is named by its letter, by letter and text, or by its text if no other option has the
    same text or this letter.
    """
    texts = [normalize_answer(choice) for choice in choices]
    if (named := letter_named(answer)) is not None:
        index = ord(named[0]) - ord("a")
        if index < len(choices) and named[1] in ("", texts[index]):
            return index
    plain = normalize_answer(answer)
    for text in (plain, normalize_answer(_LEAD_IN.sub("", plain))):
        if texts.count(text) == 1 and not _is_letter(text, len(choices)):
            return texts.index(text)
    return None


def _is_letter(text: str, count: int) -> bool:
    return text in {normalize_answer(letter(index)) for index in range(count)}
