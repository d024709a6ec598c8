"""The two sides of a row: a genrecls command, or a reference script, each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFERENCES = Path(__file__).resolve().parent / "references"
ROOT = REFERENCES.parent.parent


class MeasureError(Exception):
    """A process that ended with a failure: the message is what the user is told."""


@dataclass(frozen=True)
class Speed:
    """amount: clips, fragments or calls done in so many seconds."""

    amount: float
    seconds: float

    @property
    def rate(self) -> float:
        """Amount a second."""
        return self.amount / self.seconds


def output(command: Sequence[str | Path]) -> str:
    """What a process prints. Raises MeasureError where it fails."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    if done.returncode:
        raise MeasureError(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def genrecls(*arguments: str | Path) -> dict[str, Any]:
    """The JSON value of a command."""
    value: dict[str, Any] = json.loads(output(["-m", "genrecls", *arguments, "--json", "--quiet"]))
    return value


def reference(name: str, **settings: Any) -> Speed:
    """What a script of `references/` measured of itself, its imports left out."""
    return Speed(**json.loads(output([REFERENCES / f"{name}.py", json.dumps(settings)])))


def preprocess(corpus: Path, jobs: int) -> Speed:
    """A cache from nothing: hashes of the files, decoding, extraction, the array and its hash on the disk."""
    with tempfile.TemporaryDirectory(dir=corpus.parent) as res:
        made = genrecls("preprocess", "folder", "--data-dir", corpus, "--res", res, "--jobs", str(jobs))
    return Speed(made["clips"], made["seconds"])


def train(corpus: Path, *settings: str) -> Speed:
    """Fragments and seconds of the training of all epochs but the first, from the cache."""
    at = ("--dataset", "folder", "--data-dir", corpus, "--res", corpus.parent / "res")
    with tempfile.TemporaryDirectory(dir=corpus.parent) as runs:
        made = genrecls("train", *at, "--runs", runs, *settings)
        lines = (Path(made["run"]) / "timing.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [json.loads(line) for line in lines[1:]]
    seconds = sum(epoch["training_seconds"] for epoch in epochs)
    return Speed(sum(epoch["training_seconds"] * epoch["fragments_per_second"] for epoch in epochs), seconds)


def command(*arguments: str | Path) -> Speed:
    """One call of Python with these arguments, start included."""
    began = time.perf_counter()
    output(arguments)
    return Speed(1, time.perf_counter() - began)
