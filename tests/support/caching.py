"""A store that is not this machine's disk, for processes that share a cache."""

import os
import signal
from pathlib import Path

from raytrain_core.storage import LocalStore
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.local import part_file


class Remote:
    """Notes each download in a file of its own; slow enough to be met by others; with `deadly` it dies half-way."""

    uri = "remote://"

    def __init__(self, folder: Path, notes: Path, deadly: bool = False) -> None:
        self._folder, self._notes, self._deadly = folder, notes, deadly

    def download(self, key, path, *, sha256=None):
        (self._notes / f"{key}-{os.getpid()}").touch()
        data = LocalStore(self._folder).get(key)
        with part_file(path, len(data)) as part:
            part.write_bytes(data[: len(data) // 2])
            if self._deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            part.write_bytes(data)


def fetch_all(remote: Remote, folder: Path, limit: int, digests: dict[str, str], start) -> None:
    """Fetch every key of `digests` (key to sha256), as soon as all others are ready too."""
    start.wait()
    cache = Cache(folder, limit)
    for key, sha256 in digests.items():
        assert len(cache.fetch(remote, key, sha256).read_bytes()) > 0
