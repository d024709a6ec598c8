"""The command line's promises to scripts: flags, JSON, quiet, and a help that does not wait for torch."""

import json
import re
import subprocess
import sys

import pytest
from conftest import TINY, CommandLine, Desk
from pages import commands

from genrecls.cli.main import COMMANDS

RES, RUNS, MANNERS = ("--res",), ("--runs",), ("--json", "--quiet", "--debug", "--help")
FLAGS = {
    "download": (*RES, *MANNERS, "--data-dir"),
    "preprocess": (
        *(*RES, *MANNERS, "--data-dir", "--n-mels", "--n-fft", "--hop-length", "--sample-rate", "--verify"),
        "--exclude-genres",
    ),
    "train": (
        *(*RES, *RUNS, *MANNERS, "--dataset", "--data-dir", "--model", "--split", "--folds", "--fold", "--split-seed"),
        *(
            "--seed",
            "--epochs",
            "--batch-size",
            "--lr",
            "--optimizer",
            "--fragment",
            "--device",
            "--precision",
            "--threads",
        ),
        *("--deterministic", "--recipe", "--set", "--se-ratio", "--width", "--depth", "--exclude-genres"),
        *("--schedule", "--l1", "--l2", "--clip-norm", "--patience", "--class-weights", "--initialisation"),
        "--tag",
        "--track",
    ),
    "audit": (
        *RES,
        *MANNERS,
        "--data-dir",
        "--split",
        "--split-seed",
        "--folds",
        "--fold",
        "--out",
        "--strict",
        "--jobs",
    ),
    "sweep": (*RES, *RUNS, *MANNERS, "--trials", "--storage", "--set", "--epochs", "--data-dir", "--threads", "--jobs"),
    "augment": (
        *(*MANNERS, "--out", "--variant", "--seed", "--fragment", "--recipe", "--set", "--n-mels", "--equaliser"),
        *("--mask-probability", "--noise-probability", "--stretch-probability", "--feature-noise-probability"),
    ),
    "evaluate": (*RES, *RUNS, *MANNERS, "--subset"),
    "predict": (*RUNS, *MANNERS, "--top", "--timeline"),
    "export": (*RUNS, *MANNERS, "--out"),
    "reproduce": (*RES, *RUNS, *MANNERS, "--data-dir", "--device", "--threads", "--jobs", "--cached"),
    "verify": (*RES, *RUNS, *MANNERS),
    "runs": (*RUNS, *MANNERS, "--markdown", "--title", "--preface", "--top", "--by", "--subset", "--tag"),
    "compare": (*RUNS, *MANNERS, "--against", "--paired"),
    "report": (*RES, *RUNS, *MANNERS, "--out", "--figures", "--no-audio", "--device", "--data-dir"),
    "cache list": (*RES, *RUNS, *MANNERS),
    "cache prune": (*RES, *RUNS, *MANNERS, "--dry-run"),
    "models": (*MANNERS, "--genres", "--diagram", "--recipe", "--set", "--fragment", "--n-mels", "--se-ratio"),
}


def test_the_help_imports_nothing_heavy() -> None:
    """torch takes seconds to import; `genrecls --help` is to answer at once."""
    code = (
        "import sys; from genrecls.cli.main import status; code = status(['--help']);"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'soundfile'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)
    assert "Example" in done.stdout


def test_every_command_is_listed_with_its_flags() -> None:
    assert set(FLAGS) == set(commands())


@pytest.mark.parametrize("command", commands())
def test_each_help_has_flags_an_example_and_defaults(cli: CommandLine, command: str) -> None:
    done = cli(*command.split(), "--help")
    assert done.status == 0
    for flag in FLAGS[command]:
        assert re.search(rf"(^|\s){flag}\b", done.stdout), flag
    assert "Example:\n    genrecls " in done.stdout
    if command != "download":
        assert re.search(r"\[(env var: \w+;\s+)?default: ", done.stdout)


def test_the_help_of_train_shows_the_models_own_defaults(cli: CommandLine) -> None:
    text = " ".join(cli("train", "--help").stdout.split())
    assert re.search(r"--se-ratio N .*? \[default: \(16 in se- ?resnet, 32 in se-cnn\)\]", text)


def test_json_is_one_line_on_stdout_and_nothing_else(desk: Desk) -> None:
    done = desk.cli("train", *desk.on_corpus, *TINY, *desk.places, "--json")
    assert done.status == 0
    assert done.stdout.count("\n") == 1
    assert set(json.loads(done.stdout)) == {
        *("run", "id", "status", "best_epoch", "epochs", "weights_sha256", "initial_weights_sha256", "history_sha256"),
        *("valid", "seconds", "stopped_early"),
    }
    # No bar where stderr is no terminal.
    assert done.stderr == ""


def test_folders_come_from_the_environment(desk: Desk) -> None:
    given = ("train", *desk.on_corpus, *TINY, "--epochs", "0")
    made = desk.cli.json(*given, GENRECLS_RES=str(desk.res), GENRECLS_RUNS=str(desk.runs))
    assert made["run"].startswith(str(desk.runs))


def test_the_version() -> None:
    import genrecls

    done = subprocess.run([sys.executable, "-m", "genrecls", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(genrecls.__version__)
