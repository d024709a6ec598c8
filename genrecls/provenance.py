"""Which code a run's figures were made by, and whether it is still the code that is here.

A run records digests of two sets of files: those that its model is made of, and those of this package that any run's
figures depend on. They are digests of what the files do (`sourcecode`). Code that was rewritten and makes the same
figures is declared equivalent in `equivalent_code.toml`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from genrecls import __version__, reading, sourcecode
from genrecls.digests import bytes_sha256, json_sha256
from genrecls.errors import GenreclsError
from genrecls.models.registry import entries, entry
from genrecls.reading import checked, field
from genrecls.run import Run, find

DECIDING = frozenset(
    {
        *("training", "trainer", "batches", "loss", "optimisation", "schedule", "selection", "distributed"),
        *("augment", "augment.draws", "augment.feature", "augment.mixing", "augment.variants", "augment.vocoder"),
        *("augment.wave", "audio", "features", "fragments", "normalisation", "splits", "seeding", "keyed"),
        *("models.building", "models.initialisation", "models.shapes"),
        *("inference", "evaluation", "metrics", "compute", "kernels", "portable", "exact", "config"),
    }
)
"""Modules of this package that the figures of any run depend on."""
NOT_DECIDING = {
    "advice": "says what native kernels would gain",
    "allocator": "where memory lies",
    "assembly": "how an array grows on the disk; its bits are held by a digest that runs record",
    "atomic": "how files are written",
    "cache": "puts arrays together; their bits are held by digests that runs record",
    "cachefiles": "reads what is recorded of an array, whose bits are held by a digest",
    "checkpoint": "states are held by a digest, and training goes on to the bit or begins anew",
    "datasets.index": "which clips there are, with which labels, is the fingerprint that is part of the id",
    "datasets.loader": "likewise",
    "digests": "compares, and makes no figure",
    "environment": "describes the machine",
    "errors": "says what failed",
    "identity": "the id, which is compared where a run is used",
    "interruption": "when training stops; it goes on to the bit",
    "lock": "one process at a time",
    "manifest": "the fingerprint that is part of the id",
    "models.dropout": "a layer: of the code of each model that has it, and without effect on others",
    "models.registry": "which models there are, which grows",
    "predict": "answers about other files, which no run's figures depend on, by what is listed as deciding",
    "preparation": "finds corpus, cache and split, which are all recorded",
    "provenance": "compares, and makes no figure",
    "reading": "reads files, which are held by digests",
    "run": "reads and writes files, which are held by digests",
    "seal": "compares, and makes no figure",
    "settings": "reads settings, whose values are part of the id",
    "sourcecode": "compares, and makes no figure",
    "stamp": "when a file is hashed again",
    "tables": "how CSV is written; split and predictions are held by digests",
    "weights": "reads and writes tensors, which are held by digests",
    "workers": "who makes features, not how: the same bits with any number of them",
}
"""What the loop, inference and evaluation import besides, and why no figure depends on it."""
LAYERS = frozenset({"models.dropout"})
"""Of these, what belongs to a model that imports it."""
TABLE = "equivalent_code.toml"
_PACKAGE = __name__.partition(".")[0]
_SHOWN = 3
_RESTORE = "restore it, or remove the folder and train again"


@dataclass(frozen=True)
class Changes:
    """Files whose code is not what a run was made by, in each of the two sets; none where all is equivalent.

    Those that are gone come first. version: of the package that made the run. gone: whether there is no such model any
    more.
    """

    model: tuple[str, ...]
    package: tuple[str, ...]
    version: str
    gone: bool


def code(model: str) -> dict[str, Any]:
    """What a run of this model records: its name, the digest of each file of the two sets, and the version.

    bytes: of each set, of the files as they are, comments included: where it is the same, nothing need be read closely.
    Raises ConfigError where there is no such model, GenreclsError where a file is no Python.
    """
    parts = {"model": dict(model_code(model)), "package": dict(package_code())}
    return {
        "name": model,
        "version": __version__,
        "bytes": {part: _bytes_sha256(files) for part, files in parts.items()},
        **parts,
    }


def _bytes_sha256(files: Iterable[str]) -> str:
    """Of the content of these files as it is here, in the order of their names; "" where one is not here."""
    digest = hashlib.sha256()
    for name in sorted(files):
        path = _path(name)
        if path is None:
            return ""
        digest.update(f"{name}\0{bytes_sha256(path.read_bytes())}\n".encode())
    return digest.hexdigest()


def _path(file: str) -> Path | None:
    """Where a file lies here, None where there is none of that name."""
    found = sourcecode.file_of(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    return found if found is not None and found.as_posix().endswith(file) else None


@cache
def package_code() -> Mapping[str, str]:
    """Digest of each file of `DECIDING`, such as "genrecls/loss.py"."""
    return _digests([f"{_PACKAGE}.{name}" for name in DECIDING], lambda module: _below(module) in DECIDING)


@cache
def model_code(model: str) -> Mapping[str, str]:
    """Digest of each file that a model is made of, such as "genrecls/models/mlp.py".

    They are those of its network and its settings and of what these import, but for what this package has for all
    models, and for what is installed beside it. Raises as `code` does.
    """
    found = entry(model)
    starts = [found.network.partition(":")[0], found.settings.__module__]
    return _digests(starts, lambda module: module != _PACKAGE and _is_of_models(_below(module)))


def _is_of_models(name: str) -> bool:
    return name in LAYERS or not (name in DECIDING or name in NOT_DECIDING)


def _below(module: str) -> str:
    """The name below this package, the full one of what is not in it."""
    return module.removeprefix(f"{_PACKAGE}.")


def _digests(starts: list[str], follow: Callable[[str], bool]) -> dict[str, str]:
    try:
        found = sourcecode.closure(starts, follow)
        return {
            _file(module, path): sourcecode.syntax_sha256(path.read_bytes(), str(path))
            for module, path in found.items()
        }
    except SyntaxError as error:
        raise GenreclsError(f"{error.filename} cannot be read as Python ({error.msg}): mend it.") from error


def _file(module: str, path: Path) -> str:
    name = module.replace(".", "/")
    return f"{name}/__init__.py" if path.name == "__init__.py" else f"{name}.py"


def combined(files: Mapping[str, str]) -> str:
    """One digest of a set of files."""
    return json_sha256(files)


def declared() -> list[tuple[str, str, str]]:
    """The table of equivalent code: combined digests before and after a change that moved no figure, and the change."""
    found = reading.toml(resources.files(_PACKAGE).joinpath(TABLE).read_bytes())
    rows = reading.items(found, "equivalent", dict) if "equivalent" in found else []
    return [(field(row, "old", str), field(row, "new", str), field(row, "reason", str)) for row in rows]


@cache
def _classes() -> dict[str, frozenset[str]]:
    """Each digest of the table -> all those that it is declared equivalent to, itself included."""
    classes: dict[str, frozenset[str]] = {}
    for old, new, _ in declared():
        merged = classes.get(old, frozenset({old})) | classes.get(new, frozenset({new}))
        classes |= dict.fromkeys(merged, merged)
    return classes


def representative(digest: str) -> str:
    """The same combined digest for all those that are declared to stand for code that makes the same figures."""
    return min(_classes().get(digest, {digest}))


def changes(run: Run) -> Changes | None:
    """What has changed since a run was trained, or begun; None where it does not say by which code.

    Raises GenreclsError where `run.json` is damaged, or a file of this package or of the model is no Python.
    """
    record = run.record
    if "code" not in record:
        return None
    with run.mending("run.json"):
        known = field(record, "code", dict)
        model, package = recorded(known, "model"), recorded(known, "package")
        name, version = field(known, "name", str), field(known, "version", str)
        as_is = field(known, "bytes", dict)
    there = _is_registered(name)
    return Changes(
        () if there and as_is.get("model") == _bytes_sha256(model) else _apart(model, _of_model(name)),
        () if as_is.get("package") == _bytes_sha256(package) else _apart(package, package_code()),
        version,
        not there,
    )


def digests(run: Run, found: Changes) -> dict[str, tuple[str | None, str | None]]:
    """Of each file that has changed its digest in the run and here, None where there is no such file."""
    record = run.record
    with run.mending("run.json"):
        known = field(record, "code", dict)
        then = recorded(known, "model") | recorded(known, "package")
        now = {**(_of_model(field(known, "name", str)) if found.model else {}), **package_code()}
    return {name: (then.get(name), now.get(name)) for name in (*found.model, *found.package)}


def _of_model(name: str) -> Mapping[str, str]:
    """`model_code`, nothing where there is no such model any more."""
    return model_code(name) if _is_registered(name) else {}


def _is_registered(name: str) -> bool:
    return name in entries()


def package_of(run: Run) -> str | None:
    """One digest of the package's code that made a run, the same for equivalent code; None where it does not say."""
    record = run.record
    if "code" not in record:
        return None
    with run.mending("run.json"):
        return representative(combined(recorded(field(record, "code", dict), "package")))


def recorded(known: Mapping[str, Any], part: str) -> dict[str, str]:
    """Digest of each file, as a run records it of a part, "model" or "package". Raises Damaged."""
    return {file: checked(sha256, file, str) for file, sha256 in field(known, part, dict).items()}


def _apart(known: Mapping[str, str], here: Mapping[str, str]) -> tuple[str, ...]:
    if representative(combined(known)) == representative(combined(here)):
        return ()
    apart = (name for name in sorted(known.keys() | here.keys()) if known.get(name) != here.get(name))
    return tuple(sorted(apart, key=lambda name: _path(name) is not None))


def use(given: str, runs: Path, say: Callable[[str], None]) -> Run:
    """The run that `run.find` finds, for a command that uses what came of it. Says what `remarks` has of it.

    Raises GenreclsError as `run.find` and `remarks` do.
    """
    found = find(given, runs)
    for remark in remarks(found):
        say(remark)
    return found


def remarks(run: Run) -> Iterator[str]:
    """What whoever uses a run is to be told: that other code of this package made it, or that nobody can know.

    Raises GenreclsError where the code of its model has changed.
    """
    found = changes(run)
    if found is not None and found.model:
        raise GenreclsError(of_model(run, found))
    if run.finished and run.files is None:
        yield unsealed(run)
    elif found is not None and found.package:
        yield of_package(run, found, "`genrecls reproduce` says whether its figures are the same with this one")


def check_same(run: Run, done: str = "trained") -> None:
    """Raise GenreclsError where any code has changed since a run was trained, or begun, or it does not say.

    done: what was done with it.
    """
    found = changes(run)
    if found is None:
        raise GenreclsError(
            f"{run.path} was {done} by a version of genrecls that did not record its code: remove the folder and train "
            "again."
        )
    for _, sentence in sentences(run, found, done):
        raise GenreclsError(sentence)


def sentences(run: Run, found: Changes, done: str = "trained") -> list[tuple[tuple[str, ...], str]]:
    """What has changed, and what to do where no change may be; nothing where all is as it was. done: with the run."""
    made = []
    if found.model:
        made.append((_paths(found.model), of_model(run, found, done)))
    if found.package:
        made.append((_paths(found.package), of_package(run, found, _RESTORE, done)))
    return made


def of_model(run: Run, found: Changes, done: str = "trained") -> str:
    """The sentence about a run whose model is made of other code now."""
    return f"The code of the model of {run.path} has changed since it was {done} ({_named(found.model)}): {_RESTORE}."


def of_package(run: Run, found: Changes, mend: str, done: str = "trained") -> str:
    """The sentence about a run that other code of this package made. mend: what that means, or what to do."""
    made_by = f"{_named(found.package)}; version {found.version}"
    return f"{run.path} was {done} by other code of genrecls than this ({made_by}): {mend}."


def unsealed(run: Run) -> str:
    """The sentence about a finished run without a seal."""
    return (
        f"{run.path} is of a version of genrecls that did not seal runs, so that nobody can know whether its files or "
        "the code of its model have changed since: train it again to have that noticed."
    )


def _paths(files: Sequence[str]) -> tuple[str, ...]:
    """Where files lie here, as far as they do."""
    return tuple(str(_path(name) or name) for name in files)


def _named(files: Sequence[str]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(_paths(files[:_SHOWN])) + more
