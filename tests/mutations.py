"""Single bytes changed in a run, its evaluation and its cache: none may lead to another figure, genre or traceback.

Each mutation puts another value into one byte of one file and asks the commands that use it. Either a command refuses
with one sentence, or what it says is, to the last digit, what it said of the untouched run; a list or a report may also
leave out what it cannot prove, and says so. Which byte becomes what is drawn by number, so that a mutation that got
through can be made again. `python tests/mutations.py 500` makes so many.
"""

import contextlib
import csv
import io
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import TINY, write_clip

from genrecls import kernels
from genrecls.seal import SEALED_BY_EVALUATE, UNSEALED
from genrecls.seeding import name_key, uniform
from genrecls.stamp import STAMP

PITCHES = {"high": 3000.0, "low": 150.0, "middle": 700.0}
CLIPS = 30
"""Of each genre: nine are tested, of which a report can draw a map."""
OF_CACHES = ("cache.json", "index.csv", "mel.npy", STAMP)
IDLE = {
    **UNSEALED,
    STAMP: "says only that a file was hashed before: one that is another is hashed again",
}
"""What decides nothing, and why: a change there must change nothing that is said of figures."""


@dataclass(frozen=True)
class Said:
    """What a command said, without what is the machine's or the folder's."""

    status: int
    value: Any
    error: str


@dataclass(frozen=True)
class Mutation:
    """Byte number `at` of a file becomes `value`. file: below the folder of runs and caches."""

    number: int
    file: str
    at: int
    old: int
    value: int

    def __str__(self) -> str:
        return f"mutation {self.number}: byte {self.at} of {self.file}, {self.old:#04x} -> {self.value:#04x}"


class Bench:
    """A corpus, its cache and two scored runs in a folder, and what commands say of them. The first run is mutated."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder / "here", folder / "out"
        for genre, pitch in PITCHES.items():
            for number in range(CLIPS):
                write_clip(folder / "corpus" / genre / f"{genre}{number:02d}.wav", pitch)
        self.places = ("--res", str(self.folder / "res"), "--runs", str(self.folder / "runs"))
        corpus = ("--dataset", "folder", "--data-dir", str(folder / "corpus"))
        self.runs = []
        for seed in ("0", "1"):
            made = self._json("train", *corpus, *TINY, "--seed", seed, "--tag", "ours", *self.places)
            self.runs.append(Path(made["run"]))
        for run in self.runs:
            for subset in ("test", "valid"):
                self._json("evaluate", str(run), "--subset", subset, *self.places)
        self.song = str(folder / "corpus" / "high" / "high00.wav")
        self.files = sorted(self._files())
        # What is wrong for a whole run is wrong from the start.
        self.usual = {name: self.say(name) for name in self.commands}
        assert all(said.status == 0 for said in self.usual.values()), self.usual

    def _files(self) -> Iterator[str]:
        """Names below the folder, of the first run and of its cache."""
        run = self.runs[0]
        record = json.loads((run / "run.json").read_text())
        cache = self.folder / "res" / "cache" / record["cache_arrays"]["mel.npy"]["cache"]
        for path in (*run.rglob("*"), *(cache / name for name in OF_CACHES)):
            if path.is_file() and path.stat().st_size:
                yield path.relative_to(self.folder).as_posix()

    @property
    def commands(self) -> dict[str, tuple[str, ...]]:
        """Their words, by name."""
        run, other = map(str, self.runs)
        report = str(self.out / "report.html")
        figures = str(self.out / "figures")
        return {
            "verify": ("verify", run, *self.places),
            "predict": ("predict", run, self.song),
            "runs": ("runs", *self.places[2:]),
            "compare": ("compare", run, other),
            "report": ("report", run, "--no-audio", "--out", report, "--figures", figures, *self.places),
            # Which makes its figures anew, and so comes last.
            "evaluate": ("evaluate", run, *self.places),
        }

    def say(self, name: str) -> Said:
        """What a command says now."""
        shutil.rmtree(self.out, ignore_errors=True)
        said = _called(*self.commands[name], "--json")
        return Said(said.status, self._shown(name, said.value), said.error)

    def _shown(self, name: str, value: Any) -> Any:
        if name == "report" and value is not None:
            figures = {path.name: _rows(path) for path in (self.out / "figures").glob("*.csv")}
            return {"left_out": value["runs"][0]["left_out"], "scored": value["runs"][0]["scored"], "figures": figures}
        return value

    def _json(self, *words: str) -> Any:
        said = _called(*words, "--json")
        assert said.status == 0, said.error
        return said.value

    def mutation(self, number: int) -> Mutation:
        """The one of that number. Every file is as likely as any other, and every byte of it."""

        def drawn(what: str, below: int) -> int:
            return int(uniform(0, "mutation", number, name_key(what), 0) * below)

        file = self.files[drawn("file", len(self.files))]
        content = (self.folder / file).read_bytes()
        at = drawn("place", len(content))
        value = drawn("value", 255)
        return Mutation(number, file, at, content[at], value + (value >= content[at]))

    def wrong(self, made: Mutation) -> list[str]:
        """What is wrong with what commands say of the mutation, a line each."""
        path = self.folder / made.file
        whole, backup = path.read_bytes(), self.folder.parent / "backup"
        shutil.rmtree(backup, ignore_errors=True)
        shutil.copytree(self.folder, backup)
        path.write_bytes(whole[: made.at] + bytes([made.value]) + whole[made.at + 1 :])
        try:
            return [f"{made}: {name}: {fault}" for name in self.commands for fault in self._faults(name, made)]
        finally:
            # A mutated run may have been evaluated, and a cache made again.
            shutil.rmtree(self.folder)
            backup.rename(self.folder)

    def _faults(self, name: str, made: Mutation) -> Iterator[str]:
        try:
            said = self.say(name)
        except BaseException as error:  # noqa: BLE001
            yield f"{type(error).__name__}: {error}"
            return
        usual, file = self.usual[name], made.file.rpartition("/")[2]
        idle = file in IDLE and file != "run.json"
        if name == "verify":
            # Of JSON the values are sealed: blanks between them may be others.
            if said.status == 0 and not idle and file not in ("run.json", "cache.json"):
                yield "it is verified"
            if said.status != 0 and (idle or said.value["runs"][0]["changed"] == []):
                yield f"not verified, for no file: {said.value}"
        elif said.status != 0:
            if idle:
                yield f"it is refused, though it decides nothing: {said.error}"
            if said.status != 1 or said.value is not None or said.error.count("\n") != 1:
                yield f"exit status {said.status}, not with one sentence: {said.error}"
        elif name == "runs":
            yield from self._faults_of_list(said, made)
        elif name == "report":
            yield from _faults_of_report(usual.value, said.value)
        elif said.value != usual.value:
            yield f"it says {said.value} and not {usual.value}"

    def _faults_of_list(self, said: Said, made: Mutation) -> Iterator[str]:
        for now, then in zip(said.value, self.usual["runs"].value, strict=True):
            then = next(each for each in self.usual["runs"].value if each["run"] == now["run"])
            if now["status"] == "damaged":
                if (now["valid"], now["test"]) != (None, None) or not now["reason"]:
                    yield f"figures of a damaged run: {now}"
            elif {**now, "tags": []} != {**then, "tags": []}:
                yield f"it lists {now} and not {then}"


def _faults_of_report(usual: Any, said: Any) -> Iterator[str]:
    """A picture may be left out, with a sentence, and none may be another."""
    missing = usual["figures"].keys() - said["figures"].keys()
    if missing and not said["left_out"]:
        yield f"pictures are left out without a word: {sorted(missing)}"
    if said["scored"] != usual["scored"]:
        yield "it is scored no more"
    for name, rows in said["figures"].items():
        if rows != usual["figures"].get(name):
            yield f"another {name}"


def _rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def _called(*words: str) -> Said:
    """Run a command in this process, which has PyTorch already."""
    from genrecls.cli.main import status

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = status(list(words))
    text = out.getvalue()
    return Said(code, json.loads(text) if text.strip() else None, error.getvalue())


def mutate(folder: Path, numbers: Sequence[int], progress: bool = False) -> tuple[list[str], Counter[str]]:
    """All that is wrong, and how many mutations each file had."""
    bench = Bench(folder)
    assert {name.rpartition("/")[2] for name in bench.files} >= {"run.json", "config.toml", *OF_CACHES}
    assert any(SEALED_BY_EVALUATE in name for name in bench.files)
    faults: list[str] = []
    count: Counter[str] = Counter()
    for number in numbers:
        made = bench.mutation(number)
        count[made.file.partition("/")[2].partition("/")[2]] += 1
        faults += bench.wrong(made)
        if progress and number % 50 == 49:
            print(f"{number + 1} mutations, {len(faults)} faults", flush=True)
    return faults, count


def main(given: list[str]) -> int:
    """Make the first so many mutations, and say what is wrong."""
    os.environ.pop("GENRECLS_RES", None)
    kernels.enter(kernels.PORTABLE)
    with tempfile.TemporaryDirectory(prefix="genrecls-mutations-") as folder:
        faults, count = mutate(Path(folder), range(int(given[0])), progress=True)
    for file, times in sorted(count.items()):
        print(f"{times:5d}  {file}")
    print(*faults, sep="\n")
    print(f"{sum(count.values())} mutations in {len(count)} files: {len(faults) or 'no'} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
