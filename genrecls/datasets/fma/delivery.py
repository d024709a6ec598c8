"""Bringing FMA's archives from their published address, or a mirror: fetched, verified, unpacked, removed."""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from genrecls.datasets import transfer
from genrecls.datasets.archive import BadArchive, is_zip, unpacked
from genrecls.datasets.loader import Progress
from genrecls.errors import ConfigError, GenreclsError
from genrecls.lock import Taken, exclusive

PUBLISHED = "https://os.unil.cloud.switch.ch/fma/"
"""Where the authors' README (github.com/mdeff/fma) says that the archives are."""
MIRROR = "GENRECLS_FMA_URL"
"""The environment variable that names another such address."""


@dataclass(frozen=True)
class Archive:
    """A published ZIP file. size, unpacked: about how many bytes it and its files take."""

    name: str
    sha1: str
    size: float
    unpacked: float

    @property
    def folder(self) -> str:
        """The folder that all its files lie in."""
        return self.name.removesuffix(".zip")


ARCHIVES = {
    "metadata": Archive("fma_metadata.zip", "f0df49ffe5f2a6008d7dc83c6915b31835dfe733", 342 * 2**20, 0.26e9),
    "small": Archive("fma_small.zip", "ade154f733639d52e35e32f5593efe5be76c6d70", 7.2 * 2**30, 7.2 * 2**30),
    "medium": Archive("fma_medium.zip", "c67b69ea232021025fca9231fc1c7c1a063ab50b", 22 * 2**30, 22 * 2**30),
    "large": Archive("fma_large.zip", "497109f4dd721066b5ce5e5f250ec604dc78939e", 93 * 2**30, 93 * 2**30),
}
"""Sums and sizes by the authors' README. MP3 hardly shrinks when it is packed."""

_CHUNK = 2**20


def tracks(folder: Path) -> Path:
    """The list of tracks, the one file that is needed of the metadata."""
    return folder / "fma_metadata" / "tracks.csv"


def audio(folder: Path, subset: str) -> Path:
    """Where the audio of a subset lies."""
    return folder / f"fma_{subset}"


def bring(folder: Path, subset: str, progress: Progress) -> bool:
    """Make `folder` hold the list of tracks and the audio of a subset; returns whether anything had to be done.

    An archive is fetched by way of a `.part` file that an interrupted transfer leaves to the next call, its SHA-1
    is compared with the published one, it is unpacked in one step and removed. One that lies in the folder whole,
    however it came there, is not fetched; one cut short is taken for the beginning of it. The address is
    `PUBLISHED`, or that of the environment variable `MIRROR`.
    Raises ConfigError for a mirror that is no address; GenreclsError where another process does the same, the disk
    has no room, the server does not deliver, or what it delivers is not the published archive.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / ".download.lock"):
            wanted = [ARCHIVES["metadata"]] if not tracks(folder).is_file() else []
            wanted += [ARCHIVES[subset]] if not audio(folder, subset).is_dir() else []
            _check_room(wanted, folder)
            for archive in wanted:
                _bring(archive, folder, progress)
            return bool(wanted)
    except Taken as error:
        raise GenreclsError(f"Another download to {folder} is under way: wait until it has ended.") from error
    except OSError as error:
        raise GenreclsError(
            f"FMA could not be written to {folder} ({error.strerror or error}): mend that, or choose another place "
            "with --res or --data-dir."
        ) from error


def _check_room(wanted: list[Archive], folder: Path) -> None:
    needed = 0.0
    for archive in wanted:
        path = folder / archive.name
        there = sum(each.stat().st_size for each in (path, transfer.part_of(path)) if each.is_file())
        needed += max(0.0, archive.size - there) + archive.unpacked
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise GenreclsError(
            f"The archives and their files take {needed / 1e9:.1f} GB more and {folder} has {free / 1e9:.1f} GB left: "
            "make room, or choose another place with --res or --data-dir."
        )


def _bring(archive: Archive, folder: Path, progress: Progress) -> None:
    target = folder / archive.folder
    if target.exists():
        raise GenreclsError(
            f"{target} is in the way of the files of {archive.name}: move it away and run the same command again."
        )
    path = folder / archive.name
    if not is_zip(path):
        if path.is_file():
            path.replace(transfer.part_of(path))
        _fetch(_address() + archive.name, path, progress)
    again = "run the same command again, or put the right one there by hand"
    if (found := _sha1(path, progress)) != archive.sha1:
        path.unlink()
        raise GenreclsError(
            f"{path} was not the published archive and is removed (its SHA-1 was {found}, not {archive.sha1}): {again}."
        )
    # All lies in a folder of the archive's name; of the metadata only the list of tracks is read.
    top = PurePosixPath(archive.folder)
    only = {top / "tracks.csv"} if archive is ARCHIVES["metadata"] else None

    def place(member: PurePosixPath) -> PurePosixPath | None:
        return member.relative_to(top) if member.is_relative_to(top) and (only is None or member in only) else None

    try:
        with unpacked(path, target, progress, place):
            pass
    except BadArchive as error:
        path.unlink()
        raise GenreclsError(f"{path} was of no use and is removed, since {error}: {again}.") from error
    path.unlink()


def _address() -> str:
    given = os.environ.get(MIRROR) or PUBLISHED
    if not re.match(r"https?://[^/\s]+", given):
        raise ConfigError(f"{MIRROR} must be an address such as {PUBLISHED}, not {given!r}.")
    return given.rstrip("/") + "/"


def _fetch(url: str, path: Path, progress: Progress) -> None:
    try:
        transfer.download(url, path, progress)
    except transfer.TransferError as error:
        raise GenreclsError(
            f"{url} could not be downloaded ({error}): run the same command again, which goes on where it was, or put "
            f"the file into {path.parent} by hand."
        ) from error


def _sha1(path: Path, progress: Progress) -> str:
    digest, done, size = hashlib.sha1(usedforsecurity=False), 0, path.stat().st_size
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(f"verifying {path.name}", done, size)
    return digest.hexdigest()
