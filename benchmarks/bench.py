"""Measure genrecls beside reference pipelines, and hold the ratios against their floors: what `make bench` runs.

The two sides of each row take turns, in an order that alternates, each in a process of its own; the ratio is that of
the medians of their rates. Results go to RESULTS.md and results.json beside this file (or --out), where rows that are
measured again, with --only, take the place of those that were measured there on the same machine. The exit status is 1
where a ratio is under its floor; --quick does little, judges nothing, and shows only that everything runs.

Example: python benchmarks/bench.py --only preprocess --repeats 5
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

import corpus
import scaling
from measures import MeasureError, Speed
from rows import FULL, QUICK, Row, rows

HERE = Path(__file__).resolve().parent


def measured(row: Row, repeats: int) -> dict[str, Any]:
    """A row of results.json: both sides `repeats` times, in turn."""
    value: dict[str, Any] = {"work": row.work, "reference": row.against, "ratio": None, "floor": row.floor}
    value |= {"unit": row.unit, "figures": {}}
    if row.skipped:
        return {**value, "skipped": row.skipped}
    speeds: dict[str, list[Speed]] = {"genrecls": [], "reference": []}
    for repeat in range(repeats):
        sides = [("genrecls", row.ours), ("reference", row.reference)]
        for name, measure in sides if repeat % 2 == 0 else reversed(sides):
            speeds[name].append(measure())
    medians = {name: median(speed.rate for speed in each) for name, each in speeds.items()}
    return {
        **value,
        "ratio": medians["genrecls"] / medians["reference"],
        "figures": {
            **{name: [speed.rate for speed in each] for name, each in speeds.items()},
            "medians": medians,
        },
    }


def below(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose ratio is under its floor."""
    return [row for row in results if None not in (row["ratio"], row["floor"]) and row["ratio"] < row["floor"]]


def machine() -> dict[str, Any]:
    """What it was measured on."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = {line.partition(": ")[2] for line in lines if line.startswith("model name")}
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": ", ".join(sorted(names)) or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{memory / 2**30:.0f} GiB",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


def merged(
    results: list[dict[str, Any]], costs: list[scaling.Cost], described: dict[str, Any], earlier: Path
) -> tuple[list[dict[str, Any]], list[scaling.Cost]]:
    """With what an earlier results.json has besides, if it is of this machine: rows in its order, and then new ones."""
    try:
        kept = json.loads(earlier.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return results, costs
    if {**kept["machine"], "load": 0} != {**described, "load": 0}:
        return results, costs
    new = {(row["work"], row["reference"]): row for row in results}
    rows = [new.pop((row["work"], row["reference"]), row) for row in kept["rows"]]
    return [*rows, *new.values()], costs or [scaling.Cost(**cost) for cost in kept["scaling"]]


def table(results: list[dict[str, Any]], described: dict[str, Any], costs: Sequence[scaling.Cost] = ()) -> str:
    """RESULTS.md."""
    lines = [
        "# How fast",
        "",
        "Made by `make bench`: repeats of each side, in turn, medians. A ratio is the rate of genrecls over that of",
        "the reference, so more is better; rows without a floor are for information.",
        "",
        *(f"- {name}: {'none' if value is None else value}" for name, value in described.items() if name != "load"),
        f"- load average when it began: {described['load']:.1f}",
        "",
        "| work | reference | genrecls | reference | unit | repeats | ratio | at least |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        floor = "" if row["floor"] is None else f"{row['floor']:.2f}"
        if row["ratio"] is None:
            cells = ["", "", row["unit"], "", f"skipped: {row['skipped']}", floor]
        else:
            medians = row["figures"]["medians"]
            under = " (**under**)" if row in below([row]) else ""
            cells = [_rate(medians[side]) for side in ("genrecls", "reference")]
            cells += [row["unit"], str(len(row["figures"]["genrecls"])), f"{row['ratio']:.2f}{under}", floor]
        lines.append(f"| {' | '.join([row['work'], row['reference'], *cells])} |")
    if costs:
        lines += ["", scaling.table(costs)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main(given: list[str] | None = None) -> int:
    """Read the command line, measure, write, judge."""
    described, _, example = (__doc__ or "").rpartition("Example: ")
    parser = argparse.ArgumentParser(
        description=described, epilog=f"Example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few short clips, small models, once; nothing is judged")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each side (default: %(default)s)")
    parser.add_argument("--clips", type=int, help=f"clips of preprocessing (default: {FULL.clips})")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="rows whose work or reference has this in it, or `scaling`"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of RESULTS.md and results.json")
    parser.add_argument("--work", type=Path, help="folder for corpus and caches, 2 GB (default: a temporary one)")
    asked = parser.parse_args(given)
    scale = QUICK if asked.quick else FULL
    scale = replace(scale, clips=asked.clips or scale.clips)
    repeats = 1 if asked.quick else asked.repeats
    if repeats < 1:
        parser.error("--repeats must be at least 1")
    about = machine()
    failed = False
    costs: list[scaling.Cost] = []
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="genrecls-bench-", dir=asked.work) as folder:
        many = corpus.make(Path(folder, "many"), scale.clips, scale.seconds)
        few = corpus.make(Path(folder, "few"), scale.trained, scale.seconds)
        for row in rows(many, few, scale):
            if asked.only not in f"{row.work} {row.against}":
                continue
            try:
                results.append(measured(row, repeats))
            except MeasureError as error:
                print(f"bench: {error}", file=sys.stderr)
                results.append({**measured(replace(row, skipped="failed"), 0), "skipped": "a side failed"})
                failed = True
            last = results[-1]
            ratio = last.get("skipped") if last["ratio"] is None else f"{last['ratio']:.2f}"
            print(f"{row.work} / {row.against}: {ratio}", flush=True)
        if asked.only in "scaling":
            costs = scaling.measured(Path(folder), scale.sizes, scale.threads)
            print("scaling:", "; ".join(scaling.too_fast(costs)) or "nothing grows faster than the corpus", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.only:
        results, costs = merged(results, costs, about, asked.out / "results.json")
    kept = {
        "machine": about,
        "quick": asked.quick,
        "rows": results,
        "scaling": [asdict(cost) for cost in costs],
    }
    (asked.out / "results.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (asked.out / "RESULTS.md").write_text(table(results, about, costs), encoding="utf-8")
    if failed:
        return 1
    under = [] if asked.quick else below(results)
    for each in under:
        print(
            f"bench: {each['work']} against {each['reference']} is {each['ratio']:.2f}, under {each['floor']:.2f}.",
            file=sys.stderr,
        )
    steep = [] if asked.quick else scaling.too_fast(costs)
    for sentence in steep:
        print(f"bench: {sentence}", file=sys.stderr)
    return 1 if under or steep else 0


if __name__ == "__main__":
    sys.exit(main())
