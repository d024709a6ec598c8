"""Measure what deterministic mode costs: the same recipe with `--deterministic error` and `off`, in turn.

Each repetition trains once in each mode, in an order that alternates. Printed are ratios of the medians of an epoch's
training time by the clock, the first epoch of each run left out, and of a run's processor time, and of the fastest
epochs. On a machine with other work the last two say more. Caches below --res are used and made; the runs are thrown
away.

Example: python experiments/mode_cost.py --repetitions 5 --threads 2 -- --width 16
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from genrecls.run import Run
from reproduce import EXPERIMENTS, StepError, genrecls, recipe

MODES = ("error", "off")


@dataclass
class Times:
    """Seconds of a mode. epochs: by the clock, each. processor: of each whole run, start and validation included."""

    epochs: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def train(mode: str, common: list[str], res: Path, times: Times) -> None:
    """One run in a folder of its own. Raises StepError where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory(prefix="mode-cost-") as runs:
        made = genrecls("train", *common, "--deterministic", mode, "--res", str(res), "--runs", runs)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = Run(Path(made["run"])).lines("timing")
    times.epochs += [line["training_seconds"] for line in lines[1:]]
    times.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> int:
    """Read the command line, train, print the ratios."""
    described, _, example = (__doc__ or "").rpartition("Example: ")
    parser = argparse.ArgumentParser(
        description=described, epilog=f"Example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="synth", help="corpus (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="runs in each mode (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of a run (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="where to train (default: %(default)s)")
    parser.add_argument("--res", type=Path, default=os.environ.get("GENRECLS_RES") or EXPERIMENTS.parent / "res")
    parser.add_argument("settings", nargs="*", help="more options of `genrecls train`, after --")
    asked = parser.parse_args()
    if asked.repetitions < 1 or asked.epochs < 2:
        parser.error("--repetitions must be at least 1 and --epochs at least 2")
    common = [*recipe(asked.dataset), "--dataset", asked.dataset, "--epochs", str(asked.epochs), "--quiet"]
    common += ["--threads", str(asked.threads), "--device", asked.device, *asked.settings]
    times = {mode: Times() for mode in MODES}
    try:
        for repetition in range(asked.repetitions):
            for mode in MODES if repetition % 2 == 0 else reversed(MODES):
                print(f"== {repetition + 1} of {asked.repetitions}: {mode}", file=sys.stderr, flush=True)
                train(mode, common, asked.res, times[mode])
    except StepError as error:
        print(f"mode_cost: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mode_cost: interrupted; nothing was kept.", file=sys.stderr)
        return 130
    strict, loose = (times[mode] for mode in MODES)
    for name, one, other in (
        ("an epoch's training, by the clock", strict.epochs, loose.epochs),
        ("a whole run, processor time", strict.processor, loose.processor),
    ):
        first, second = statistics.median(one), statistics.median(other)
        print(f"{name}: error {first:.2f} s, off {second:.2f} s, ratio {first / second:.3f} (medians of {len(one)})")
    first, second = min(strict.epochs), min(loose.epochs)
    print(f"the fastest epoch, by the clock: error {first:.2f} s, off {second:.2f} s, ratio {first / second:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
