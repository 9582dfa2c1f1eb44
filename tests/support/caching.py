"""A remote store for processes that share a cache."""

import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import cast

from raytrain_core.storage import LocalStore, Store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.local import part_file


class Remote:
    """Records each download in a file; if `deadly`, kills its process in the middle of one."""

    uri = "remote://"

    def __init__(self, folder: Path, notes: Path, deadly: bool = False) -> None:
        self._folder, self._notes, self._deadly = folder, notes, deadly

    def download(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        (self._notes / f"{key}-{os.getpid()}").touch()
        data = LocalStore(self._folder).get(key)
        with part_file(path, len(data)) as part:
            part.write_bytes(data[: len(data) // 2])
            if self._deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            part.write_bytes(data)


def fetch_all(remote: Remote, folder: Path, limit: int, digests: dict[str, str], start: Event) -> None:
    """Fetch every key of `digests` (key to sha256), as soon as all others are ready too."""
    start.wait()
    cache = Cache(folder, limit)
    for key, sha256 in digests.items():
        assert len(cache.fetch(cast(Store, remote), key, sha256).read_bytes()) > 0
