"""One process at a time: an advisory lock that the system frees when its holder dies, however it dies."""

import fcntl
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
        with open(path, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def exclusive(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path` (made if need be) for the length of the block.

    waiting: called once before waiting for another holder; without it Taken is raised instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                _once_more(handle, path)
            else:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _once_more(handle: BinaryIO, path: Path) -> None:
    """Take the lock if it was only looked at when it was tried first. Raises Taken where it is held."""
    time.sleep(_GLANCE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Taken(str(path)) from None
