"""What the embedded corpus is for: it shows the leak between a random split and one that keeps artists apart."""

from pathlib import Path

import pytest
from conftest import CommandLine

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def res(cli: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("res")
    cli.json("download", "synth", "--res", folder)
    return folder


@pytest.mark.slow
def test_a_random_split_flatters(cli: CommandLine, res: Path, tmp_path: Path) -> None:
    """One of the three seeds of experiments/RESULTS.md, each of which takes three minutes of processor time a split."""
    accuracy = []
    for split in ("grouped", "random"):
        places = ("--res", res, "--runs", tmp_path)
        given = ("--recipe", ROOT / "experiments" / "synth.toml", "--split", split, "--seed", 0, "--split-seed", 0)
        made = cli.start("train", *given, *places, "--json").wait(seconds=1200).value
        scored = cli.json("evaluate", made["run"], *places)
        assert scored["clips"] >= 150
        accuracy.append(scored["clip"]["accuracy"])
    grouped, random = accuracy
    assert 0.75 <= grouped <= 0.97
    assert random - grouped >= 0.05
    # The slow test of test_synth.py holds a nearest-mean classifier on mean spectra below 0.55.
    assert grouped - 0.55 >= 0.15
