"""A run directory: what was asked, on what, what came of it. Nothing in it is a pickle.

run.json                  id, status, corpus, cache, hashes; once finished, the digest of every file that counts
config.toml               every setting as resolved; a recipe that makes the same run
environment.json          where and with what it ran
corpus.csv                what the fingerprint was made of: SHA-256 and labels of every clip
spans.csv                 the split: which frames of which clip had which role
initial.safetensors       weights before the first step
best.safetensors          weights that validation chose
normalisation.safetensors
metrics.jsonl             one line an epoch, only what is repeatable
draws.jsonl               one line an epoch: the hash of every stream's draws
timing.jsonl              one line an epoch: seconds, fragments a second, memory
checkpoints/              states to go on from, until it is finished
tags.txt                  what its user calls it, a tag a line; no part of its id
pruned.json               of an unfinished run: which sweep left it, and after which epoch
evaluation/               metrics.json, predictions.csv
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from genrecls import atomic, config, reading
from genrecls.config import SCHEMA, Config
from genrecls.datasets.index import Role
from genrecls.digests import bytes_sha256, file_sha256, text_sha256
from genrecls.errors import ConfigError, GenreclsError
from genrecls.identity import run_id
from genrecls.kernels import NATIVE
from genrecls.lock import Taken, exclusive
from genrecls.models.registry import settings_class
from genrecls.reading import Damaged, checked, field, items, number, optional
from genrecls.seal import SEALED_BY_EVALUATE, TRAINED, UNSEALED, files_of, sealed
from genrecls.splits import ROLES, Span
from genrecls.tables import csv_text

CORPUS_COLUMNS = ("clip", "sha256", "genre", "group", "official_split")
CHECKPOINTS = "checkpoints"
PROGRESS = (CHECKPOINTS, "best.safetensors", "metrics.jsonl", "draws.jsonl", "timing.jsonl")
"""What training goes on from."""
TAGS = "tags.txt"
PRUNED = "pruned.json"
_LONGEST_TAG = 100
_PLOTTED = ("cross_entropy", "accuracy", "f1_macro")
SPAN_COLUMNS = ("clip", "first_frame", "frames", "role")
_TEXTS = ("id", "status", "fingerprint", "cache_key")
"""Of `run.json`."""


def checked_tag(given: str) -> str:
    """The tag without blanks around it. Raises ConfigError where it is empty, long or not one line of plain text."""
    tag = given.strip()
    if not tag or len(tag) > _LONGEST_TAG or not tag.isprintable():
        raise ConfigError(
            f"--tag {given!r} is no tag: give one line of 1 to {_LONGEST_TAG} printable characters, such as baseline."
        )
    return tag


class Entry(NamedTuple):
    """A clip in `corpus.csv`: hash of its file ("unreadable" where it was), and labels, "" where there is none."""

    sha256: str
    genre: str
    group: str
    official_split: str


@dataclass(frozen=True)
class Run:
    """A run's directory. writes: whether this process may; in one that may not, all that writes does nothing."""

    path: Path
    writes: bool = True

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @contextmanager
    def reading(self, name: str) -> Iterator[bytes]:
        """The content of a file, for the block, which raises Damaged or ConfigError where it is not to be believed.

        They become a GenreclsError that names the file and says what to do, as does a missing file.
        """
        with self.mending(name):
            content = _content(self.path / name)
            if name not in UNSEALED:
                self._check(name, content)
            yield content

    def _check(self, name: str, content: bytes) -> None:
        """Raise Damaged where the run is sealed, and not with this content in the file of that name."""
        files = self.files
        if files is None:
            return
        if name not in files:
            raise Damaged("run.json does not know it")
        if bytes_sha256(content) != files[name]:
            raise Damaged(f"it is not what {'evaluate' if name.startswith(SEALED_BY_EVALUATE) else 'training'} wrote")

    @property
    def files(self) -> dict[str, str] | None:
        """SHA-256 of each sealed file by its name; None where the run has no seal.

        A run that is not finished has none, and neither has one of a version that knew no seal.
        Raises GenreclsError where `run.json` is damaged.
        """
        return files_of(self.record) if (self.path / "run.json").exists() else None

    def check(self) -> None:
        """Raise GenreclsError where a file that training sealed is missing or was changed since."""
        for name in self.files or ():
            if not name.startswith(SEALED_BY_EVALUATE):
                with self.reading(name):
                    pass

    def has(self, name: str) -> bool:
        """Whether a file is there, or is to be, so that reading it says that it is missing."""
        return (self.path / name).exists() or name in (self.files or {})

    @contextmanager
    def mending(self, name: str) -> Iterator[None]:
        """Say what to do where the file of that name turns out to be missing or damaged in the block."""
        try:
            yield
        except FileNotFoundError as error:
            raise GenreclsError(f"The run {self.path} has no {name}: {self._mend(name)}") from error
        except (Damaged, ConfigError) as error:
            raise GenreclsError(
                f"{self.path / name} is damaged ({str(error).rstrip('.')}): {self._mend(name)}"
            ) from error

    def _mend(self, name: str) -> str:
        """What to do about a file that cannot be believed, as the end of a sentence."""
        if name in (TAGS, PRUNED):
            return "remove this file, which no figure needs."
        if name.startswith(SEALED_BY_EVALUATE):
            subset = Path(name).stem.partition("-")[2]
            return f"run `genrecls evaluate {self.path}{f' --subset {subset}' if subset else ''}` again."
        return f"restore it, or remove the folder {self.path} and train the run again."

    @property
    def record(self) -> dict[str, Any]:
        """`run.json`. Raises GenreclsError where it is missing or damaged."""
        with self.reading("run.json") as content:
            found = reading.json_object(content)
            _check_record(found)
            files_of(found)
        return found

    @property
    def arrays(self) -> dict[str, str]:
        """SHA-256 of each array that a trained run read, by its file's name, which for variants is below theirs."""
        record = self.record
        with self.mending("run.json"):
            written = field(record, "cache_arrays", dict)
            return {name: field(checked(each, name, dict), "sha256", str) for name, each in written.items()}

    @property
    def environment(self) -> dict[str, Any]:
        """`environment.json`. Raises GenreclsError where it is missing or damaged."""
        with self.reading("environment.json") as content:
            found = reading.json_object(content)
            for name in ("data_dir", "groups"):
                field(found, name, str)
            _check_environment(found)
            for later in items(found, "resumed", dict) if "resumed" in found else ():
                _check_environment(later)
        return found

    @property
    def config(self) -> Config:
        """The settings as resolved. Raises GenreclsError where `config.toml` is missing, damaged or of another id."""
        with self.reading("config.toml") as content:
            given = reading.toml(content)
            # Before there was a choice, they were what native ones are now.
            field(given, "compute", dict).setdefault("kernels", NATIVE)
            settings = config.read(given, settings_class)
            if settings.split.policy == "auto" or settings.compute.device == "auto" or not settings.compute.threads:
                raise Damaged("settings that a run records are not in it")
            record = self.record if (self.path / "run.json").exists() else {}
            # Of another schema, the settings that are at their defaults are not known.
            if record.get("schema") == SCHEMA:
                known, made = record["id"], run_id(settings, record["fingerprint"], record["cache_key"])
                if made != known:
                    raise Damaged(f"its settings are those of the run {made}, and run.json is of {known}")
        return settings

    @property
    def finished(self) -> bool:
        """Whether training reached its end."""
        return (self.path / "run.json").is_file() and self.record["status"] == "finished"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to this run. Entering raises GenreclsError where one does."""
        if not self.writes:
            yield
            return
        try:
            with exclusive(self.path / ".lock"):
                yield
        except Taken as error:
            raise GenreclsError(
                f"Another process is training the run {self.path}: wait for it, or change a setting."
            ) from error

    @property
    def has_progress(self) -> bool:
        """Whether there are states to go on from."""
        return any((self.path / CHECKPOINTS).glob("*.safetensors"))

    def clear(self, keep: Collection[str] = ()) -> None:
        """Remove what an unfinished attempt left behind, but for the lock, the tags and the names in `keep`."""
        self.discard(child.name for child in self.path.iterdir() if child.name not in (".lock", TAGS, *keep))

    def discard(self, names: Iterable[str]) -> None:
        """Remove these files and folders, those that there are."""
        for child in (self.path / name for name in names if self.writes):
            if child.is_dir():
                shutil.rmtree(child)
            else:
                child.unlink(missing_ok=True)

    def add_tags(self, tags: Iterable[str]) -> None:
        """Give the run these tags beside those that it has. Each is a line of its own, so that no two writers collide.

        tags: of `checked_tag`.
        """
        new = [tag for tag in dict.fromkeys(tags) if tag not in self.tags]
        if not new or not self.writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / TAGS, "a", encoding="utf-8") as handle:
            handle.write("".join(f"{tag}\n" for tag in new))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the run, sorted; none where it has no such file. Raises GenreclsError where it is not UTF-8."""
        if not (self.path / TAGS).exists():
            return ()
        return tuple(sorted({line for line in self.text(TAGS).splitlines() if line.strip()}))

    def write_pruned(self, sweep: str, epochs: int) -> None:
        """Say that a sweep left the run after so many epochs; training removes it when it goes on."""
        self._write_json(PRUNED, {"sweep": sweep, "epochs": epochs})

    @property
    def pruned(self) -> tuple[str, int] | None:
        """The sweep that left the run unfinished, and after how many epochs; None where none did."""
        if not (self.path / PRUNED).exists():
            return None
        with self.reading(PRUNED) as content:
            found = reading.json_object(content)
            return field(found, "sweep", str), field(found, "epochs", int, low=0)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        self._write_json("run.json", record)

    def seal(self, record: Mapping[str, Any]) -> None:
        """Write `run.json` at the end of training, with the digest of every file that counts."""
        there = [name for name in TRAINED if (self.path / name).exists()]
        self.write_record(sealed(record, {name: file_sha256(self.path / name) for name in there}))

    def write_evaluation(self, texts: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Write what evaluation made, by the file's name in its folder, and seal it where the run is sealed.

        Waits for another process that writes to the run, and says so.
        """
        waiting = f"Another process writes to the run {self.path}: waiting for it."
        with exclusive(self.path / ".lock", waiting=lambda: say(waiting)):
            record, made = self.record, {f"{SEALED_BY_EVALUATE}{name}": text for name, text in texts.items()}
            for name, text in made.items():
                self.write(name, text.encode())
            if (files := files_of(record)) is not None:
                self.write_record(sealed(record, files | {name: text_sha256(text) for name, text in made.items()}))

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write `environment.json`."""
        self._write_json("environment.json", environment)

    def write_config(self, settings: Config) -> None:
        """Write `config.toml`: what applies and can change a bit."""
        nested = settings.values()
        for section, each, known in config.fields():
            if not known.changes_bits:
                nested[section].pop(each.name, None)
        self.write("config.toml", tomli_w.dumps(nested).encode())

    def text(self, name: str) -> str:
        """A text file. Raises GenreclsError where it is missing or not UTF-8."""
        with self.reading(name) as content:
            return reading.text(content)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of `<name>.jsonl`. Raises GenreclsError where it is missing or damaged."""
        with self.reading(f"{name}.jsonl") as content:
            return reading.json_lines(content)

    @property
    def history(self) -> list[dict[str, Any]]:
        """`metrics.jsonl`, a line an epoch; none before the first.

        Raises GenreclsError where it is damaged, or not what training wrote to its end.
        """
        name, known = "metrics.jsonl", None
        if self.finished and self.record["best_epoch"] is not None:
            known = self.record.get("history_sha256", "")
        elif not self.has(name):
            return []
        with self.reading(name) as content:
            if known is not None and bytes_sha256(content) != known:
                raise Damaged("it is not what training wrote")
            found = reading.json_lines(content)
            for epoch, line in enumerate(found):
                _check_epoch(line, epoch)
        return found

    @property
    def timing(self) -> list[dict[str, Any]]:
        """`timing.jsonl`, a line an epoch, with training_seconds, validation_seconds and fragments_per_second.

        Raises GenreclsError where it is missing or damaged.
        """
        with self.reading("timing.jsonl") as content:
            found = reading.json_lines(content)
            for line in found:
                for name in ("training_seconds", "validation_seconds", "fragments_per_second"):
                    field(line, name, float, low=0)
        return found

    def write_corpus(self, entries: Iterable[Iterable[str | None]]) -> None:
        """Write `corpus.csv`. entries: of `manifest.entries`."""
        self._write_csv("corpus.csv", CORPUS_COLUMNS, entries)

    def read_corpus(self) -> dict[str, Entry] | None:
        """What the run was trained on, by clip id; None where an earlier version made the run and kept no such file.

        Raises GenreclsError where the file is damaged.
        """
        if not self.has("corpus.csv"):
            return None
        with self.reading("corpus.csv") as content:
            return {clip: Entry(*labels) for clip, *labels in reading.csv_rows(content, CORPUS_COLUMNS)}

    def write_spans(self, spans: Iterable[Span]) -> None:
        """Write `spans.csv`."""
        lines = ([span.clip, span.first_frame, span.frames, span.role] for span in spans)
        self._write_csv("spans.csv", SPAN_COLUMNS, lines)

    def read_spans(self) -> list[Span]:
        """The split this run was trained on. Raises GenreclsError where the file is missing or damaged."""
        with self.reading("spans.csv") as content:
            rows = reading.csv_rows(content, SPAN_COLUMNS)
            spans = [
                Span(clip, number(first, "first_frame", int, 0), number(frames, "frames", int, 0), _role(role))
                for clip, first, frames, role in rows
            ]
            if {span.role for span in spans} != set(ROLES):
                raise Damaged(f"its roles are not {', '.join(ROLES)}")
            if len(set(spans)) < len(spans):
                raise Damaged("it has a line twice")
        return spans

    def read_draws(self) -> list[dict[str, str]]:
        """`draws.jsonl`: for each epoch the SHA-256 of every stream's draws, by stream.

        Raises GenreclsError where the file is missing, damaged or not of all epochs that the run had.
        """
        record = self.record
        with self.reading("draws.jsonl") as content:
            lines, epochs = reading.json_lines(content), record.get("epochs")
            if len(lines) != epochs or any(line.pop("epoch", None) != epoch for epoch, line in enumerate(lines)):
                raise Damaged(f"its lines are not those of the {epochs} epochs of run.json")
            return [{name: checked(sha256, name, str) for name, sha256 in line.items()} for line in lines]

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Add a line to `<name>.jsonl`."""
        if not self.writes:
            return
        path = self.path / f"{name}.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(line) + "\n")
        except OSError as error:
            # A full disk shows when the file is closed, and that error does not say which file it was.
            error.filename = str(path)
            raise

    def _write_csv(self, name: str, columns: Iterable[str], lines: Iterable[Iterable[object]]) -> None:
        self.write(name, csv_text([columns, *lines]).encode())

    def secured(self, name: str) -> tuple[int, str]:
        """Bring `<name>.jsonl` to the disk for good. Returns its length in bytes and its SHA-256, for `cut`."""
        path = self.path / f"{name}.jsonl"
        if not path.exists():
            return 0, text_sha256("")
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
            return path.stat().st_size, hashlib.file_digest(handle, "sha256").hexdigest()

    def cut(self, name: str, size: int, sha256: str) -> bool:
        """Leave the first `size` bytes of `<name>.jsonl`. False, and nothing done, where their hash is another."""
        path = self.path / f"{name}.jsonl"
        try:
            content = reading.read_bytes(path)
        except FileNotFoundError:
            content = b""
        except Damaged:
            return False
        if hashlib.sha256(content[:size]).hexdigest() != sha256:
            return False
        if len(content) > size:
            self.write(path.name, content[:size])
        return True

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.write(name, (json.dumps(value, indent=2) + "\n").encode())

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run, which is whole or absent."""
        if self.writes:
            atomic.write_bytes(self.path / name, content)


def _content(path: Path) -> bytes:
    """The bytes of a file, of weights however many there are. Raises as `reading.read_bytes` does."""
    if path.suffix == ".safetensors":
        with reading.opened(path) as handle:
            return handle.read()
    return reading.read_bytes(path, reading.LONGEST_TABLE if path.suffix == ".csv" else reading.LONGEST_TEXT)


def _check_record(record: Mapping[str, Any]) -> None:
    """Raise Damaged where something in `run.json` is not of its type."""
    for name in _TEXTS:
        field(record, name, str)
    items(record, "genres", str)
    if "best_epoch" not in record:
        raise Damaged("it lacks 'best_epoch'")
    optional(record, "best_epoch", int, low=0)
    for name in ("corpus", "split", "weights_sha256", "initial_weights_sha256", "history_sha256"):
        optional(record, name, str)
    for name in ("epochs", "parameters"):
        optional(record, name, int, low=0)
    optional(record, "seconds", float, low=0)
    for name, value in (optional(record, "valid", dict) or {}).items():
        checked(value, name, float)


def _check_environment(found: Mapping[str, Any]) -> None:
    """Raise Damaged where something in `environment.json` that is taken apart is not of its type."""
    for name in ("packages", "switches"):
        optional(found, name, dict)
    optional(optional(found, "git", dict) or {}, "commit", str)


def _check_epoch(line: Mapping[str, Any], epoch: int) -> None:
    """Raise Damaged where a line of `metrics.jsonl` is not of that epoch, or lacks what is drawn and compared of it."""
    try:
        if field(line, "epoch", int) != epoch:
            raise Damaged("it is of another epoch")
        field(line, "lr", float)
        field(field(line, "train", dict), "cross_entropy", float)
        clip = field(field(line, "valid", dict), "clip", dict)
        for name in _PLOTTED:
            field(clip, name, float)
    except Damaged as error:
        raise Damaged(f"line {epoch + 1}: {error}") from None


def _role(given: str) -> Role:
    for role in ROLES:
        if role == given:
            return role
    raise Damaged(f"its roles are not {', '.join(ROLES)}")


def find(given: str, runs: Path) -> Run:
    """The run that a path, or an id or its beginning below `runs`, means.

    Raises GenreclsError where it is none, or more than one.
    """
    path = Path(given)
    if not path.is_dir():
        close = sorted(p for p in runs.glob("*") if p.name == given or p.name.rpartition("-")[2].startswith(given))
        if len(close) > 1:
            raise GenreclsError(f"{given!r} is the beginning of {len(close)} runs below {runs}: give more digits.")
        if not close:
            raise GenreclsError(f"There is no run {given!r}, neither as a folder nor below {runs}: check the name.")
        path = close[0]
    if missing := [name for name in ("run.json", "config.toml") if not (path / name).is_file()]:
        raise GenreclsError(
            f"{path} is no run directory (it has no {' and '.join(missing)}): give the folder that `genrecls train` "
            "printed."
        )
    return Run(path)
