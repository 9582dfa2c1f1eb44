"""Notices that the settings file was changed, so that the operator can start again with it.

Kubernetes updates the file of a mounted ConfigMap within about a minute.
"""

import asyncio
import logging
from pathlib import Path

from raytrain.operator.settings import Settings
from raytrain_core.config.loader import ConfigError, load_config

POLL_SECONDS = 10.0
_log = logging.getLogger(__name__)


async def until_changed(path: Path) -> None:
    """Returns once the file differs from what it was and can be used; invalid ones are logged."""
    known = first = _content(path)
    while True:
        await asyncio.sleep(POLL_SECONDS)
        now = _content(path)
        if now in (known, None):
            continue
        known = now
        try:
            load_config(path, Settings)
        except ConfigError as error:
            _log.error("%s was changed, but is invalid, and the settings of before stay in force: %s", path, error)
            continue
        if now != first:
            return


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
