"""The secret that a client has to show, and whether it has."""

import hmac
import os
from pathlib import Path

from raytrain.serving.errors import RequestError
from raytrain_core.errors import UsageError

VARIABLE = "RAYTRAIN_SERVE_TOKEN"
"""Environment variable with the token of a server."""
MIN_CHARS = 16


def read_token(file: Path | None = None) -> str | None:
    """Returns the token from a file, or else from the environment; None if there is none.

    Raises UsageError for one that cannot be read, is short, or is not printable ASCII.
    """
    where = f"token file {file}" if file is not None else VARIABLE
    if file is not None:
        try:
            token = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"{where} cannot be read: {reason}", hint="Check the path of --token-file.") from None
    elif (found := os.environ.get(VARIABLE)) is not None:
        token = found.strip()
    else:
        return None
    if len(token) < MIN_CHARS or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"{where}: a token has at least {MIN_CHARS} characters, all of them printable ASCII without spaces",
            hint="For example the output of: openssl rand -hex 32",
        )
    return token


def check_token(header: str | None, token: str) -> None:
    """Raises RequestError 401 unless an Authorization header has the token.

    The comparison takes equally long wherever the two differ.
    """
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise RequestError(
            401,
            "unauthorized",
            "the token is missing" if not header else "the token is wrong",
            "Authorization",
            hint="Send the header Authorization: Bearer TOKEN.",
            headers={"WWW-Authenticate": "Bearer"},
        )
