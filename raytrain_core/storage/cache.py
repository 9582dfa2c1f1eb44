"""A cache of stored objects on a node's disk.

Downloaded once, verified, least recently used removed first.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from raytrain_core.errors import UsageError
from raytrain_core.storage.local import LocalStore
from raytrain_core.storage.store import CorruptError, NotFoundError, Store, sha256_of_file

DEFAULT_LIMIT_BYTES = 50 << 30
_IN_USE_SECONDS = 600.0  # a file returned more recently may not have been opened yet: it is kept


class Cache:
    """Files named by their sha256 in `folder`, shared by the processes of a node; pickles.

    The least recently used files are removed to keep the limit, but never one returned in the last
    ten minutes. So a working set larger than the limit can exceed it.
    """

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._verified: dict[str, tuple[int, int]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return Cache, (self.folder, self.limit_bytes)

    def fetch(self, store: Store, key: str, sha256: str) -> Path:
        """Returns a local file with exactly these contents; raises NotFoundError or CorruptError.

        Files of a local store are not copied; they are verified once in each process until they
        change.
        """
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise UsageError(f"{sha256!r} is not a sha256")
        if isinstance(store, LocalStore):
            return self._verify(store.path(key), sha256)
        path = self.folder / sha256[:2] / sha256
        if self._touch(path):
            return path
        (self.folder / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "locks" / f"{sha256}.lock"):  # one downloads; the others find its file
            if not self._touch(path):
                for left in path.parent.glob(f".{sha256}.*"):  # of a killed process: nobody else downloads now
                    left.unlink(missing_ok=True)
                store.download(key, path, sha256=sha256)
                self._make_room(keep=path)
        return path

    def _verify(self, path: Path, sha256: str) -> Path:
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"{path}: no such file") from None
        state = (stat.st_mtime_ns, stat.st_size)
        if self._verified.get(f"{path} {sha256}") != state:
            found = sha256_of_file(path)
            if found != sha256:
                raise CorruptError(f"{path}: its sha256 is {found}, expected {sha256}")
            self._verified[f"{path} {sha256}"] = state
        return path

    def _touch(self, path: Path) -> bool:
        """Marks a file as used now; returns whether it exists."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _make_room(self, keep: Path) -> None:
        with FileLock(self.folder / "locks" / "room.lock"):
            files = []
            for path in self.folder.glob("??/*"):
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    files.append((stat.st_mtime, stat.st_size, path))
            total = sum(size for _, size, _ in files)
            newest = time.time() - _IN_USE_SECONDS
            for used, size, path in sorted(files):
                if total <= self.limit_bytes or used > newest:
                    return
                if path != keep:
                    path.unlink(missing_ok=True)
                    (self.folder / "locks" / f"{path.name}.lock").unlink(missing_ok=True)
                    total -= size
