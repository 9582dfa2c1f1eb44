"""Scratch folders that are cleaned up even if their process is killed.

A process holds a lock (flock) on its scratch folder, which the kernel releases whenever the process
ends. `sweep` removes folders that nobody locks, even if their owner ran in another container of
this machine.
"""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from raytrain_core.errors import StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NAME = re.compile(r"raytrain-[a-z-]+-[0-9a-f]{32}\.scratch")


@contextmanager
def scratch(what: str, *, folder: Path | None = None, token: str | None = None) -> Iterator[Path]:
    """Yields a new empty folder in `folder` or the temporary folder; removed at the end.

    `what` (lower-case letters and dashes) becomes part of its name. With a `token` (32 hex digits),
    all users of the same token on this machine share one folder, and the last one removes it.
    Raises StorageError if there is no space or no permission.
    """
    parent = folder or Path(tempfile.gettempdir())
    path = parent / f"raytrain-{what}-{token or uuid4().hex}.scratch"
    if not _NAME.fullmatch(path.name):
        raise ValueError(f"{path.name} is not the name of a scratch folder")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        held = _make(path, shared=token is not None)
    except OSError as error:
        raise StorageError(f"{path}: cannot create a scratch folder: {error.strerror or error}") from None
    try:
        yield path
    finally:
        if token is None:
            shutil.rmtree(path, ignore_errors=True)
        os.close(held)
        if token is not None:
            _remove_unheld(path)


def sweep(*folders: Path) -> int:
    """Removes unlocked scratch folders in `folders` and the temporary folder; returns how many."""
    removed = 0
    for folder in {Path(tempfile.gettempdir()), *folders}:
        with suppress(OSError):  # missing, or no permission
            removed += sum(_remove_unheld(path) for path in list(folder.iterdir()) if _NAME.fullmatch(path.name))
    return removed


def full_disk(error: BaseException) -> StorageError | None:
    """Returns the error to show if `error` is that of a full disk; None for any other."""
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    where = error.filename or tempfile.gettempdir()
    return StorageError(
        f"{where}: {error.strerror}",
        hint="free space there, or point TMPDIR (and RAYTRAIN_CACHE) to a larger disk; "
        "in pods that is the volume scratch",
    )


def _make(path: Path, *, shared: bool) -> int:
    """Creates the folder and locks it until the returned descriptor is closed."""
    while True:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not shared:
                raise
        try:
            held = _open(path)
        except FileNotFoundError:  # swept before it was locked
            continue
        with suppress(OSError):  # no locks on this file system: `sweep` removes nothing there
            fcntl.flock(held, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.stat()):
                return held
        os.close(held)


def _remove_unheld(path: Path) -> bool:
    try:
        descriptor = _open(path)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.lstat()):
            return False  # removed and created again since it was opened: it belongs to another process
        shutil.rmtree(path, ignore_errors=True)
    except OSError:  # locked, or no locks on this file system: keep it
        return False
    finally:
        os.close(descriptor)
    return not path.exists()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
