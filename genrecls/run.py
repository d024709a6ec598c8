"""A run directory: what was asked, on what, what came of it. Nothing in it is a pickle.

run.json                  id, status, corpus, cache, hashes
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

import csv
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import tomli_w
import torch
from safetensors import SafetensorError

from genrecls import atomic, config
from genrecls.config import SCHEMA, Config, Input
from genrecls.errors import ConfigError, GenreclsError
from genrecls.lock import Taken, exclusive
from genrecls.models.registry import settings_class
from genrecls.normalisation import Normalisation
from genrecls.splits import ROLES, Span
from genrecls.tables import csv_text

ALWAYS_HASHED = {
    ("split", "policy"),
    *(("compute", field) for field in ("device", "kernels", "precision", "threads")),
}
"""Settings that are resolved on the spot, so that their default says nothing about their value."""

CORPUS_COLUMNS = ("clip", "sha256", "genre", "group", "official_split")
CHECKPOINTS = "checkpoints"
PROGRESS = (CHECKPOINTS, "best.safetensors", "metrics.jsonl", "draws.jsonl", "timing.jsonl")
"""What training goes on from."""
TAGS = "tags.txt"
PRUNED = "pruned.json"
_LONGEST_TAG = 100
_PLOTTED = ("cross_entropy", "accuracy", "f1_macro")
_TEXTS = ("id", "status", "fingerprint", "cache_key")
"""Of `run.json`."""

_PREFIX: dict[Input, str] = {"feature": "", "wave": "wave."}


def identity(settings: Config, fingerprint: str, cache_key: str) -> str:
    """The id of a run: 12 hexadecimal digits that change with every setting that can change a bit.

    settings: resolved. A field at its default is left out, so that a field added later leaves old ids as
    they are.
    """
    described: dict[str, Any] = {"schema": SCHEMA, "fingerprint": fingerprint, "cache": cache_key}
    described["model.name"] = settings.model.name
    values = settings.values()
    for section in settings.sections():
        applying = values[section.section]
        for field, known in config.described(type(section)):
            if not known.changes_bits or field.name not in applying:
                continue
            value = applying[field.name]
            if value != field.default or (section.section, field.name) in ALWAYS_HASHED:
                described[f"{section.section}.{field.name}"] = value
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]


def weights_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the sorted names, each followed by its tensor's contiguous little-endian bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode("utf-8"))
        array = tensors[name].detach().cpu().contiguous().numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


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
    def _reading(self, name: str) -> Iterator[Path]:
        """Read the file of that name in the block, which raises ValueError, KeyError or TypeError where it is damaged.

        They become a GenreclsError with what to do, as does a missing file.
        """
        costless = "remove this file, which no figure needs."
        mend = costless if name in (TAGS, PRUNED) else f"remove the folder {self.path} and train the run again."
        try:
            yield self.path / name
        except FileNotFoundError as error:
            raise GenreclsError(f"The run {self.path} has no {name}: {mend}") from error
        except KeyError as error:
            raise GenreclsError(f"{self.path / name} is damaged (it lacks {error}): {mend}") from error
        except (ValueError, TypeError, csv.Error, ConfigError, SafetensorError) as error:
            raise GenreclsError(f"{self.path / name} is damaged ({str(error).rstrip('.')}): {mend}") from error

    def _read_json(self, name: str, fields: Iterable[str]) -> dict[str, Any]:
        with self._reading(name) as path:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is no JSON object")
            for field in fields:
                if field not in found:
                    raise KeyError(field)
        return found

    @property
    def record(self) -> dict[str, Any]:
        """`run.json`. Raises GenreclsError where it is missing or damaged."""
        found = self._read_json("run.json", (*_TEXTS, "genres", "best_epoch"))
        with self._reading("run.json"):
            _check_record(found)
        return found

    @property
    def arrays(self) -> dict[str, str]:
        """SHA-256 of each array that a trained run read, by its file's name, which for variants is below theirs."""
        written = self._read_json("run.json", ("cache_arrays",))["cache_arrays"]
        with self._reading("run.json"):
            return {name: str(each["sha256"]) for name, each in dict(written).items()}

    @property
    def environment(self) -> dict[str, Any]:
        """`environment.json`. Raises GenreclsError where it is missing or damaged."""
        places, parts = ("data_dir", "groups"), ("git", "packages", "switches")
        found = self._read_json("environment.json", places)
        with self._reading("environment.json"):
            if not all(isinstance(found[name], str) for name in places):
                raise ValueError(f"{' and '.join(places)} are no texts")
            if not all(isinstance(found.get(name) or {}, dict) for name in parts):
                raise ValueError(f"{', '.join(parts)} are no tables")
        return found

    @property
    def config(self) -> Config:
        """The settings as resolved."""
        with self._reading("config.toml") as path:
            settings = config.read(tomllib.loads(path.read_text(encoding="utf-8")), settings_class)
            if settings.split.policy == "auto" or settings.compute.device == "auto" or not settings.compute.threads:
                raise ValueError("settings that a run records are not in it")
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
        return tuple(sorted({line for line in self.text(TAGS).splitlines() if line}))

    def write_pruned(self, sweep: str, epochs: int) -> None:
        """Say that a sweep left the run after so many epochs; training removes it when it goes on."""
        self._write_json(PRUNED, {"sweep": sweep, "epochs": epochs})

    @property
    def pruned(self) -> tuple[str, int] | None:
        """The sweep that left the run unfinished, and after how many epochs; None where none did."""
        if not (self.path / PRUNED).exists():
            return None
        found = self._read_json(PRUNED, ("sweep", "epochs"))
        return str(found["sweep"]), int(found["epochs"])

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        self._write_json("run.json", record)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write `environment.json`."""
        self._write_json("environment.json", environment)

    def write_config(self, settings: Config) -> None:
        """Write `config.toml`: what applies and can change a bit."""
        nested = settings.values()
        for section, field, known in config.fields():
            if not known.changes_bits:
                nested[section].pop(field.name, None)
        self._write("config.toml", tomli_w.dumps(nested).encode())

    def text(self, name: str) -> str:
        """A text file. Raises GenreclsError where it is missing or not UTF-8."""
        with self._reading(name) as path:
            return path.read_text(encoding="utf-8")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of `<name>.jsonl`. Raises GenreclsError where it is missing or damaged."""
        text = self.text(f"{name}.jsonl")
        with self._reading(f"{name}.jsonl"):
            found = [json.loads(line) for line in text.splitlines()]
            if not all(isinstance(line, dict) for line in found):
                raise ValueError("a line is no JSON object")
        return found

    @property
    def history(self) -> list[dict[str, Any]]:
        """`metrics.jsonl`, a line an epoch; none before the first.

        Raises GenreclsError where it is damaged, or not what training wrote to its end.
        """
        found = self.lines("metrics") if (self.path / "metrics.jsonl").exists() else []
        with self._reading("metrics.jsonl") as path:
            trained = self.finished and self.record["best_epoch"] is not None
            if trained and file_sha256(path) != self.record["history_sha256"]:
                raise ValueError("it is not what training wrote")
            for epoch, line in enumerate(found):
                figures = (line["lr"], line["train"]["cross_entropy"], *map(line["valid"]["clip"].get, _PLOTTED))
                if line["epoch"] != epoch or not all(isinstance(each, int | float) for each in figures):
                    raise ValueError(f"line {epoch + 1} is not of epoch {epoch}")
        return found

    def write_corpus(self, entries: Iterable[Iterable[str | None]]) -> None:
        """Write `corpus.csv`. entries: of `manifest.entries`."""
        self._write_csv("corpus.csv", CORPUS_COLUMNS, entries)

    def read_corpus(self) -> dict[str, Entry] | None:
        """What the run was trained on, by clip id; None where an earlier version made the run and kept no such file.

        Raises GenreclsError where the file is damaged.
        """
        if not (self.path / "corpus.csv").exists():
            return None
        with self._reading("corpus.csv") as path, open(path, newline="", encoding="utf-8") as handle:
            header, *rows = csv.reader(handle, strict=True)
            if tuple(header) != CORPUS_COLUMNS:
                raise ValueError(f"its columns are not {', '.join(CORPUS_COLUMNS)}")
            return {clip: Entry(sha256, genre, group, split) for clip, sha256, genre, group, split in rows}

    def write_spans(self, spans: Iterable[Span]) -> None:
        """Write `spans.csv`."""
        lines = ([span.clip, span.first_frame, span.frames, span.role] for span in spans)
        self._write_csv("spans.csv", ("clip", "first_frame", "frames", "role"), lines)

    def read_spans(self) -> list[Span]:
        """The split this run was trained on. Raises GenreclsError where the file is missing or damaged."""
        with self._reading("spans.csv") as path, open(path, newline="", encoding="utf-8") as handle:
            spans = [
                Span(row["clip"], int(row["first_frame"]), int(row["frames"]), row["role"])  # type: ignore[arg-type]
                for row in csv.DictReader(handle)
            ]
            if {span.role for span in spans} != set(ROLES):
                raise ValueError(f"its roles are not {', '.join(ROLES)}")
        return spans

    def write_weights(self, name: str, tensors: Mapping[str, torch.Tensor]) -> str:
        """Write `<name>.safetensors` and return the weights' SHA-256."""
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        self._write(f"{name}.safetensors", safetensors.torch.save(plain))
        return weights_sha256(plain)

    def read_weights(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of `<name>.safetensors`. Raises GenreclsError where it is missing or damaged."""
        with self._reading(f"{name}.safetensors") as path:
            return safetensors.torch.load(path.read_bytes())

    def read_best_weights(self) -> dict[str, torch.Tensor]:
        """The weights that validation chose. Raises GenreclsError where they are not those that training wrote."""
        return self._read_recorded_weights("best", "weights_sha256")

    def read_initial_weights(self) -> dict[str, torch.Tensor]:
        """The weights before the first step. Raises GenreclsError where they are not those that training wrote."""
        return self._read_recorded_weights("initial", "initial_weights_sha256")

    def _read_recorded_weights(self, name: str, recorded: str) -> dict[str, torch.Tensor]:
        tensors = self.read_weights(name)
        with self._reading(f"{name}.safetensors"):
            if weights_sha256(tensors) != self.record[recorded]:
                raise ValueError("its weights are not those that training wrote")
        return tensors

    def read_draws(self) -> list[dict[str, str]]:
        """`draws.jsonl`: for each epoch the SHA-256 of every stream's draws, by stream.

        Raises GenreclsError where the file is missing, damaged or not of all epochs that the run had.
        """
        epochs = self._read_json("run.json", ("epochs",))["epochs"]
        with self._reading("draws.jsonl") as path:
            lines = [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
            if [line.pop("epoch") for line in lines] != list(range(epochs)):
                raise ValueError(f"its lines are not those of the {epochs} epochs of run.json")
        return lines

    def write_normalisation(self, scales: Mapping[Input, Normalisation]) -> None:
        """Write `normalisation.safetensors`: mean and deviation of each input."""
        self.write_weights(
            "normalisation",
            {
                f"{_PREFIX[kind]}{name}": figures
                for kind, scale in scales.items()
                for name, figures in (("mean", scale.mean), ("deviation", scale.deviation))
            },
        )

    def read_normalisation(self) -> dict[Input, Normalisation]:
        """What `write_normalisation` wrote. Raises GenreclsError where the file is missing or damaged."""
        tensors, settings = self.read_weights("normalisation"), self.config
        scales: dict[Input, Normalisation] = {}
        with self._reading("normalisation.safetensors"):
            for kind in settings.model.inputs:
                mean, deviation = (tensors[f"{_PREFIX[kind]}{name}"] for name in ("mean", "deviation"))
                bins = 1 if kind == "wave" else settings.features.bins
                if mean.shape != (bins,) or deviation.shape != (bins,):
                    raise ValueError(f"it is not for the {bins} bins of config.toml")
                scales[kind] = Normalisation(mean, deviation, settings.batches.normalisation)
        return scales

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
        self._write(name, csv_text([columns, *lines]).encode())

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
        content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content[:size]).hexdigest() != sha256:
            return False
        if len(content) > size:
            self._write(path.name, content[:size])
        return True

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self._write(name, (json.dumps(value, indent=2) + "\n").encode())

    def _write(self, name: str, content: bytes) -> None:
        if self.writes:
            atomic.write_bytes(self.path / name, content)


def _check_record(record: Mapping[str, Any]) -> None:
    """Raise ValueError where something in `run.json` is not of its type."""
    genres, best, valid = record["genres"], record["best_epoch"], record.get("valid")
    if not all(isinstance(record[name], str) for name in _TEXTS):
        raise ValueError(f"{', '.join(_TEXTS)} are no texts")
    if not isinstance(genres, list) or not all(isinstance(genre, str) for genre in genres):
        raise ValueError("its genres are no texts")
    if best is not None and type(best) is not int:
        raise ValueError("its best epoch is no number")
    if valid and not (isinstance(valid, dict) and all(isinstance(each, int | float) for each in valid.values())):
        raise ValueError("its validation figures are no numbers")


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
