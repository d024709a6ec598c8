"""Which bytes a corpus is: the SHA-256 of every file, and the fingerprint of corpus and labels together."""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrecls import atomic, reading
from genrecls.datasets.index import Clip, Corpus
from genrecls.datasets.loader import Progress
from genrecls.lock import exclusive
from genrecls.reading import Damaged
from genrecls.tables import csv_text

UNREADABLE = "unreadable"
_COLUMNS = ("clip", "size", "mtime_ns", "sha256")
_SHA256 = re.compile("[0-9a-f]{64}")
_ABSENT = (-1, -1)
_SAVES, _FEW = 20, 64
"""While a corpus is read, its hashes are kept this many times, but not for fewer files than that at once."""


@dataclass(frozen=True)
class Manifest:
    """SHA-256 of each clip's file by clip id, in the order of ids ("unreadable" where it cannot be opened)."""

    sha256: dict[str, str]

    @property
    def digest(self) -> str:
        """One hash of all (clip id, SHA-256) pairs."""
        return hashlib.sha256(json.dumps(list(self.sha256.items())).encode()).hexdigest()


def fingerprint(corpus: Corpus, manifest: Manifest) -> str:
    """What a result depends on of a corpus: ids, bytes and labels, in the order of ids; no path, no date."""
    return hashlib.sha256(json.dumps(entries(corpus, manifest)).encode()).hexdigest()


def entries(corpus: Corpus, manifest: Manifest) -> list[list[str | None]]:
    """What the fingerprint is made of: id, SHA-256 of the file, genre, group and official split of each clip."""
    return [[c.id, manifest.sha256[c.id], c.genre, c.group, c.official_split] for c in corpus.clips]


def build(corpus: Corpus, res: Path, progress: Progress, verify: bool = False) -> Manifest:
    """Hash every file of the corpus.

    Hashes are kept below `res` and taken from there where a file's size and modification time are as they
    were; `verify` reads every file again. Those of clips that this corpus lacks are kept, too: a run that excludes
    genres makes the next one read nothing again. A process that is killed costs a twentieth of the reading.
    """
    root = str(corpus.root.resolve())
    named = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    kept = res / "manifests" / f"{corpus.name}-{named}.csv"
    place = kept.with_suffix(".json")
    known = {} if verify else _read(kept)
    stats = {clip.id: _stat(clip.path) for clip in corpus.clips}
    hashes = {clip.id: known.get((clip.id, *stats[clip.id])) for clip in corpus.clips}
    changed = [clip for clip in corpus.clips if hashes[clip.id] is None]
    placed = _root(place) == root
    if changed or not placed:
        with _locked(kept):  # Where that fails, it does before the files are read.
            atomic.remove_leftovers(kept.parent)
            if not placed:
                atomic.write_text(place, json.dumps({"root": root}) + "\n")
    if changed:
        step = max(_FEW, math.ceil(len(changed) / _SAVES))
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        try:
            for done, (clip, digest) in enumerate(zip(changed, pool.map(_hash, changed), strict=True), 1):
                hashes[clip.id] = digest
                if done % step == 0 or done == len(changed):
                    _keep(kept, hashes, stats)
                progress("reading files", done, len(changed))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C would otherwise wait for all files
    return Manifest({clip: digest for clip, digest in hashes.items() if digest is not None})


@dataclass(frozen=True)
class Remembered:
    """What is kept below a working folder of a corpus that was read. corpus: its name. root: where its files lay.

    sha256: by clip id, size and time of modification of a file.
    """

    corpus: str
    root: Path
    sha256: Mapping[tuple[str, int, int], str]

    def holds(self, clip: str, path: str, sha256: str) -> bool:
        """Whether the file of a clip, its path below the root, is there and not known to have another hash."""
        found = _stat(self.root / path)
        known = self.sha256.get((clip, *found), sha256)
        return known == sha256 and (sha256 == UNREADABLE or found != _ABSENT)


def remembered(res: Path) -> list[Remembered]:
    """Every corpus that is remembered, those whose place is not known or no folder any more left out."""
    made = []
    for place in sorted((res / "manifests").glob("*.json")):
        root = _root(place)
        if root is not None and os.path.isdir(root):  # noqa: PTH112, which says no of what is no path
            made.append(Remembered(place.stem.rpartition("-")[0], Path(root), _read(place.with_suffix(".csv"))))
    return made


def _root(place: Path) -> str | None:
    """Where a corpus lay, from the file that remembers it; None where there is none that could be read."""
    try:
        return reading.field(reading.json_object(reading.read_bytes(place)), "root", str)
    except (OSError, Damaged):
        return None


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return _ABSENT
    return (found.st_size, found.st_mtime_ns)


def _hash(clip: Clip) -> str:
    return file_sha256(clip.path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, or "unreadable" where it cannot be opened or read, or is a pipe, which would wait."""
    try:
        with reading.opened(path) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except (OSError, Damaged):
        return UNREADABLE


def _locked(kept: Path) -> AbstractContextManager[Any]:
    return exclusive(kept.parent / ".lock", waiting=lambda: None)


def _keep(kept: Path, hashes: Mapping[str, str | None], stats: Mapping[str, tuple[int, int]]) -> None:
    with _locked(kept):
        others = {key: digest for key, digest in _read(kept).items() if key[0] not in hashes}
        mine = {(clip, *stats[clip]): digest for clip, digest in hashes.items() if digest is not None}
        _write(kept, mine | others)


def _read(path: Path) -> dict[tuple[str, int, int], str]:
    try:
        rows = reading.csv_rows(reading.read_bytes(path, reading.LONGEST_TABLE), _COLUMNS)
        return {
            (clip, reading.number(size, "size", int), reading.number(time, "mtime_ns", int)): _checked(sha256)
            for clip, size, time, sha256 in rows
            if sha256 != UNREADABLE
        }
    except (FileNotFoundError, Damaged):
        return {}  # A damaged file costs no more than reading the corpus again.


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise Damaged(f"{sha256[:80]!r} is no SHA-256")
    return sha256


def _write(path: Path, hashes: dict[tuple[str, int, int], str]) -> None:
    atomic.write_text(path, csv_text([_COLUMNS, *([*key, digest] for key, digest in hashes.items())]))
