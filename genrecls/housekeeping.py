"""Which caches below `res/cache` are still needed, and by whom; removing the others. Nothing here needs PyTorch.

A complete cache of this version is needed where its corpus is at hand: its files are where they were when they were
read, and none is known to have changed since. A complete cache of any version, or a half-built one, is needed where a
run was made with it or is to go on with it. What is damaged or in the way of being built anew is needed by nobody.

Runs are known by their records. One whose record cannot be read may need any cache of its corpus.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genrecls import cachefiles, manifest, reading
from genrecls.cachefiles import SCHEMA, Row
from genrecls.config import EXTRACTOR_VERSION, WAVE_VERSION
from genrecls.datasets.loader import DATASETS
from genrecls.errors import GenreclsError
from genrecls.lock import Taken, exclusive, held
from genrecls.manifest import Remembered
from genrecls.reading import Damaged, field, optional
from genrecls.run import Run

COMPLETE, OLD, HALF = "complete", "of another version", "half-built"
BUILT, DAMAGED, CLOSED = "being built", "damaged", "unreadable"
_NAME = re.compile(r"(?P<corpus>.+)-(?P<key>[0-9a-f]{16})")
_OWN = re.compile(r"\.lock|\.verified\.json|parts|cache\.json|index\.csv|[a-z]+\.npy|\..*\.part")
"""What this tool puts into a cache's folder."""
_TRACES = (".lock", "config.toml", "run.json")
"""A folder with none of these is no run."""


@dataclass(frozen=True)
class Shelved:
    """A folder of a cache.

    corpus: its name. kind: of the array, with the variant where it is of one; "" where that is not known. clips: None
    where that is not known. size: bytes of all its files. status: complete, of another version, half-built, being built
    (a process holds its lock), damaged, or unreadable (the system does not let us, which is no reason to remove it).
    needed: by whom, in words; "" where by nobody. reason: of one that is damaged or unreadable.
    """

    place: Path
    corpus: str
    kind: str
    clips: int | None
    size: int
    status: str
    needed: str = ""
    reason: str = ""

    def values(self) -> dict[str, Any]:
        """The fields of `cache list --json`."""
        return {
            "cache": str(self.place),
            "corpus": self.corpus,
            "kind": self.kind or None,
            "clips": self.clips,
            "bytes": self.size,
            "status": self.status,
            "needed": self.needed or None,
            "reason": self.reason or None,
        }


@dataclass(frozen=True)
class Unclear:
    """A run whose needs are not known, and why."""

    run: Path
    reason: str


@dataclass(frozen=True)
class Shelf:
    """All caches below a folder. foreign: folders and files there that are none. unclear: runs that may need any."""

    caches: list[Shelved]
    foreign: list[Path]
    unclear: list[Unclear]

    @property
    def spare(self) -> list[Shelved]:
        """The caches that nobody needs."""
        return [each for each in self.caches if not each.needed]


@dataclass(frozen=True)
class Pruned:
    """What `prune` did. removed: with what each was. failed: those that the system did not let go, with its reason."""

    removed: list[Shelved]
    failed: list[tuple[Shelved, str]]

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(each.size for each in self.removed)


@dataclass(frozen=True)
class _Needs:
    """What a run needs.

    keys: of caches. arrays: SHA-256 of those that it was trained on, variants among them. variants_of: the corpus whose
    variants an unfinished run may need, "" where none.
    """

    run: str
    keys: frozenset[str]
    arrays: frozenset[str]
    variants_of: str = ""


@dataclass(frozen=True)
class _Content:
    """What the files of a cache say. rows: of a complete one of this version."""

    status: str
    kind: str = ""
    clips: int | None = None
    variant: bool = False
    sha256: str = ""
    rows: tuple[Row, ...] = ()
    reason: str = ""


def shelf(res: Path, runs: Path) -> Shelf:
    """Look at every cache below `res`, for the runs directly below `runs`."""
    needs, unclear = _needs(runs)
    known = manifest.remembered(res)
    caches, foreign = [], []
    for place in sorted((res / "cache").iterdir()) if (res / "cache").is_dir() else []:
        found = _NAME.fullmatch(place.name)
        if found is None or place.is_symlink() or not place.is_dir() or not _own(place):
            foreign.append(place)
            continue
        content = _content(place)
        made = Shelved(
            place, found["corpus"], content.kind, content.clips, _size(place), content.status, reason=content.reason
        )
        caches.append(replace(made, needed=_needed(made, content, needs, unclear, known)))
    return Shelf(caches, foreign, unclear)


def prune(found: Shelf, say: Callable[[str], None]) -> Pruned:
    """Remove the caches that nobody needs. say: is told of one that a process has taken since.

    One is removed under its lock, its `cache.json` first: a killed removal leaves a half-built cache.
    """
    removed, failed = [], []
    for each in found.spare:
        try:
            with exclusive(each.place / ".lock"):
                if (each.place / "cache.json").exists() == (each.status == HALF):
                    say(f"{each.place} was built by another process meanwhile and stays.")
                    continue
                (each.place / "cache.json").unlink(missing_ok=True)
                shutil.rmtree(each.place)
            removed.append(each)
        except Taken:
            say(f"{each.place} is being built by another process and stays.")
        except OSError as error:
            failed.append((each, error.strerror or str(error)))
    return Pruned(removed, failed)


def _own(place: Path) -> bool:
    """Whether there is nothing in a folder but what this tool puts there."""
    try:
        return all(_OWN.fullmatch(each.name) for each in place.iterdir())
    except OSError:
        return False


def _size(place: Path) -> int:
    total = 0
    for path in place.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            total += path.lstat().st_size if not path.is_dir() else 0
    return total


def _content(place: Path) -> _Content:
    try:
        if held(place / ".lock"):
            return _Content(BUILT)
        if not (place / "cache.json").exists():
            return _Content(HALF)
        found = reading.json_object(reading.read_bytes(place / "cache.json"))
        if field(found, "schema", int) != SCHEMA:
            return _of_another_schema(found)
        details, rows = cachefiles.read(place)
        ((name, known),) = details["arrays"].items()
        version = field(field(details, "extractor", dict), "version", int)
        current = version == (WAVE_VERSION if name == "wave.npy" else EXTRACTOR_VERSION)
        return _Content(
            status=COMPLETE if current else OLD,
            kind=_kind(name, details),
            clips=details["clips"],
            variant="variant" in details,
            sha256=known["sha256"],
            rows=rows if current else (),
        )
    except Damaged as error:
        return _Content(DAMAGED, reason=f"The cache {place} is damaged (cache.json: {error}).")
    except GenreclsError as error:
        return _Content(DAMAGED, reason=str(error))
    except OSError as error:
        return _Content(CLOSED, reason=f"{error.filename} cannot be read ({error.strerror}).")


def _of_another_schema(found: dict[str, Any]) -> _Content:
    """What the `cache.json` of another version says, as far as it is understood. Raises Damaged."""
    arrays = optional(found, "arrays", dict) or {}
    name, known = next(iter(arrays.items()), ("", {}))
    sha256 = known.get("sha256") if isinstance(known, dict) else None
    return _Content(
        OLD, _kind(name, found), optional(found, "clips", int), "variant" in found, str(sha256) if sha256 else ""
    )


def _kind(name: str, details: dict[str, Any]) -> str:
    variant = details.get("variant")
    number = variant.get("number") if isinstance(variant, dict) else None
    return name.removesuffix(".npy") + (f", variant {number + 1}" if isinstance(number, int) else "")


def _needed(
    cache: Shelved, content: _Content, needs: Sequence[_Needs], unclear: Sequence[Unclear], known: Sequence[Remembered]
) -> str:
    """By whom a cache is needed, in words; "" where by nobody."""
    if cache.status in (BUILT, CLOSED):
        return "a process that builds it" if cache.status == BUILT else "not known"
    if cache.status == DAMAGED:
        return ""
    key = cache.place.name.rpartition("-")[2]
    runs = [
        each.run
        for each in needs
        if key in each.keys or (content.variant and (content.sha256 in each.arrays or each.variants_of == cache.corpus))
    ]
    if runs:
        return f"the run {runs[0]}" + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")
    for each in known:
        held_there = (each.holds(row.clip, row.path, row.sha256) for row in content.rows)
        if content.rows and each.corpus == cache.corpus and all(held_there):
            return f"the corpus in {each.root}"
    if any(_may_need(each, cache.corpus) for each in unclear):
        return "a run whose record cannot be read, maybe"
    return ""


def _may_need(unclear: Unclear, corpus: str) -> bool:
    """Whether a run may be of that corpus: its folder's name begins with it, or tells nothing, having been changed."""
    name = unclear.run.name
    return name.startswith(f"{corpus}-") or not any(name.startswith(f"{each}-") for each in DATASETS)


def _needs(runs: Path) -> tuple[list[_Needs], list[Unclear]]:
    needs, unclear = [], []
    for run in sorted(runs.iterdir()) if runs.is_dir() else []:
        try:
            if not any((run / name).exists() for name in _TRACES):
                continue
            if (run / "run.json").exists():
                needs.append(_needs_of(Run(run)))
            elif held(run / ".lock"):
                unclear.append(Unclear(run, f"The run {run} is just being begun."))
        except GenreclsError as error:
            unclear.append(Unclear(run, str(error)))
        except OSError as error:
            unclear.append(Unclear(run, f"{error.filename or run} cannot be read ({error.strerror})."))
    return needs, unclear


def _needs_of(run: Run) -> _Needs:
    record = run.record
    keys = frozenset(record["cache_key"].split("+"))
    if record["status"] == "finished":
        arrays = frozenset(run.arrays.values()) if "cache_arrays" in record else frozenset()
        return _Needs(run.name, keys, arrays)
    return _Needs(run.name, keys, frozenset(), str(record.get("corpus", "")) if run.config.augment.variants else "")


def shown(size: float) -> str:
    """Bytes in the unit that fits, such as "1.4 GB"."""
    units: Iterator[str] = iter(("bytes", "kB", "MB", "GB"))
    unit = next(units)
    while size >= 999.95 and unit != "GB":
        size, unit = size / 1000, next(units)
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
