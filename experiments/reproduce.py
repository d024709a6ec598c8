"""Train and evaluate twice from scratch, in two places, and compare every bit: what `make reproduce` runs.

The first place is the working folders (`--res`, `--runs`), the second a temporary folder beside this file, with a cache
and a run of its own. Both read the same corpus. Progress goes to stderr, the table to stdout. Exit status 0 only where
every file compared is identical, and where the run's digests are those that this version publishes; the second place is
kept only where a file is not. The last line names the HTML report of the two runs beside each other, which is written
into the first one's directory.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import published
from genrecls.errors import GenreclsError

EXPERIMENTS = Path(__file__).resolve().parent
SETTINGS = ("--seed", "42", "--se-ratio", "16")
CACHE_FILES = ("index.csv", "mel.npy")
RUN_FILES = (
    "config.toml",
    "spans.csv",
    "normalisation.safetensors",
    "initial.safetensors",
    "draws.jsonl",
    "metrics.jsonl",
    "best.safetensors",
    "evaluation/predictions.csv",
    "evaluation/metrics.json",
)
"""In the order in which they come about, so that the first that differs is the nearest to the cause."""
OPTIONAL = "normalisation.safetensors"
"""Written only where the run's settings say so: it may be absent, if it is absent twice."""
REPORT = "report.html"
_CHUNK = 1 << 20
_PATIENCE = 10.0


class StepError(Exception):
    """A step that did not do its work: the message is what the user is told."""


@dataclass(frozen=True)
class Place:
    """Where one of the two runs works: corpora and caches below `res`, runs below `runs`."""

    res: Path
    runs: Path


@dataclass(frozen=True)
class Outcome:
    """What one place came to: the JSON values of `train` and `evaluate`, and the cache's folder."""

    cache: Path
    train: dict[str, Any]
    evaluate: dict[str, Any]

    @property
    def run(self) -> Path:
        """The run directory."""
        return Path(self.train["run"])


@dataclass
class Clock:
    """Seconds by part and phase ("first", "train"), in the order in which they ran."""

    parts: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def phase(self, part: str, name: str) -> Iterator[None]:
        """Announce a phase on stderr and time what is done in it."""
        print(f"== {part}: {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        yield
        self.parts.setdefault(part, {})[name] = time.monotonic() - start

    def lines(self) -> Iterator[str]:
        """The total, then a line for each part."""
        yield f"{sum(sum(phases.values()) for phases in self.parts.values()):.0f} s"
        for part, phases in self.parts.items():
            yield f"{part}: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in phases.items())


def genrecls(*arguments: str | Path) -> dict[str, Any]:
    """Run one command with `--json` and return its value. Its progress bars go to this process's stderr.

    Raises StepError where it fails (having said why on stderr) or prints no JSON object.
    """
    command = ["genrecls", *map(str, arguments), "--json"]
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:
        # The terminal interrupted the command as well: let it put its work in order before its folder goes.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        process.kill()
        raise
    if process.returncode != 0:
        raise StepError(
            f"`{shlex.join(command)}` ended with exit status {process.returncode}: mend what it says above."
        )
    try:
        value = json.loads(output)
    except json.JSONDecodeError as error:
        raise StepError(f"`{shlex.join(command)}` did not print one JSON value but {output[:200]!r}.") from error
    if not isinstance(value, dict):
        raise StepError(f"`{shlex.join(command)}` printed {type(value).__name__} instead of a JSON object.")
    return value


def recipe(dataset: str) -> tuple[str, ...]:
    """The options that choose the corpus's committed recipe, none where it has none."""
    path = EXPERIMENTS / f"{dataset}.toml"
    return ("--recipe", str(path)) if path.is_file() else ()


def download(dataset: str, place: Place) -> Path:
    """Make or download the corpus below `place.res` where it is not there yet; returns its folder."""
    return Path(genrecls("download", dataset, "--res", place.res)["path"])


def train_and_evaluate(dataset: str, data_dir: Path | None, place: Place, clock: Clock, name: str) -> Outcome:
    """Preprocess, train and evaluate in `place`; `name` ("first", "second") tells the phases apart.

    data_dir: the folder of the corpus, None for its own place below `place.res`.
    """
    at: tuple[str | Path, ...] = ("--res", place.res)
    if data_dir is not None:
        at = ("--data-dir", data_dir, *at)
    with clock.phase(name, "preprocess"):
        cache = genrecls("preprocess", dataset, *recipe(dataset), *at)["cache"]
    with clock.phase(name, "train"):
        train = genrecls("train", *recipe(dataset), "--dataset", dataset, *SETTINGS, *at, "--runs", place.runs)
    with clock.phase(name, "evaluate"):
        evaluate = genrecls("evaluate", train["run"], "--res", place.res)
    return Outcome(Path(cache), train, evaluate)


def difference(first: Path, second: Path) -> str | None:
    """How two files differ, in words; None where every byte is the same."""
    missing = [str(path) for path in (first, second) if not path.is_file()]
    if missing:
        return f"missing: {', '.join(missing)}"
    offset = 0
    with first.open("rb") as left, second.open("rb") as right:
        while True:
            a, b = left.read(_CHUNK), right.read(_CHUNK)
            if a != b:
                same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
                return f"from byte {offset + same} on"
            if not a:
                return None
            offset += len(a)


def first_difference(first: Outcome, second: Outcome) -> tuple[str | None, int]:
    """The first thing that differs between two outcomes, with how, and the number of files found identical before it.

    Compared are the runs' ids (the hash of corpus, cache and settings), then `CACHE_FILES` and every other array of the
    caches, then `RUN_FILES`, byte by byte.
    """
    if first.train["id"] != second.train["id"]:
        return f"the runs' ids ({first.train['id']}, {second.train['id']})", 0
    arrays = {path.name for outcome in (first, second) for path in outcome.cache.glob("*.npy")}
    pairs = [(first.cache / name, second.cache / name) for name in sorted(arrays.union(CACHE_FILES))]
    pairs += [(first.run / name, second.run / name) for name in RUN_FILES]
    same = 0
    for left, right in pairs:
        if left.name == OPTIONAL and not left.exists() and not right.exists():
            continue
        how = difference(left, right)
        if how is not None:
            return f"{left.name} ({how})", same
        same += 1
    return None, same


def near(path: Path) -> Path:
    """The path as short as it can be told: from the working folder where it is below that."""
    relative = Path(os.path.relpath(path))
    return path if relative.parts[:1] == ("..",) else relative


def table(first: Outcome, second: Outcome, different: str | None, compared: int, clock: Clock) -> str:
    """The result in words and figures, for people."""
    score = first.evaluate
    lines = [
        f"{score['clips']} clips of the subset {score['subset']}, split {score['split']}",
        "",
        f"{'':14}{'accuracy':>8}  {'95 % interval':>15}  {'macro F1':>8}",
    ]
    for level in ("fragment", "clip"):
        of = score[level]
        interval = f"{of['accuracy_low']:.3f} to {of['accuracy_high']:.3f}"
        lines.append(f"{'per ' + level:14}{of['accuracy']:8.3f}  {interval:>15}  {of['f1_macro']:8.3f}")
    verdict = f"identical ({compared} files)" if different is None else f"DIFFERENT, first in {different}"
    total, *parts = clock.lines()
    lines += [
        "",
        f"weights, first time   {first.train['weights_sha256']}",
        f"weights, second time  {second.train['weights_sha256']}",
        f"comparison            {verdict}",
        f"run                   {near(first.run)} ({first.train['status']})",
        f"time                  {total}",
        *(f"{'':22}{part}" for part in parts),
    ]
    return "\n".join(lines)


def beside_published(dataset: str, made: Outcome, publish: bool) -> tuple[list[str], bool]:
    """The run's digests beside the published ones, in lines of text, and whether nothing speaks against them.

    publish: write them down as published first. Raises StepError where they are not of the kind that is published.
    """
    why_not = published.reason_not_to_compare(made.run)
    if publish:
        if why_not:
            raise StepError(f"Nothing is published: {why_not}.")
        published.publish(dataset, _digests(made))
    known = published.of(dataset)
    if known is None:
        return [f"no digests of {dataset} are published"], True
    if why_not:
        return [f"not compared with what is published: {why_not}"], True
    here = _digests(made)
    return list(published.comparison(known, here)), published.same(known, here)


def _digests(made: Outcome) -> published.Digests:
    return published.digests(made.run, made.cache, made.evaluate["predictions_sha256"])


def reproduce(dataset: str, data_dir: Path | None, place: Place, publish: bool = False) -> int:
    """Do it all; returns the exit status. publish: write the digests down as this version's.

    Raises StepError where a step fails.
    """
    clock = Clock()
    corpus = data_dir
    if corpus is None:
        with clock.phase("corpus", "download"):
            corpus = download(dataset, place)
    first = train_and_evaluate(dataset, data_dir, place, clock, "first")
    scratch = Path(tempfile.mkdtemp(prefix="reproduce-", dir=EXPERIMENTS))
    keep = False
    try:
        second = train_and_evaluate(dataset, corpus, Place(scratch / "res", scratch / "runs"), clock, "second")
        if second.train["status"] != "finished":
            raise StepError(f"The second run was {second.train['status']} instead of trained from scratch.")
        with clock.phase("both", "compare"):
            different, compared = first_difference(first, second)
        keep = different is not None
        print(table(first, second, different, compared, clock), flush=True)
        lines, as_published = beside_published(dataset, first, publish and not keep)
        print("", *lines, "", sep="\n", flush=True)
        if keep:
            print(f"The second place is kept for a look: {scratch}", file=sys.stderr)
        report = first.run / REPORT
        with clock.phase("both", "report"):
            genrecls("report", first.run, second.run, "--out", report, "--res", place.res)
    finally:
        if not keep:
            shutil.rmtree(scratch)
    print(f"{'report':22}{near(report)}")
    return int(keep or not as_published)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", choices=("synth", "gtzan"), default="synth")
    parser.add_argument("--data-dir", type=Path, help="folder of the corpus (default: below --res, made or downloaded)")
    parser.add_argument("--res", type=Path, default=os.environ.get("GENRECLS_RES") or EXPERIMENTS.parent / "res")
    parser.add_argument("--runs", type=Path, default=os.environ.get("GENRECLS_RUNS") or EXPERIMENTS / "runs")
    parser.add_argument("--publish", action="store_true", help="write the digests down as those of this version")
    asked = parser.parse_args()
    try:
        return reproduce(asked.dataset, asked.data_dir, Place(asked.res, asked.runs), asked.publish)
    except (StepError, GenreclsError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reproduce: interrupted; the same command goes on from what is done.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
