"""`genrecls verify`: whether a run is what training and evaluation wrote, and its code and features what they used.

Nothing is trained. Whether the run's figures are those of its settings shows `genrecls reproduce` alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrecls import cachefiles, provenance, stamp
from genrecls.errors import GenreclsError
from genrecls.reading import Damaged, checked, field
from genrecls.run import Run, find
from genrecls.seal import SEALED_BY_EVALUATE


@dataclass(frozen=True)
class Verified:
    """What was found of one run.

    run: its directory, or what was given where there is none. changed: files that are not what they were, those of the
    run by their names in it, others by their paths. reasons: sentences of why it is not verified; none where it is.
    files, arrays: how many were checked. not_checked: sentences of what could not be.
    """

    run: str
    changed: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    files: int = 0
    arrays: int = 0
    not_checked: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether everything that could be checked is as it was."""
        return not self.reasons

    def values(self) -> dict[str, Any]:
        """One element of `runs` in `verify --json`."""
        return {
            "run": self.run,
            "verified": self.verified,
            "changed": list(self.changed),
            "reasons": list(self.reasons),
            "files": self.files,
            "arrays": self.arrays,
            "not_checked": list(self.not_checked),
        }


@dataclass(frozen=True)
class _Fault:
    """A file that is not what it was, "" where it is none that fails, and the sentence."""

    file: str
    reason: str


def verify(given: str, runs: Path, res: Path) -> Verified:
    """Check a run by all that it recorded of itself. res: where its cache may lie.

    Raises nothing of what is wrong with the run.
    """
    # One that lacks a file is a run all the same.
    run = Run(Path(given))
    try:
        if not (run.path / "run.json").exists():
            run = find(given, runs)
    except GenreclsError as error:
        return Verified(given, reasons=(str(error),))
    try:
        record = run.record
        files = run.files
        if record["status"] != "finished":
            reason = f"{run.path} is not finished: go on with it by its `genrecls train` command."
            return Verified(str(run.path), reasons=(reason,))
        if files is None:
            return Verified(str(run.path), reasons=(provenance.unsealed(run),))
    except (GenreclsError, OSError) as error:
        return Verified(str(run.path), ("run.json",), (_said(error),))
    faults = [*_files(run, files), *_code(run)]
    arrays, not_checked = 0, []
    for each in _recorded_arrays(record):
        place = res / "cache" / each.cache
        if not place.is_dir():
            not_checked.append(f"{each.name} is not checked, for there is no {place}: name another folder by --res.")
            continue
        arrays += 1
        faults += _array(place, each)
    return Verified(
        str(run.path),
        tuple(dict.fromkeys(fault.file for fault in faults if fault.file)),
        tuple(dict.fromkeys(fault.reason for fault in faults)),
        len(files) + 1,
        arrays,
        tuple(not_checked),
    )


def _said(error: GenreclsError | OSError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read ({error.strerror}): mend that."
    return str(error)


def _files(run: Run, files: dict[str, str]) -> Iterator[_Fault]:
    """What is wrong with what was sealed, with the id, and with what evaluation did not write."""
    for name in files:
        try:
            with run.reading(name):
                pass
        except (GenreclsError, OSError) as error:
            yield _Fault(name, _said(error))
    try:
        made_by = provenance.changes(run)
        if made_by is None or not made_by.gone:
            _ = run.config
    except (GenreclsError, OSError) as error:
        yield _Fault("config.toml", _said(error))
    folder = run.path / SEALED_BY_EVALUATE
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = f"{SEALED_BY_EVALUATE}{path.name}"
        if name not in files and path.suffix in (".json", ".csv"):
            yield _Fault(name, f"{path} is nothing that `genrecls evaluate` wrote: remove it.")


def _code(run: Run) -> Iterator[_Fault]:
    try:
        found = provenance.changes(run)
        sentences = [] if found is None else provenance.sentences(run, found)
    except GenreclsError as error:  # a file that is no Python
        yield _Fault("", str(error))
        return
    for files, sentence in sentences:
        for file in files:
            yield _Fault(file, sentence)


@dataclass(frozen=True)
class _Recorded:
    """An array that the run was trained on. cache: name of its folder."""

    cache: str
    name: str
    sha256: str


def _recorded_arrays(record: dict[str, Any]) -> Iterator[_Recorded]:
    for name, each in (record.get("cache_arrays") or {}).items():
        known = checked(each, name, dict)
        yield _Recorded(field(known, "cache", str), Path(name).name, field(known, "sha256", str))


def _array(place: Path, known: _Recorded) -> Iterator[_Fault]:
    path = place / known.name
    try:
        details, _ = cachefiles.read(place)
        if not stamp.holds(path, details["arrays"][known.name]["sha256"]):
            reason = "is not what preprocess wrote"
        elif details["arrays"][known.name]["sha256"] != known.sha256:
            reason = "is not the array that the run was trained on (native kernels make another on another processor)"
        else:
            return
        yield _Fault(str(path), f"{path} {reason}: remove the folder {place}, which is made again when it is needed.")
    except (GenreclsError, OSError) as error:
        yield _Fault(str(place), _said(error))
    except (Damaged, KeyError) as error:
        yield _Fault(str(path), f"{path} is damaged ({error}): remove the folder {place}.")
