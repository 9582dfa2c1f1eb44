"""A store in a local folder.

A write goes to a temporary file, is synced and read back, then renamed.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from raytrain_core.errors import StorageError
from raytrain_core.storage.keys import LEFTOVERS, check_key, check_prefix
from raytrain_core.storage.store import (
    CHUNK,
    AlreadyExistsError,
    CorruptError,
    NotFoundError,
    Stat,
    Stored,
    sha256_of,
    sha256_of_file,
)

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class LocalStore:
    """A store in the folder `root`, which the first write creates."""

    root: Path

    @property
    def uri(self) -> str:
        """file:///absolute/path."""
        return self.root.as_uri()

    def path(self, key: str) -> Path:
        """Returns the file of `key`."""
        return self.root / check_key(key)

    def get(self, key: str) -> bytes:
        """Returns the bytes of the file."""
        path = self.path(key)
        with _as_storage_error("read", path):
            return path.read_bytes()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Writes, syncs, reads back, and renames.

        With `if_absent`, links, which fails if the key exists.
        """

        def write(file: BinaryIO) -> None:
            file.write(data)

        self._write(self.path(key), write, len(data), sha256_of(data), if_absent=if_absent)

    def upload(self, key: str, path: Path, *, if_absent: bool = False) -> Stored:
        """Copies the file like `put`."""
        target = self.path(key)
        if if_absent and target.exists():  # saves the copy; the link decides
            raise AlreadyExistsError(f"{target}: exists already")
        with _as_storage_error("read", path):
            size = path.stat().st_size
            sha256 = sha256_of_file(path)

        def write(file: BinaryIO) -> None:
            with path.open("rb") as source:
                shutil.copyfileobj(source, file, CHUNK)

        self._write(target, write, size, sha256, if_absent=if_absent)
        return Stored(key, size, sha256)

    def download(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Copies and verifies the file, and names it only when it is complete."""
        source = self.path(key)
        with _as_storage_error("read", source):
            size = source.stat().st_size
            if source.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder")
        with part_file(path, size) as part:
            shutil.copyfile(source, part)
            found = sha256_of_file(part)
            if sha256 is not None and found != sha256:
                raise CorruptError(f"{source}: its sha256 is {found}, expected {sha256}")

    def stat(self, key: str) -> Stat | None:
        """Size and a tag of modification time, size and inode."""
        path = self.path(key)
        try:
            with _as_storage_error("read", path):
                return _stat(key, path)
        except NotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yields all files whose key starts with `prefix`."""
        check_prefix(prefix)
        top = self.root / prefix.rpartition("/")[0]
        found = []
        for folder, folders, names in os.walk(top):
            if Path(folder) == self.root and LEFTOVERS in folders:
                folders.remove(LEFTOVERS)
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self.root).as_posix()
                if key.startswith(prefix):
                    with suppress(FileNotFoundError):  # removed meanwhile
                        found.append(_stat(key, path))
        yield from sorted(found, key=lambda stat: stat.key)

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes the files, and folders that are empty then."""
        for key in keys:
            path = self.path(key)
            with _as_storage_error("delete", path), suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            for folder in path.parents:
                if folder == self.root:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break

    def sweep(self) -> int:
        """Removes unfinished files of killed writers (live ones hold a lock); returns how many."""
        removed = 0
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in (self.root / LEFTOVERS).iterdir():
                with suppress(OSError), path.open("rb") as file:  # no locks on this file system: keep it
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    removed += 1
        return removed

    def _write(
        self, target: Path, write: Callable[[BinaryIO], None], size: int, sha256: str, *, if_absent: bool
    ) -> None:
        with _as_storage_error("write", target, needed=size), self._unfinished() as (part, file):
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if part.stat().st_size != size or sha256_of_file(part) != sha256:
                raise CorruptError(
                    f"{target}: read back different bytes than were written",
                    hint="The disk may be failing, or the source changed while it was copied.",
                )
            _name(part, target, if_absent=if_absent)

    @contextmanager
    def _unfinished(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Yields a new temporary file, locked against `sweep` and removed at the end."""
        folder = self.root / LEFTOVERS
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / uuid4().hex
            with part.open("xb") as file:
                with suppress(OSError):  # no locks on this file system: `sweep` removes nothing there
                    fcntl.flock(file, fcntl.LOCK_SH)
                if os.fstat(file.fileno()).st_nlink == 0:  # swept between open and lock
                    continue
                try:
                    yield part, file
                finally:
                    part.unlink(missing_ok=True)
                return


@contextmanager
def part_file(path: Path, size: int) -> Iterator[Path]:
    """Yields a temporary name next to `path`.

    It becomes `path` if the block succeeds, else it is removed.
    """
    part = path.with_name(f".{path.name[:100]}.{uuid4().hex}.part")
    with _as_storage_error("write", path, needed=size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _name(part: Path, target: Path, *, if_absent: bool) -> None:
    """Renames the finished file durably."""
    for last in (False, False, True):
        _make_folders(target.parent)
        try:
            if if_absent:
                os.link(part, target)
            else:
                part.replace(target)
            break
        except FileExistsError:
            raise AlreadyExistsError(f"{target}: exists already") from None
        except FileNotFoundError:  # a concurrent delete removed the empty folder
            if last:
                raise
    _fsync_folder(target.parent)


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _fsync_folder(folder.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stat(key: str, path: Path) -> Stat:
    stat = path.stat()
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "not a file")
    return Stat(key, stat.st_size, f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}", stat.st_mtime)


@contextmanager
def _as_storage_error(verb: str, path: Path, *, needed: int = 0) -> Iterator[None]:
    """Turns errors of the operating system into a StorageError that names the path."""
    try:
        yield
    except FileNotFoundError:
        if verb == "read":
            raise NotFoundError(f"{path}: no such file") from None
        raise StorageError(f"{path}: cannot {verb}: the folder disappeared") from None
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        if verb == "read":
            raise NotFoundError(f"{path}: no such file") from None
        raise StorageError(f"{path}: cannot {verb}: a file and a folder have the same name") from None
    except PermissionError:
        raise StorageError(f"{path}: no permission to {verb} here") from None
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"{path}: disk full: {_free(path):,} bytes free, {needed:,} needed",
                hint="Free some space or choose another storage folder.",
            ) from None
        raise StorageError(f"{path}: cannot {verb}: {error.strerror or error}") from error


def _free(path: Path) -> int:
    for folder in path.parents:
        if folder.is_dir():
            return shutil.disk_usage(folder).free
    return 0
