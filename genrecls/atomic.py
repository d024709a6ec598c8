"""Files that are either whole or absent: temporary file, fsync, rename."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, sync: bool = True, device: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; on success it takes the name `path` in one step.

    On any exception the temporary file is removed and `path` is as it was; a kill leaves it to `remove_leftovers`.
    sync: flush it to the disk before, so that a power failure harms it no more than a kill does.
    device: a device or a pipe, such as /dev/null or /dev/stdout, is written to as it is, because its user named it.
    Otherwise it is replaced like a file: among this tool's own files it is damage, and a pipe would have to be read.
    Raises OSError as the system reports it (a full disk, no permission), with `path` as the file's name.
    """
    if device and path.exists() and not path.is_file() and not path.is_dir():
        with named(path), open(path, "wb") as handle:
            yield handle
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
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
    if sync:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def check_writable(path: Path) -> None:
    """Raise OSError where `path`, which its user named, cannot be written, before the work whose result it is to hold.

    To be called before a write with `device`.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path):
        part = _part(path)
        part.touch()
        part.unlink()


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name the file in an OSError, which has another name or, of what shows when a file is closed, none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _part(path: Path) -> Path:
    # Process ids are not unique: those of containers that share a folder may be equal.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes from `folder`, which nobody else may be writing to."""
    for part in folder.glob(".*.part"):
        if part.is_file():
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, sync: bool = True, device: bool = False) -> None:
    """Write `content` to `path` atomically. sync, device: as for `replacing`."""
    with replacing(path, sync, device) as handle:
        handle.write(content)


def write_text(path: Path, content: str, device: bool = False) -> None:
    """Write `content` to `path` atomically, as UTF-8. device: as for `replacing`."""
    write_bytes(path, content.encode("utf-8"), device=device)
