"""The bodies of requests: their fields, and what is said where one is wrong."""

import json
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raytrain.serving.errors import RequestError, invalid
from raytrain_core.text import did_you_mean

MAX_TEXT_CHARS = 100_000
"""A text longer than this is refused before it is tokenized."""


class Body(BaseModel):
    """Base of all bodies: JSON types are taken as they are, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Ask(Body):
    """What all requests for answers have in common."""

    task: str | None = Field(
        default=None, description="Task whose template the text is put into; none: the text alone."
    )
    template: int | None = Field(default=None, ge=0, description="Number of the task's template, by default the first.")
    truncate: bool = Field(default=False, description="Leave out the end of a text that is too long, and say so.")
    model: str | None = Field(default=None, description="The run's name, `after` (the same) or `before`.")


class GenerateBody(Ask):
    """Body of /generate."""

    text: str = Field(description="The text.")
    max_new_tokens: int | None = Field(default=None, ge=1, description="Longest answer in tokens.")


class BatchBody(Ask):
    """Body of /generate/batch."""

    texts: list[str] = Field(min_length=1, description="The texts.")
    max_new_tokens: int | None = Field(default=None, ge=1, description="Longest answer in tokens.")


class CompletionBody(Ask):
    """Body of /v1/completions: OpenAI's, with what a greedy encoder-decoder can do."""

    prompt: str | list[str] = Field(description="A prompt, or several.")
    max_tokens: int | None = Field(default=None, ge=1, description="Longest answer in tokens.")
    temperature: Literal[0] | float | None = Field(default=None, description="0: decoding is greedy.")
    top_p: Literal[1] | float | None = Field(default=None, description="1.")
    n: Literal[1] | None = Field(default=None, description="1.")
    best_of: Literal[1] | None = Field(default=None, description="1.")
    stream: Literal[False] | None = Field(default=None, description="false.")
    echo: Literal[False] | None = Field(default=None, description="false.")
    logprobs: None = Field(default=None, description="null.")
    stop: None = Field(default=None, description="null.")
    suffix: None = Field(default=None, description="null.")
    presence_penalty: Literal[0] | float | None = Field(default=None, description="0.")
    frequency_penalty: Literal[0] | float | None = Field(default=None, description="0.")
    logit_bias: None = Field(default=None, description="null.")
    seed: int | None = Field(default=None, description="Without effect: decoding is deterministic.")
    user: str | None = Field(default=None, description="Without effect.")


_ONLY = {"temperature": 0, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
"""Numbers of /v1/completions that may have one value alone."""


class PlaygroundBody(Body):
    """Body of /api/generate, which the page sends."""

    task: str = Field(description="The task.")
    text: str = Field(description="The text.")
    template: int | None = Field(default=None, ge=0, description="Number of the task's template, by default the first.")
    models: list[Literal["before", "after"]] | None = Field(
        default=None, min_length=1, description="A list of before, after; by default those that the run has."
    )
    truncate: bool = Field(default=False, description="Leave out the end of a text that is too long, and say so.")


B = TypeVar("B", bound=Body)


def parse(content: bytes, kind: type[B]) -> B:
    """Reads a body; raises RequestError 400 that names the field that is wrong."""
    found = _json(content)
    if not isinstance(found, dict):
        raise invalid("the request body is not a JSON object", hint=f"Its fields are {', '.join(kind.model_fields)}.")
    try:
        body = kind.model_validate(found)
    except ValidationError as error:
        raise _refusal(error, kind) from None
    if isinstance(body, CompletionBody):
        _check_numbers(body)
    return body


def _json(content: bytes) -> Any:
    try:
        return json.loads(content, object_pairs_hook=_once_each, parse_constant=_no_constant)
    except RecursionError:
        raise invalid("the request body is nested too deeply") from None
    except UnicodeDecodeError:
        raise invalid("the request body is not UTF-8") from None
    except ValueError as error:
        raise invalid(f"the request body is not JSON: {error}") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise invalid("the field is given twice", double)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _refusal(error: ValidationError, kind: type[Body]) -> RequestError:
    """The first field that is wrong; how many more there are is said too."""
    errors = error.errors(include_url=False, include_context=False)
    top = errors[0]["loc"][0]
    first = max((one for one in errors if one["loc"][0] == top), key=lambda one: len(_path(one["loc"])))
    field, others = _path(first["loc"]), {one["loc"][0] for one in errors} - {top}
    more = f" ({len(others)} more fields are wrong)" if others else ""
    if first["type"] == "extra_forbidden":
        names = list(kind.model_fields)
        return invalid(
            f"there is no field {field!r}{did_you_mean(field, names)}{more}",
            field,
            hint=f"The fields are {', '.join(names)}.",
        )
    message = first["msg"][:1].lower() + first["msg"][1:]
    what = kind.model_fields[str(first["loc"][0])].description
    return invalid(f"{field}: {message}{more}", field, hint=what)


def _path(loc: tuple[int | str, ...]) -> str:
    """A field as it is written in JSON; pydantic adds the names of a union's members."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not path:
            path = part
        elif "[" not in part and part not in ("str", "float", "int", "bool", "none"):
            path += f".{part}"
    return path


def _check_numbers(body: CompletionBody) -> None:
    for name, only in _ONLY.items():
        value = getattr(body, name)
        if value is not None and value != only:
            raise invalid(f"{name}: decoding is greedy, so this can only be {only}", name, hint=f"Leave {name} out.")
