"""The commands of README.md, executed as they stand there, on corpora small enough for a test."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import CommandLine, write_clip
from fma_tree import lines, write_audio, write_table

from genrecls.cli.main import COMMANDS
from genrecls.datasets import gtzan
from genrecls.datasets.synth.corpus import render

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.S)
    return [shlex.split(line.removeprefix("$ ")) for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place as the README's reader has it: the recipes, GTZAN and synth below res/, some music."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "experiments", root / "experiments", ignore=shutil.ignore_patterns("runs", "reproduce-*"))
    for i, genre in enumerate(gtzan.GENRES):
        first = root / "res" / "gtzan" / "genres" / genre / f"{genre}.00000.wav"
        write_clip(first, 200.0 * (i + 1), seconds=1.0)
        for number in range(1, gtzan.CLIPS_PER_GENRE):
            first.with_name(f"{genre}.{number:05d}.wav").write_bytes(first.read_bytes())
        for number in range(4):
            write_clip(root / "my_music" / genre / f"{number}.wav", 200.0 * (i + 1), seconds=1.0)
    render(root / "res" / "synth", artists=4, clips=1)
    write_clip(root / "song.mp3", 400.0)
    write_table(root / "res" / "fma", lines())
    write_audio(root / "res" / "fma", "small", lines())
    return root


def test_every_command_stands_in_the_readme() -> None:
    named = {words[1] for words in commands() if words[0] == "genrecls"}
    assert named == set(COMMANDS)


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert {words[1] for words in commands() if words[0] == "make"} <= targets
    assert set(re.findall(r"`make ([a-z-]+)", README)) <= targets


@pytest.mark.slow
def test_the_commands_work(cli: CommandLine, checkout: Path) -> None:
    made = {"RUN": "", "RUN_A": "", "RUN_B": ""}
    for words in commands():
        if words[0] != "genrecls":
            continue
        arguments = [made.get(word, word) for word in words[1:]]
        if arguments[0] == "train" and "--help" not in arguments:
            arguments = ["train", *shorten(arguments[1:])]
        done = cli(*arguments, cwd=checkout)
        assert done.status == 0, f"{shlex.join(words)}\n{done.stderr}"
        if found := re.search(r"(?:Trained|Found): (\S+)", done.stdout):
            made = {"RUN": found[1], "RUN_A": made["RUN"], "RUN_B": found[1]}


def shorten(arguments: list[str]) -> list[str]:
    """The same command, for a model and a schedule that take a moment."""
    made = list(arguments)
    if "--epochs" in made:
        made[made.index("--epochs") + 1] = "1"
    else:
        made += ["--epochs", "1"]
    for flag, value in (("--crops-per-clip", "1"), ("--batch-size", "16"), ("--threads", "1")):
        assert flag not in made
        made += [flag, value]
    if "--fragment" not in made:
        made += ["--fragment", "1"]
    return made


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README
