"""The commands of README.md, executed as they stand there, on corpora small enough for a test."""

import re
from pathlib import Path

import pages
import pytest
from conftest import CommandLine

from genrecls.cli.main import COMMANDS

README = (pages.ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    pages.furnish(root)
    return root


def test_every_command_stands_in_the_readme() -> None:
    named = {words[1] for words in pages.typed(README) if words[0] == "genrecls"}
    assert named == set(COMMANDS)


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (pages.ROOT / "Makefile").read_text(), flags=re.M))
    assert {words[1] for words in pages.typed(README) if words[0] == "make"} <= targets
    assert set(re.findall(r"`make ([a-z-]+)", README)) <= targets


@pytest.mark.slow
def test_the_commands_work(cli: CommandLine, checkout: Path) -> None:
    pages.Reader(cli, checkout).follow(README)


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README
