"""Measure what is not promised: how far runs drift apart that differ in kernels, threads, precision or device alone.

Each variant is trained with the same seeds as the base (portable kernels, two threads), so that initial weights, crops
and masks are the same and only rounding differs. The measure of it is the last row of each table, where the seed is
another one: a drift that is small beside that is no news. Prints two Markdown tables; a run that is there already is
found, not trained again. CUDA is a variant where there is a GPU.

Example: python experiments/drift.py --seeds 5 --epochs 16 -- --width 16
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from genrecls.compute import native_bf16
from genrecls.errors import GenreclsError
from genrecls.run import Run
from genrecls.scores import answers
from reproduce import EXPERIMENTS, StepError, genrecls, recipe

BASE = "portable, 2 threads"
CPU = ("--device", "cpu")
NATIVE = ("--kernels", "native")
VARIANTS = {
    BASE: CPU,
    "portable, 1 thread": (*CPU, "--threads", "1"),
    "native, fp32, 2 threads": (*CPU, *NATIVE, "--precision", "fp32", "--threads", "2"),
    "native, bf16, 2 threads": (*CPU, *NATIVE, "--precision", "bf16", "--threads", "2"),
}
ON_CUDA = {
    "fp32, CUDA": ("--device", "cuda", "--precision", "fp32"),
    "bf16, CUDA": ("--device", "cuda", "--precision", "bf16"),
}
"""The flags of each variant, by the name it has in the tables."""
ANOTHER_SEED = "another seed"


@dataclass(frozen=True)
class Seen:
    """What a run came to. losses: training cross-entropy of each epoch. accuracy: of test clips. predicted: by clip."""

    losses: tuple[float, ...]
    accuracy: float
    predicted: dict[str, str]


@dataclass(frozen=True)
class Pair:
    """Two runs that are compared, the base first."""

    base: Seen
    other: Seen

    def drift(self, epoch: int) -> float:
        """Relative difference of the loss in an epoch, from 0."""
        return abs(self.other.losses[epoch] / self.base.losses[epoch] - 1)

    @property
    def gain(self) -> float:
        """Difference in test accuracy."""
        return self.other.accuracy - self.base.accuracy

    @property
    def changed(self) -> float:
        """Share of test clips that were given another genre."""
        clips = self.base.predicted
        return sum(self.other.predicted[clip] != genre for clip, genre in clips.items()) / len(clips)


def measure(flags: Sequence[str], common: Sequence[str], res: Path, runs: Path) -> Seen:
    """Train, or find, and score one run. Raises StepError where that fails, GenreclsError where the run is damaged."""
    made = genrecls("train", *common, *flags, "--res", str(res), "--runs", str(runs))
    scored = genrecls("evaluate", made["run"], "--res", str(res))
    run = Run(Path(made["run"]))
    said = answers(run)
    assert said is not None
    losses = tuple(line["train"]["cross_entropy"] for line in run.history)
    return Seen(losses, scored["clip"]["accuracy"], dict(zip(said.clips, said.predicted, strict=True)))


def pairs_of(seen: dict[str, list[Seen]]) -> dict[str, list[Pair]]:
    """Each variant beside the base of the same seed, then the base beside the base of the next seed.

    seen: the runs of each variant, in the order of the seeds.
    """
    base = seen[BASE]
    made = {
        name: [Pair(one, other) for one, other in zip(base, runs, strict=True)]
        for name, runs in seen.items()
        if name != BASE
    }
    made[ANOTHER_SEED] = [Pair(one, other) for one, other in pairwise((*base, base[0]))] if len(base) > 1 else []
    return {name: pairs for name, pairs in made.items() if pairs}


def shown_epochs(epochs: int) -> list[int]:
    """The first epochs and then ever fewer, up to the last, counted from 0."""
    return sorted({epochs - 1, *(2**i - 1 for i in range(epochs.bit_length()))})


def tables(seen: dict[str, list[Seen]]) -> str:
    """Drift of the loss, and what it does to accuracy, as Markdown."""
    compared = pairs_of(seen)
    epochs = shown_epochs(len(seen[BASE][0].losses))
    lines = [
        f"| beside {BASE} | " + " | ".join(f"epoch {epoch}" for epoch in epochs) + " |",
        "|---|" + "---|" * len(epochs),
    ]
    for name, pairs in compared.items():
        drifts = (max(pair.drift(epoch) for pair in pairs) for epoch in epochs)
        lines.append(f"| {name} | " + " | ".join(f"{drift:.1e}" for drift in drifts) + " |")
    lines += [
        "",
        "| runs | test accuracy, mean of seeds | difference, mean | lowest | highest | test clips with another genre |",
        "|---|---|---|---|---|---|",
        f"| {BASE} | {statistics.mean(run.accuracy for run in seen[BASE]):.3f} | | | | |",
    ]
    for name, pairs in compared.items():
        gains = [pair.gain for pair in pairs]
        changed = statistics.mean(pair.changed for pair in pairs)
        accuracy = statistics.mean(pair.other.accuracy for pair in pairs)
        lines.append(
            f"| {name} | {accuracy:.3f} | {statistics.mean(gains):+.3f} | {min(gains):+.3f} | {max(gains):+.3f} | "
            f"{changed:.1%} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Read the command line, train what is to be compared, print the tables."""
    described, _, example = (__doc__ or "").rpartition("Example: ")
    parser = argparse.ArgumentParser(
        description=described, epilog=f"Example: {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="synth", help="corpus (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of the corpus (default: below --res)")
    parser.add_argument("--split", default="grouped", help="policy of the split (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1 (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of a run (default: %(default)s)")
    parser.add_argument("--res", type=Path, default=os.environ.get("GENRECLS_RES") or EXPERIMENTS.parent / "res")
    parser.add_argument("--runs", type=Path, default=os.environ.get("GENRECLS_RUNS") or EXPERIMENTS / "runs")
    parser.add_argument("settings", nargs="*", help="more options of `genrecls train`, after --")
    asked = parser.parse_args()
    if asked.seeds < 1 or asked.epochs < 1:
        parser.error("--seeds and --epochs must be at least 1")
    variants = VARIANTS | (ON_CUDA if torch.cuda.is_available() else {})
    common = [*recipe(asked.dataset), "--dataset", asked.dataset, "--split", asked.split, "--quiet"]
    common += ["--epochs", str(asked.epochs), *(("--data-dir", asked.data_dir) if asked.data_dir else ())]
    seen: dict[str, list[Seen]] = {name: [] for name in variants}
    try:
        for seed in map(str, range(asked.seeds)):
            for name, flags in variants.items():
                print(f"== seed {seed}: {name}", file=sys.stderr, flush=True)
                given = [*common, "--seed", seed, *asked.settings]
                seen[name].append(measure(flags, given, asked.res, asked.runs))
    except (StepError, GenreclsError) as error:
        print(f"drift: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drift: interrupted; the same command goes on from the runs that are finished.", file=sys.stderr)
        return 130
    emulated = "" if native_bf16("cpu") else ", which has no bfloat16 of its own"
    processor = torch.cpu.get_capabilities().get("cpu_name", "unknown processor")
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    print(f"{processor} ({torch.backends.cpu.get_cpu_capability()}{emulated}){device}, PyTorch {torch.__version__}.\n")
    print(tables(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
