"""Refusals of a request: what is wrong, in which field, and what to do about it, as JSON."""

import dataclasses
from typing import Any


@dataclasses.dataclass(slots=True)
class RequestError(Exception):
    """A request that is not answered; becomes a JSON error with this HTTP status."""

    status: int
    type: str
    """The kind of error in one word: invalid_request, not_found, unauthorized, overloaded, ..."""
    message: str
    field: str | None = None
    """The field of the request that is wrong, for example `texts[3]`."""
    hint: str | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Returns the body of the response."""
        return {"error": {"type": self.type, "message": self.message, "field": self.field, "hint": self.hint}}


def invalid(message: str, field: str | None = None, *, hint: str | None = None) -> RequestError:
    """Returns a refusal with status 400."""
    return RequestError(400, "invalid_request", message, field, hint)


def overloaded(seconds: int, waiting: int) -> RequestError:
    """Returns the refusal of a full queue: status 429, to be tried again after so many seconds."""
    return RequestError(
        429,
        "overloaded",
        f"the queue has no room for it: {waiting} prompts are not answered yet",
        hint=f"Try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )


def unavailable(message: str, *, hint: str | None = None) -> RequestError:
    """Returns a refusal with status 503: not now."""
    return RequestError(503, "unavailable", message, hint=hint, headers={"Retry-After": "1"})
