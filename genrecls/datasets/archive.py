"""Unpacking archives that somebody else made."""

import errno
import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from genrecls.datasets.loader import Progress
from genrecls.errors import GenreclsError

_CHUNK = 2**20

Place = Callable[[PurePosixPath], PurePosixPath | None]
"""Where below the folder the member of that path goes; None leaves it packed."""


class BadArchive(GenreclsError):
    """An archive that cannot be trusted or read. The message is a clause that says what is wrong."""


def is_zip(path: Path) -> bool:
    """Whether `path` is a ZIP file that has its end: one cut off is none."""
    return path.is_file() and zipfile.is_zipfile(path)


def _as_it_is(path: PurePosixPath) -> PurePosixPath:
    return path


@contextmanager
def unpacked(archive: Path, folder: Path, progress: Progress, place: Place = _as_it_is) -> Iterator[Path]:
    """Unpack a ZIP file into a hidden folder beside `folder`, for the block to look at.

    When the block ends, the hidden folder takes the name `folder`, which must be free, in one step. On any
    exception, from here or from the block, it is removed. What a killed call left is removed first, so no two may
    run at once. Skipped: empty folders, `__MACOSX`, hidden files, and what `place` leaves out. Members may be packed
    by any method of Python's zipfile: deflate, bzip2 and LZMA, the last two of which some unzip programs refuse.
    Raises BadArchive for a file that is no ZIP or damaged, a path that is absolute or has "..", a link, a
    password, a name used twice; GenreclsError where the disk has no room for the unpacked files.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _unpack(archive, part, progress, place)
        yield part
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unpack(archive: Path, folder: Path, progress: Progress, place: Place) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted = [member for member in opened.infolist() if _wanted(member)]
            placed = [(member, place(PurePosixPath(member.filename))) for member in wanted]
            members = [(member, relative) for member, relative in placed if relative is not None]
            _check_room(sum(member.file_size for member, _ in members), folder.parent)
            folder.mkdir()
            for done, (member, relative) in enumerate(members, 1):
                path = folder / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as packed, open(path, "xb") as file:
                    _copy(packed, file)
                progress("unpacking", done, len(members))
    except (FileExistsError, NotADirectoryError) as error:
        raise BadArchive(f"two files in it are called {Path(error.filename).name!r}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError) as error:
        # ValueError: of a name that is not UTF-8, or an offset before the beginning.
        raise BadArchive(f"it is damaged or no ZIP file ({str(error).rstrip('.')})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # What the system says of an offset that no file has.
            raise
        raise BadArchive("it is damaged or no ZIP file (it points behind its end)") from error


def _copy(packed: IO[bytes], file: IO[bytes]) -> None:
    try:
        shutil.copyfileobj(packed, file, _CHUNK)
    except OSError as error:
        if error.errno is not None:
            raise
        raise zipfile.BadZipFile(str(error)) from error  # How bz2 says that its data are damaged.


def _wanted(member: zipfile.ZipInfo) -> bool:
    """Whether to unpack a member. Raises BadArchive where unpacking it could harm."""
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts:
        raise BadArchive(f"it holds the unsafe path {member.filename!r}")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise BadArchive(f"it holds the link {member.filename!r}")
    if member.flag_bits & 1:
        raise BadArchive(f"{member.filename!r} in it needs a password")
    return not (member.is_dir() or any(part.startswith(".") or part == "__MACOSX" for part in path.parts))


def _check_room(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise GenreclsError(
            f"The unpacked files take {size / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB left: make room and "
            "run the same command again."
        )
