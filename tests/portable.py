"""`make test-portable`: portable kernels come to the same bits on other processors, or here is what differs.

Every model, all features and a whole run are computed here, here on one core, and in emulation (qemu-user, the whole
program) as processors of other vendors, generations and caches; SHA-256 digests are compared. With --compute this
script imports PyTorch, which takes most of a minute in emulation, and forks a process for each part: one that crashes
takes no other along.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from small import SMALL

from genrecls import kernels
from genrecls.cli.main import spin_briefly

QEMU = "qemu-x86_64"
PROCESSORS = ("EPYC-Rome", "Haswell", "Skylake-Client")
NATIVE, ONE_CORE = "native", "one core"
PARTS = ("run", "features", *SMALL)
"""What takes longest first, so that both processes end at about the same time."""
LIMIT = 3600
"""Seconds after which parts that are computed one after the other are given up."""
SIGSEGV = -11
KNOWN_CRASHES = dict.fromkeys(("cnn1d-lstm", "cnn2d-lstm"), "qemu 7.2 crashes in oneDNN's LSTM")
"""Parts that may end by signal 11 in emulation, and why. Nowhere else, and no other part."""


@dataclass(frozen=True)
class Outcome:
    """What a part came to in a place: digests by name, or the reason why there are none.

    known: the reason is one of KNOWN_CRASHES.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    known: bool = False


Outcomes = dict[tuple[str, str], Outcome]
"""By part and place."""


def computed(parts: Sequence[str], place: str) -> Outcomes:
    """Compute some parts natively, on one core, or as a processor of PROCESSORS."""
    command = [sys.executable, __file__, "--compute", ",".join(parts)]
    if place == ONE_CORE:
        command.append("--one-core")
    elif place != NATIVE:
        command = [QEMU, "-cpu", place, *command]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {(part, place): Outcome(reason=f"not done after {LIMIT} s") for part in parts}
    print(f"{place}: {', '.join(parts)}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    said: dict[str, dict[str, Any]] = {part: {"status": done.returncode or 1} for part in parts}
    for line in map(json.loads, done.stdout.splitlines()):
        said[line.pop("part")].update(line)
    made = {(part, place): judged(part, place, **said[part]) for part in parts}
    if any(outcome.reason and not outcome.known for outcome in made.values()):
        # Of each process qemu says twenty times what else the processor has that it does not emulate.
        told = [line for line in done.stderr.splitlines() if "TCG doesn't support requested feature" not in line]
        print(*told, sep="\n", file=sys.stderr)
    return made


def judged(part: str, place: str, status: int, digests: Mapping[str, str] | None = None) -> Outcome:
    """What the end of a process says. status: its exit status, negative for a signal."""
    if status == 0 and digests:
        return Outcome(digests)
    if status == SIGSEGV and part in KNOWN_CRASHES and place in PROCESSORS:
        return Outcome(reason=KNOWN_CRASHES[part], known=True)
    return Outcome(reason=f"failed, signal {-status}" if status < 0 else f"failed, exit status {status}")


def table(outcomes: Outcomes, places: Sequence[str]) -> tuple[list[list[str]], bool]:
    """Rows of cells, the first with the headings, and whether all that could be computed is as it is natively.

    Raises nothing: a part that has no digest natively is a row that says so.
    """
    rows, fine = [["", *places]], True
    for part in dict.fromkeys(part for part, _ in outcomes):
        expected = outcomes[part, NATIVE]
        fine &= not any(outcomes[part, place].reason and not outcomes[part, place].known for place in places)
        for name in expected.digests or {part: ""}:
            cells = [name]
            for place in places:
                outcome = outcomes[part, place]
                if outcome.reason:
                    cells.append(f"cannot: {outcome.reason}" if outcome.known else outcome.reason)
                elif place == NATIVE:
                    cells.append(outcome.digests[name][:12])
                elif not expected.digests:
                    cells.append("-")
                else:
                    same = outcome.digests.get(name) == expected.digests[name]
                    fine &= same
                    cells.append("same" if same else "DIFFERENT")
            rows.append(cells)
    return rows, fine


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of text."""
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, wide, strict=True)).rstrip()


def verdict(outcomes: Outcomes, fine: bool) -> str:
    """One sentence."""
    if not fine:
        return "NOT the same bits everywhere: see above."
    unshown = [f"{part} on {place}" for (part, place), outcome in outcomes.items() if outcome.known]
    left_out = f", but for what could not be shown: {', '.join(unshown)}" if unshown else ""
    return f"The same bits on every processor{left_out}."


def processor() -> str:
    """What this machine calls its processor, and how many cores may be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def minutes(began: float) -> str:
    """How long all took by the clock, and what it took of processors: other work moves the first alone."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        f"{(time.monotonic() - began) / 60:.0f} minutes, {(used.ru_utime + used.ru_stime) / 60:.0f} of processor time"
    )


def compare(parts: Sequence[str], processors: Sequence[str], jobs: int) -> int:
    """Compute everything everywhere, print the table, and return the exit status."""
    places, began = (NATIVE, ONE_CORE, *processors), time.monotonic()
    batches = [(some, place) for place in (*processors, *places[:2]) for i in range(jobs) if (some := parts[i::jobs])]
    outcomes: Outcomes = {}
    with ThreadPoolExecutor(jobs) as pool:
        for made in pool.map(lambda batch: computed(*batch), batches):
            outcomes |= made
    outcomes = {(part, place): outcomes[part, place] for part in parts for place in places}
    rows, fine = table(outcomes, places)
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    print(f"native: {processor()}; emulated: {version}; {minutes(began)}", "", *aligned(rows), "", sep="\n")
    print(verdict(outcomes, fine))
    return 0 if fine else 1


def compute(parts: Sequence[str], one_core: bool) -> int:
    """Compute each part in a process forked from this one. Prints JSON lines: a part's digests, its exit status."""
    if one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    spin_briefly()
    if remark := kernels.enter(kernels.PORTABLE):
        print(remark, file=sys.stderr)
        return 1
    # Not above: it imports PyTorch.
    module = import_module("parts")
    for part in parts:
        process = multiprocessing.get_context("fork").Process(target=_tell, args=(module.compute, part))
        process.start()
        process.join()
        print(json.dumps({"part": part, "status": process.exitcode}), flush=True)
    return 0


def _tell(function: Callable[[str], dict[str, str]], part: str) -> None:
    print(json.dumps({"part": part, "digests": function(part)}), flush=True)


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help=f"parts to compute, with commas between (default: {','.join(PARTS)})")
    parser.add_argument("--processors", help=f"to emulate, with commas between (default: {','.join(PROCESSORS)})")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument("--compute", help=argparse.SUPPRESS)
    parser.add_argument("--one-core", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.compute:
        return compute(given.compute.split(","), given.one_core)
    parts = given.models.split(",") if given.models else PARTS
    processors = given.processors.split(",") if given.processors else PROCESSORS
    for name, wanted, known in (("--models", parts, PARTS), ("--processors", processors, PROCESSORS)):
        if unknown := sorted(set(wanted) - set(known)):
            parser.error(f"{name} does not know {', '.join(unknown)}: choose of {', '.join(known)}")
    if reason := kernels.lacking():
        print(f"{reason}, so that nothing can be shown here.", file=sys.stderr)
        return 1
    if not shutil.which(QEMU):
        print(
            f"There is no {QEMU} here: install QEMU's user emulation (Debian: apt install qemu-user).", file=sys.stderr
        )
        return 1
    return compare(parts, processors, given.jobs)


if __name__ == "__main__":
    sys.exit(main())
