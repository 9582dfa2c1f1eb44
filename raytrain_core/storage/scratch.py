"""Folders for what is needed for a while only, which do not outlive a killed process for long.

Whoever uses such a folder holds a lock (flock) on it, which the kernel releases however the process
ends: what nobody holds belongs to nobody and `sweep` removes it, also if its owner was killed in
another container of this machine.
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
    """A new empty folder under `folder` (by default the folder for temporary files), removed at the end.

    `what` (lower-case letters and dashes) says in its name what it is for. With a `token` (32 hex
    digits) all who give the same one on this machine share one folder, and the last to leave
    removes it. StorageError if there is no room or no permission.
    """
    parent = folder or Path(tempfile.gettempdir())
    path = parent / f"raytrain-{what}-{token or uuid4().hex}.scratch"
    if not _NAME.fullmatch(path.name):
        raise ValueError(f"{path.name} is not the name of a scratch folder")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        held = _make(path, shared=token is not None)
    except OSError as error:
        raise StorageError(f"{path}: no folder for scratch files can be made: {error.strerror or error}") from None
    try:
        yield path
    finally:
        if token is None:
            shutil.rmtree(path, ignore_errors=True)
        os.close(held)
        if token is not None:
            _remove_unheld(path)


def sweep(*folders: Path) -> int:
    """Remove scratch folders that nobody holds under `folders` and the folder for temporary files; how many."""
    removed = 0
    for folder in {Path(tempfile.gettempdir()), *folders}:
        with suppress(OSError):  # not there, or not ours to read
            removed += sum(_remove_unheld(path) for path in list(folder.iterdir()) if _NAME.fullmatch(path.name))
    return removed


def full_disk(error: BaseException) -> StorageError | None:
    """What a person should hear if `error` is that of a full disk; None for any other."""
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    where = error.filename or tempfile.gettempdir()
    return StorageError(
        f"{where}: {error.strerror}",
        hint="make room there, or let TMPDIR (and RAYTRAIN_CACHE) name a larger disk; in pods it is the volume scratch",
    )


def _make(path: Path, *, shared: bool) -> int:
    """Make the folder and hold it, until the descriptor returned is closed."""
    while True:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not shared:
                raise
        try:
            held = _open(path)
        except FileNotFoundError:  # swept before we held it
            continue
        with suppress(OSError):  # a file system without locks: `sweep` then removes nothing either
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
            return False  # removed by another and made anew since it was opened: that one is somebody's
        shutil.rmtree(path, ignore_errors=True)
    except OSError:  # held, or no locks here: better keep it
        return False
    finally:
        os.close(descriptor)
    return not path.exists()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
