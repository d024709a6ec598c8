"""An array on the disk while it is made: blocks, appended in their order to one file, and a record of each.

`array` grows in a folder of its own; `NNNNNN.json` is written when the block of that number is on the disk, and says
how long it is and what its maker noted of it. Whoever goes on after a kill cuts the array off behind the last block
that is recorded. Records are not flushed to the disk: one that a power failure spoils only has its block made again.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from genrecls import atomic, reading
from genrecls.lock import Taken, exclusive
from genrecls.reading import Damaged, field


class Assembly:
    """The blocks so far. To be had from `resumed`."""

    def __init__(self, folder: Path, file: FileIO, mine: Callable[[], bool], header: int) -> None:
        self._folder, self._file, self._mine, self._ends = folder, file, mine, [header]
        self.notes: list[Any] = []
        """What was noted of each block that was there, in their order."""
        size = os.fstat(file.fileno()).st_size
        while (found := self._record(len(self.notes))) is not None and self._ends[-1] + found["bytes"] <= size:
            self._ends.append(self._ends[-1] + found["bytes"])
            self.notes.append(found["note"])

    def keep(self, blocks: int) -> None:
        """Only the first so many blocks, and nothing behind them."""
        for number in range(blocks, len(self.notes)):
            self._record_path(number).unlink(missing_ok=True)
        del self.notes[blocks:], self._ends[blocks + 1 :]
        with atomic.named(self._path):
            self._file.truncate(self._ends[-1])

    def append(self, content: bytes, note: Any) -> None:
        """Add a block; note: JSON. Raises OSError with the array's name where the disk does not take it."""
        with atomic.named(self._path):
            self._write(content, self._ends[-1])
            os.fdatasync(self._file.fileno())
        atomic.write_bytes(self._record_path(len(self._ends) - 1), record(len(content), note), sync=False)
        self._ends.append(self._ends[-1] + len(content))

    def publish(self, path: Path, header: bytes) -> tuple[int, str]:
        """Put the header before the blocks, and the array in its place; returns its size in bytes and its SHA-256.

        Raises ValueError where the header is not as long as `resumed` was told, OSError where the disk does not take
        it.
        """
        if len(header) != self._ends[0]:
            raise ValueError(f"a header of {len(header)} bytes, where {self._ends[0]} are left free")
        with atomic.named(self._path):
            self._write(header, 0)
            os.fsync(self._file.fileno())
        self._file.seek(0)
        digest = hashlib.file_digest(self._file, "sha256").hexdigest()
        if not self._mine():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        os.replace(self._path, path)
        atomic.sync_folder(path.parent)
        return self._ends[-1], digest

    @property
    def sizes(self) -> list[int]:
        """The length of each block in bytes, in their order."""
        return [end - begin for begin, end in pairwise(self._ends)]

    @property
    def _path(self) -> Path:
        return self._folder / "array"

    def _record_path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.json"

    def _record(self, number: int) -> Any:
        """The record of a block, None where there is none that could be read."""
        try:
            content = reading.read_bytes(self._record_path(number), reading.LONGEST_JSON)
            found = reading.json_object(content)
            size = field(found, "bytes", int, low=0)
        except (FileNotFoundError, Damaged):
            return None
        return found if content == record(size, found.get("note")) else None

    def _write(self, content: bytes, at: int) -> None:
        self._file.seek(at)
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]


def record(size: int, note: Any) -> bytes:
    """The record of a block of so many bytes: JSON with a digest, for part of it may get lost. note: JSON."""
    described = {"bytes": size, "note": note}
    digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    return json.dumps({**described, "sha256": digest}).encode()


@contextmanager
def resumed(folder: Path, header: int) -> Iterator[Assembly]:
    """The array of this folder, with the blocks that are there already. header: bytes to be left free before them.

    Another process that still writes to the array, though it should not, goes on with a file that has no name any more.
    """
    with ExitStack() as stack:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            atomic.remove_leftovers(folder)
            try:
                mine = stack.enter_context(exclusive(folder / "array"))
                break
            except Taken:
                shutil.rmtree(folder)
        file = stack.enter_context(open(folder / "array", "r+b", buffering=0))
        yield Assembly(folder, file, mine, header)
