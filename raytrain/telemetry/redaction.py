"""Keeps secrets of the environment out of everything that a run writes about itself."""

import os
import re
from typing import Any

_SECRET_NAME = re.compile(r"(SECRET|PASSWORD|TOKEN|ACCESS_KEY|API_KEY)$")
_MIN_LENGTH = 8  # characters; shorter values occur in ordinary text


def mask_secrets(text: str) -> str:
    """Replaces the values of environment variables that hold secrets by ***."""
    secrets = [value for name, value in os.environ.items() if len(value) >= _MIN_LENGTH and _SECRET_NAME.search(name)]
    for secret in sorted(secrets, key=len, reverse=True):  # one may be a prefix of another
        text = text.replace(secret, "***")
    return text


def masked(value: Any) -> Any:
    """Returns plain data with secrets in its texts masked."""
    if isinstance(value, dict):
        return {name: masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return mask_secrets(value) if isinstance(value, str) else value
