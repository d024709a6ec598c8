"""Files that are either whole or absent: temporary file, fsync, rename."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; on success it takes the name `path` in one step.

    On any exception the temporary file is removed and `path` is as it was; a kill leaves it to `remove_leftovers`.
    sync: flush it to the disk before, so that a power failure harms it no more than a kill does.
    Raises OSError as the system reports it (a full disk, no permission), with `path` as the file's name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Process ids are not unique: those of containers that share a folder may be equal.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "wb") as handle:
            yield handle
            if sync:
                handle.flush()
                os.fsync(handle.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(part)):
            error.filename = str(path)
            error.filename2 = None
        raise
    if not sync:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes from `folder`, which nobody else may be writing to."""
    for part in folder.glob(".*.part"):
        if part.is_file():
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, sync: bool = True) -> None:
    """Write `content` to `path` atomically. sync: as for `replacing`."""
    with replacing(path, sync) as handle:
        handle.write(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode("utf-8"))
