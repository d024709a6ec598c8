"""Train and evaluate recipes, each for so many minutes: what `make experiments` runs. Run again, it goes on.

A budget that stopped a run by the clock would make it unrepeatable. So the seconds of an epoch are measured first, by a
probe of two epochs in a scratch folder, and the recipe is trained with `--epochs N` where N is what fits: an ordinary
run, which its command makes again. N is remembered in `epochs.json` beside the runs, so that the next call finds the
same runs, on this machine or another. A recipe that fails is reported at the end and does not stop the others.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from genrecls import atomic, config, reading, recipes
from genrecls.compute import resolve
from genrecls.config import Config
from genrecls.errors import GenreclsError
from genrecls.models.registry import settings_class
from genrecls.reading import Damaged
from genrecls.run import Run
from reproduce import EXPERIMENTS, StepError, genrecls

PROBE_EPOCHS = 2
"""The first may pay for starting up: the faster one counts."""
NOT_RECIPES = ("runs", "reproduce-*", "sweeps")
"""Folders of `experiments/` with TOML files of other kinds."""
RENDERED = "synth"
"""The corpus that is made here and needs no network."""


@dataclass(frozen=True)
class Asked:
    """What the command line says. budget: minutes of training and validation, None for the recipe's own epochs."""

    res: Path
    runs: Path
    budget: float | None = None
    dataset: str | None = None
    data_dir: Path | None = None
    split: str | None = None
    threads: int | None = None
    seed: int | None = None

    def settings(self, recipe: Path) -> Config:
        """The recipe's, with what is asked over them. Raises GenreclsError where it makes no run."""
        given: config.Nested = {}
        for section, name, value in (
            ("dataset", "name", self.dataset),
            ("split", "policy", self.split),
            ("compute", "threads", self.threads),
            ("training", "seed", self.seed),
        ):
            if value is not None:
                given.setdefault(section, {})[name] = value
        own = recipes.load(recipe, settings_class)
        settings = config.read(config.inherit(own, given, settings_class), settings_class)
        carried = settings.dataset.name != config.read(own, settings_class).dataset.name
        if carried and self.split is None:
            # The recipe's split is one of its corpus's; another corpus has its own.
            given["split"] = {"policy": "auto"}
            settings = config.read(config.inherit(own, given, settings_class), settings_class)
        return settings

    def flags(self, recipe: Path, settings: Config) -> list[str]:
        """The options of `genrecls train` that give these settings."""
        made = ["--recipe", str(recipe), "--res", str(self.res)]
        if self.dataset is not None:
            made += ["--dataset", self.dataset, "--split", settings.split.policy]
        elif self.split is not None:
            made += ["--split", self.split]
        for flag, value in (("--data-dir", self.data_dir), ("--threads", self.threads), ("--seed", self.seed)):
            if value is not None:
                made += [flag, str(value)]
        return made


class Memory:
    """The epochs chosen, in `epochs.json` beside the runs: key -> what was measured."""

    def __init__(self, runs: Path) -> None:
        self._path = runs / "epochs.json"

    def known(self) -> dict[str, Any]:
        """All of it. Raises StepError where the file is damaged."""
        try:
            return reading.json_object(reading.read_bytes(self._path))
        except FileNotFoundError:
            return {}
        except Damaged as error:
            raise StepError(f"{self._path} is damaged ({error}): remove it, and epochs are measured again.") from error

    def remember(self, key: str, value: dict[str, Any]) -> None:
        """Add an entry."""
        atomic.write_text(self._path, json.dumps({**self.known(), key: value}, indent=2, sort_keys=True) + "\n")


def key(settings: Config, budget: float, data_dir: Path | None) -> str:
    """What the number of epochs depends on: the recipe as it is trained, but for its seeds, the budget, the machine.

    Runs that differ by their seeds are trained for the same number of epochs, so that they can be averaged. data_dir:
    of the corpus, where it is not the recipe's.
    """
    values = dataclasses.replace(settings, compute=resolve(settings.compute)).values()
    values["training"].pop("seed")
    values["split"].pop("seed", None)
    place = data_dir or values["dataset"].pop("data_dir")
    values["dataset"]["data_dir"] = os.path.realpath(place) if place else ""
    text = json.dumps([values, budget], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def epochs(recipe: Path, settings: Config, asked: Asked) -> int:
    """How many epochs to train: the recipe's own, or as many as the budget holds, at least 1."""
    own = settings.training.epochs
    if asked.budget is None or own == 0:
        return own
    memory, entry = Memory(asked.runs), key(settings, asked.budget, asked.data_dir)
    if entry not in (known := memory.known()):
        seconds = seconds_per_epoch(recipe, settings, asked)
        chosen = max(1, min(own, int(asked.budget * 60 / seconds)))
        value = {"recipe": recipe.stem, "dataset": settings.dataset.name, "budget_minutes": asked.budget}
        memory.remember(entry, {**value, "seconds_per_epoch": round(seconds, 3), "epochs": chosen})
        return chosen
    try:
        return reading.field(reading.field(known, entry, dict), "epochs", int, 1, own)
    except Damaged as error:
        path = asked.runs / "epochs.json"
        raise StepError(f"The entry {entry} of {path} is damaged ({error}): remove it.") from error


def seconds_per_epoch(recipe: Path, settings: Config, asked: Asked) -> float:
    """Seconds of the faster of two epochs, validation included, of a run that is thrown away."""
    flags = asked.flags(recipe, settings)
    with tempfile.TemporaryDirectory(prefix="genrecls-probe-") as scratch:
        probe = min(PROBE_EPOCHS, settings.training.epochs)
        run = genrecls("train", *flags, "--epochs", str(probe), "--runs", scratch)["run"]
        lines = Run(Path(run)).lines("timing")
    return min(line["training_seconds"] + line["validation_seconds"] for line in lines)


def train_and_evaluate(recipe: Path, asked: Asked) -> str:
    """Train and score one recipe, or find that it was done; says what it came to. Raises StepError, GenreclsError."""
    settings = asked.settings(recipe)
    if settings.dataset.name == RENDERED and asked.data_dir is None and not settings.dataset.data_dir:
        genrecls("download", RENDERED, "--res", asked.res)
    count = epochs(recipe, settings, asked)
    flags = asked.flags(recipe, settings)
    made = genrecls("train", *flags, "--epochs", str(count), "--runs", asked.runs)
    if made["valid"] is None:
        return f"{made['status']}, not trained (0 epochs)"
    accuracy = accuracy_of(Path(made["run"]))
    if accuracy is None:
        place = ("--res", str(asked.res), *(("--data-dir", str(asked.data_dir)) if asked.data_dir else ()))
        accuracy = genrecls("evaluate", made["run"], *place)["clip"]["accuracy"]
    return f"{made['status']}, {made['epochs']} of {settings.training.epochs} epochs, accuracy {accuracy:.3f}"


def accuracy_of(run: Path) -> float | None:
    """Per clip on the test subset, None where the run was not scored."""
    try:
        found = reading.json_object(reading.read_bytes(run / "evaluation" / "metrics.json"))
        return reading.field(reading.field(found, "clip", dict), "accuracy", float, 0, 1)
    except (FileNotFoundError, Damaged):
        return None


def recipes_below(folder: Path) -> list[Path]:
    """Every recipe below a folder, sorted. One whose name begins with "_" is only a base of others."""
    found = []
    for path in sorted(folder.rglob("*.toml")):
        first = Path(os.path.relpath(path, EXPERIMENTS)).parts[0]
        of_run = (path.parent / "run.json").exists() or any(fnmatch(first, name) for name in NOT_RECIPES)
        if not (of_run or path.name.startswith("_")):
            found.append(path)
    return found


def run(chosen: Iterable[Path], asked: Asked) -> int:
    """Do them all; returns the exit status."""
    failed: list[tuple[Path, str]] = []
    for recipe in chosen:
        shown = os.path.relpath(recipe)
        print(f"== {shown}", file=sys.stderr, flush=True)
        try:
            print(f"   {train_and_evaluate(recipe, asked)}", file=sys.stderr, flush=True)
        except (StepError, GenreclsError) as error:
            print(f"   failed: {error}", file=sys.stderr, flush=True)
            failed.append((recipe, str(error)))
    if asked.runs.is_dir():
        show(asked.runs)
    for recipe, reason in failed:
        print(f"failed: {os.path.relpath(recipe)}: {reason}", file=sys.stderr)
    return int(bool(failed))


def show(runs: Path) -> None:
    """Print the table of runs."""
    subprocess.run([sys.executable, "-m", "genrecls", "runs", "--runs", str(runs)], check=False)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="*", type=Path, help="TOML files, or folders of them (default: experiments/)")
    parser.add_argument("--budget", type=float, help="minutes of training for each (default: the recipe's own epochs)")
    parser.add_argument("--dataset", help="train on this corpus instead of the recipe's, by the corpus's own split")
    parser.add_argument("--data-dir", type=Path, help="folder of the corpus (default: below --res)")
    parser.add_argument("--split", help="split policy, instead of the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads, instead of the recipe's")
    parser.add_argument("--seed", type=int, help="seed, instead of the recipe's")
    parser.add_argument("--res", type=Path, default=os.environ.get("GENRECLS_RES") or EXPERIMENTS.parent / "res")
    parser.add_argument("--runs", type=Path, default=os.environ.get("GENRECLS_RUNS") or EXPERIMENTS / "runs")
    given = vars(parser.parse_args())
    if given["budget"] is not None and not 0 < given["budget"] < float("inf"):
        parser.error("--budget must be a number of minutes above 0")
    chosen: list[Path] = []
    for named in given.pop("recipes") or [EXPERIMENTS]:
        found = recipes_below(named) if named.is_dir() else [named]
        if not found:
            print(f"experiments: there is no recipe below {named}: name one.", file=sys.stderr)
            return 1
        chosen += found
    try:
        return run(chosen, Asked(**given))
    except KeyboardInterrupt:
        print("experiments: interrupted; the same command goes on from what is done.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
