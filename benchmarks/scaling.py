"""How the cost of each command grows with the corpus: seconds, peak memory and disk for ever more clips."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import corpus
from measures import ROOT, MeasureError

SECONDS = 5
"""Of a clip: what grows with the number of clips is to show beside what grows with their length."""
SMALL = (
    *("--width", "4", "--se-ratio", "4", "--crops-per-clip", "1", "--batch-size", "8", "--epochs", "1"),
    *("--fragment", "3", "--device", "cpu", "--split", "random"),
)
SLACK = 1.25
"""Of the cost of one more clip, which may be that much dearer from one step to the next: timings are noisy."""
HIDDEN = 1000
"""Up to this many clips what starts a command hides a part of what each of them costs: they are not judged by."""
NOISE = {"seconds": 2.0, "memory": 32.0, "disk": 1.0}
"""By which a figure may be off besides."""
MEMORY_SLACK = 64
"""MiB by which the memory of preprocessing may differ between the smallest and the largest corpus."""
COMMANDS = ("preprocess", "train", "evaluate")


@dataclass(frozen=True)
class Cost:
    """memory: the largest process of the command, MiB. disk: what it wrote, MiB."""

    command: str
    clips: int
    seconds: float
    memory: float
    disk: float


def measured(folder: Path, sizes: Sequence[int], threads: int) -> list[Cost]:
    """What preprocessing, an epoch of a small network and its scoring cost for each number of clips."""
    costs = []
    for clips in sizes:
        here = folder / f"clips-{clips}"
        data = corpus.make(here / "data", clips, SECONDS)
        at = ("--data-dir", data, "--res", here / "res")
        runs = ("--runs", here / "runs")
        costs.append(_cost("preprocess", clips, here / "res", ("folder", *at, "--jobs", str(threads)))[0])
        given = (*("--dataset", "folder"), *at, *runs, *SMALL, "--threads", str(threads))
        cost, made = _cost("train", clips, here / "runs", given)
        costs.append(cost)
        run = Path(made["run"])
        costs.append(_cost("evaluate", clips, run / "evaluation", (run, "--res", here / "res"))[0])
        shutil.rmtree(here)
    return costs


def _cost(name: str, clips: int, written: Path, arguments: Sequence[str | Path]) -> tuple[Cost, Any]:
    """One command in a process of its own, its start included, and what it printed."""
    command = [sys.executable, "-m", "genrecls", name, *map(str, arguments), "--json", "--quiet"]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        printed, complained = process.stdout.read(), process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise MeasureError(f"{' '.join(command)} failed:\n{complained}")
    disk = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
    return Cost(name, clips, seconds, used.ru_maxrss / 1024, disk / 2**20), json.loads(printed)


def too_fast(costs: Sequence[Cost]) -> list[str]:
    """Sentences on what grows faster than the corpus."""
    found = []
    for name in COMMANDS:
        every = [cost for cost in costs if cost.command == name]
        rows = [cost for cost in every if cost.clips >= HIDDEN]
        for what, noise in NOISE.items():
            values = [asdict(row)[what] for row in rows]
            slopes = [(values[i + 1] - values[i]) / (rows[i + 1].clips - rows[i].clips) for i in range(len(rows) - 1)]
            for i in range(1, len(slopes)):
                expected = SLACK * slopes[i - 1] * (rows[i + 1].clips - rows[i].clips) + noise
                if values[i + 1] - values[i] > expected:
                    found.append(
                        f"{what} of {name} grow faster than the corpus: {1000 * slopes[i]:.3g} instead of "
                        f"{1000 * slopes[i - 1]:.3g} for a thousand clips more."
                    )
        if name == "preprocess" and every and every[-1].memory > every[0].memory + MEMORY_SLACK:
            found.append(
                f"preprocess takes {every[0].memory:.0f} MiB for {every[0].clips} clips and {every[-1].memory:.0f} for "
                f"{every[-1].clips}."
            )
    return found


def table(costs: Sequence[Cost]) -> str:
    """The section of RESULTS.md."""
    lines = [
        "## How it grows",
        "",
        f"Clips of {SECONDS} s; training is one epoch of one crop of each clip, by an SE-ResNet of width 4.",
        "Python's start and imports are included. Memory is that of the largest process.",
        "",
        "| command | clips | seconds | ms for a clip more | memory (MiB) | written (MiB) |",
        "|---|---|---|---|---|---|",
    ]
    for name in COMMANDS:
        rows = [cost for cost in costs if cost.command == name]
        for before, row in zip([None, *rows], rows, strict=False):
            more = "" if before is None else f"{1000 * (row.seconds - before.seconds) / (row.clips - before.clips):.2f}"
            cells = (name, f"{row.clips:,}", f"{row.seconds:.1f}", more, f"{row.memory:.0f}", f"{row.disk:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
