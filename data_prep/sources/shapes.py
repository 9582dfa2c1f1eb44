"""Turns rows of shapes that many data sets have into rows with the columns input and target.

The shapes: OpenAI `messages`, ShareGPT `conversations`, Alpaca `instruction`, `input`, `output`,
and the nested articles of SQuAD. The other columns of a row stay.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from data_prep.config import Format
from data_prep.sources.source_row import SourceRow

_Rows = Iterator[dict[str, Any]]

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "User"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "Assistant"),
    **dict.fromkeys(("system", "developer"), "System"),
}


class ShapeError(ValueError):
    """A row does not have the shape."""


def in_shape(rows: Iterable[SourceRow], shape: Format) -> Iterator[SourceRow]:
    """Yields the rows with `input` and `target`; one of another shape is a bad row."""
    convert = SHAPES[shape]
    for row in rows:
        if row.values is None:
            yield row
            continue
        try:
            for values in convert(row.values):
                yield SourceRow(row.number, values, events=row.events)
        except ShapeError as error:
            yield SourceRow(row.number, None, f"not {shape}: {error}")


def _messages(row: dict[str, Any]) -> _Rows:
    yield _conversation(row, "messages", "role", "content")


def _sharegpt(row: dict[str, Any]) -> _Rows:
    yield _conversation(row, "conversations", "from", "value")


def _conversation(row: dict[str, Any], column: str, role: str, text: str) -> dict[str, Any]:
    """The last answer is the target, and all that was said before it is the input."""
    turns = [_turn(one, role, text) for one in _list(row, column)]
    if not turns or turns[-1][0] != "Assistant":
        raise ShapeError(f"{column!r} does not end with an answer of the assistant")
    before = turns[:-1]
    if not before:
        raise ShapeError(f"{column!r} has nothing before the answer")
    alone = len(before) == 1 and before[0][0] == "User"
    said = before[0][1] if alone else "\n".join(f"{who}: {what}" for who, what in before)
    return row | {"input": said, "target": turns[-1][1]}


def _turn(one: Any, role: str, text: str) -> tuple[str, str]:
    if not isinstance(one, dict) or role not in one:
        raise ShapeError(f"a turn without {role!r}")
    who = _ROLES.get(str(one[role]).lower())
    if who is None:
        raise ShapeError(f"a turn of {one[role]!r}; known are {', '.join(sorted(_ROLES))}")
    said = one.get(text)
    if isinstance(said, list):  # parts, as of messages with images
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in said]
        said = None if None in parts else "".join(map(str, parts))
    if not isinstance(said, str):
        raise ShapeError(f"a turn whose {text!r} is no text")
    return who, said


def _alpaca(row: dict[str, Any]) -> _Rows:
    instruction, more, output = (row.get(key) for key in ("instruction", "input", "output"))
    if not isinstance(instruction, str) or not isinstance(output, str):
        raise ShapeError("it has no 'instruction' and 'output' of text")
    if more is not None and not isinstance(more, str):
        raise ShapeError("'input' is no text")
    yield row | {"input": f"{instruction}\n\n{more}" if more and more.strip() else instruction, "target": output}


def _squad(row: dict[str, Any]) -> _Rows:
    """A row for each question of an article; the answers are its references."""
    if "paragraphs" not in row:
        yield _question(row, row.get("context"), row)
        return
    for paragraph in _list(row, "paragraphs"):
        if not isinstance(paragraph, dict):
            raise ShapeError("a paragraph that is no object")
        for question in _list(paragraph, "qas"):
            if not isinstance(question, dict):
                raise ShapeError("a question that is no object")
            yield _question(question, paragraph.get("context"), {"title": row.get("title")})


def _question(question: dict[str, Any], context: Any, more: dict[str, Any]) -> dict[str, Any]:
    asked, answers = question.get("question"), question.get("answers")
    if not isinstance(asked, str) or not isinstance(context, str):
        raise ShapeError("it has no 'question' and 'context' of text")
    if isinstance(answers, dict):  # as the hub has it: {text: [...], answer_start: [...]}
        texts = answers.get("text")
    else:
        texts = [one.get("text") if isinstance(one, dict) else one for one in answers or []]
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise ShapeError("'answers' is no list of texts")
    return {
        **more,
        "id": question.get("id"),
        "question": asked,
        "context": context,
        "is_impossible": bool(question.get("is_impossible", not texts)),
        "input": f"question: {asked} context: {context}",
        "target": list(dict.fromkeys(texts)),
    }


def _list(row: dict[str, Any], column: str) -> list[Any]:
    found = row.get(column)
    if not isinstance(found, list):
        raise ShapeError(f"{column!r} is no list")
    return found


SHAPES: dict[Format, Callable[[dict[str, Any]], _Rows]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "squad": _squad,
}
