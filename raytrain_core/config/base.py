"""The base class of every part of a job file and of the operator's settings."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from raytrain_core.errors import UsageError

ValueT = TypeVar("ValueT")


class SpecModel(BaseModel):
    """Base of the models: camelCase names in files, unknown fields refused, values immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # it may hold a secret
    )


def problem_text(error: UsageError) -> str:
    """Message and hint of an error in one line, for a list of problems."""
    if error.hint is None:
        return error.message
    hint = error.hint if error.hint.endswith("...") else error.hint.removesuffix(".")
    return f"{error.message}; {hint[:1].lower()}{hint[1:]}"


def checked_by(check: Callable[[ValueT], object]) -> AfterValidator:
    """Returns a field's validator: a UsageError of `check` becomes a problem of the field."""

    def validate(value: ValueT) -> ValueT:
        try:
            check(value)
        except UsageError as error:
            raise ValueError(problem_text(error)) from None
        return value

    return AfterValidator(validate)
