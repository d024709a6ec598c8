"""One process at a time: an advisory lock that the system frees when its holder dies, however it dies."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_GLANCE = 0.05
"""Seconds after which whoever only looked (`held`) has long let go."""


class Taken(Exception):
    """Another process holds the lock."""


def held(path: Path) -> bool:
    """Whether a process holds the lock file `path`, which is not made. Raises OSError where it cannot be opened."""
    try:
        with _opened(path, os.O_RDONLY) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def exclusive(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[Callable[[], bool]]:
    """Hold the lock file `path` (made if need be) for the length of the block.

    The block gets a function that says whether it is still so: whoever removes the file lets others in.
    waiting: called once before waiting for another holder; without it Taken is raised instead.
    Raises OSError with `path` in it where the file cannot be made, is no file, or its file system has no locks.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as handle:
            try:
                if not _take(handle):
                    if waiting is None:
                        _take_after_a_glance(handle, path)
                    else:
                        waiting()
                        waiting = _silence
                        fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                error.filename = str(path)
                raise
            if _same(handle, path):  # Else it was removed while this process waited for it.
                yield lambda: _same(handle, path)
                return


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[BinaryIO]:
    """Open a lock file without waiting, as for a pipe of its name. Raises FileExistsError where it is no file."""
    with open(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), "rb") as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        yield handle


def _take(handle: BinaryIO) -> bool:
    """Take the lock if nobody holds it; whether that was so."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_after_a_glance(handle: BinaryIO, path: Path) -> None:
    """Take the lock if it was only looked at when it was tried first. Raises Taken where it is held."""
    time.sleep(_GLANCE)
    if not _take(handle):
        raise Taken(str(path))


def _same(handle: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except OSError:
        return False


def _silence() -> None:
    """What is said only once is not said again."""
