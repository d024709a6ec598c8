"""A run directory: what was asked, on what, what came of it. Nothing in it is a pickle.

run.json                  id, status, corpus, cache, hashes
config.toml               every setting as resolved; a recipe that makes the same run
environment.json          where and with what it ran
spans.csv                 the split: which frames of which clip had which role
initial.safetensors       weights before the first step
best.safetensors          weights that validation chose
normalisation.safetensors
metrics.jsonl             one line an epoch, only what is repeatable
draws.jsonl               one line an epoch: the hash of every stream's draws
timing.jsonl              one line an epoch: seconds, fragments a second, memory
evaluation/               metrics.json, predictions.csv
"""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import tomli_w
import torch
from safetensors import SafetensorError

from genrecls import atomic, config
from genrecls.config import SCHEMA, Config
from genrecls.errors import GenreclsError
from genrecls.lock import Taken, exclusive
from genrecls.models.registry import settings_class
from genrecls.normalisation import Normalisation
from genrecls.splits import Span

ALWAYS_HASHED = {("split", "policy"), ("compute", "device"), ("compute", "precision"), ("compute", "threads")}
"""Settings that are resolved on the spot, so that their default says nothing about their value."""


def identity(settings: Config, fingerprint: str, cache_key: str) -> str:
    """The id of a run: 12 hexadecimal digits that change with every setting that can change a bit.

    settings: resolved. A field at its default is left out, so that a field added later leaves old ids as
    they are.
    """
    described: dict[str, Any] = {"schema": SCHEMA, "fingerprint": fingerprint, "cache": cache_key}
    described["model.name"] = settings.model.name
    for section in settings.sections():
        applying = section.values()
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


@dataclass(frozen=True)
class Run:
    """A run's directory."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def record(self) -> dict[str, Any]:
        """`run.json`."""
        record: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        return record

    @property
    def environment(self) -> dict[str, Any]:
        """`environment.json`."""
        found: dict[str, Any] = json.loads((self.path / "environment.json").read_text(encoding="utf-8"))
        return found

    @property
    def config(self) -> Config:
        """The settings as resolved."""
        return config.read(config.recipe(self.path / "config.toml"), settings_class)

    @property
    def finished(self) -> bool:
        """Whether training reached its end."""
        return (self.path / "run.json").is_file() and self.record["status"] == "finished"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to this run. Entering raises GenreclsError where one does."""
        try:
            with exclusive(self.path / ".lock"):
                yield
        except Taken as error:
            raise GenreclsError(
                f"Another process is training the run {self.path}: wait for it, or change a setting."
            ) from error

    def clear(self) -> None:
        """Remove what an unfinished attempt left behind."""
        for child in self.path.iterdir():
            if child.name != ".lock":
                shutil.rmtree(child) if child.is_dir() else child.unlink()

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
        atomic.write_text(self.path / "config.toml", tomli_w.dumps(nested))

    def write_spans(self, spans: Iterable[Span]) -> None:
        """Write `spans.csv`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["clip", "first_frame", "frames", "role"])
        writer.writerows([span.clip, span.first_frame, span.frames, span.role] for span in spans)
        atomic.write_text(self.path / "spans.csv", text.getvalue())

    def read_spans(self) -> list[Span]:
        """The split this run was trained on."""
        with open(self.path / "spans.csv", newline="", encoding="utf-8") as handle:
            return [
                Span(row["clip"], int(row["first_frame"]), int(row["frames"]), row["role"])  # type: ignore[arg-type]
                for row in csv.DictReader(handle)
            ]

    def write_weights(self, name: str, tensors: Mapping[str, torch.Tensor]) -> str:
        """Write `<name>.safetensors` and return the weights' SHA-256."""
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        atomic.write_bytes(self.path / f"{name}.safetensors", safetensors.torch.save(plain))
        return weights_sha256(plain)

    def read_weights(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of `<name>.safetensors`. Raises GenreclsError where it is missing or damaged."""
        path = self.path / f"{name}.safetensors"
        try:
            return safetensors.torch.load(path.read_bytes())
        except OSError as error:
            raise GenreclsError(
                f"The run {self.name} has no {path.name}: it was not trained to an end, so run its `genrecls train` "
                "again."
            ) from error
        except SafetensorError as error:
            raise GenreclsError(f"{path} is damaged ({error}): train the run again.") from error

    def write_normalisation(self, normalisation: Normalisation) -> None:
        """Write `normalisation.safetensors`."""
        self.write_weights("normalisation", asdict(normalisation))

    def read_normalisation(self) -> Normalisation:
        """What `write_normalisation` wrote."""
        return Normalisation(**self.read_weights("normalisation"))

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Add a line to `<name>.jsonl`."""
        with open(self.path / f"{name}.jsonl", "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        atomic.write_text(self.path / name, json.dumps(value, indent=2) + "\n")


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
    if not (path / "run.json").is_file() or not (path / "config.toml").is_file():
        raise GenreclsError(
            f"{path} is no run directory (it has no run.json and config.toml): give the folder that `genrecls train` "
            "printed."
        )
    return Run(path)
