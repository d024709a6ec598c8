"""The commands that README.md and the pages of docs/ show, and a place to follow them in, as a reader would have it.

A block of the language `console` is what the reader types: it is executed. One of the language `bash` needs what a test
has not (a network, a GPU, a batch system, a shell's own words); its commands are only held against the command line.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from conftest import CommandLine, write_clip
from fma_tree import lines, write_audio, write_table

from genrecls.cli.main import COMMANDS, group
from genrecls.cli.shell import Shell
from genrecls.datasets import gtzan
from genrecls.datasets.synth.corpus import render

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))

_FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_LOOP = re.compile(r"for (\w+) in (.+); do (.+); done")
_GROUPS = ("A1", "A2", "A3", "B1", "B2", "B3")


@dataclass(frozen=True)
class Block:
    """A fenced block. title: the file that it is to be, where it is one."""

    language: str
    title: str | None
    body: str


def page(name: str) -> str:
    """The text of a page of docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(*found.groups()) for found in _FENCE.finditer(text)]


def without_blocks(text: str) -> str:
    """The page's own words."""
    return _FENCE.sub("", text)


def typed(text: str) -> list[list[str]]:
    """What a reader is to type, in words, loops of the shell gone through."""
    found = []
    for block in blocks(text):
        if block.language == "console":
            for line in block.body.splitlines():
                assert line.startswith("$ "), f"no command, so it belongs into a block of the language text: {line}"
                found += [shlex.split(each) for each in _unrolled(line.removeprefix("$ "))]
    return found


def _unrolled(line: str) -> Iterator[str]:
    loop = _LOOP.fullmatch(line)
    if loop is None:
        yield line
        return
    name, values, command = loop.groups()
    for value in values.split():
        yield command.replace(f"${name}", value)


def mentioned(text: str) -> list[list[str]]:
    """The arguments of every `genrecls` that the page names anywhere: in blocks of any language, and in its words."""
    scripts = [line for block in blocks(text) for line in block.body.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`]+)`", without_blocks(text).replace("\n", " "))
    found: list[list[str]] = []
    for line in [each for script in scripts for each in _unrolled(script.removeprefix("$ "))] + spans:
        # A variable stands for a number where one is wanted.
        parts = re.split(r"&&|\|\||;| > ", re.sub(r'"?\$\w+"?', "0", line))
        found += [shlex.split(told[1]) for part in parts if (told := re.search(r"(?:^|\s)genrecls (.+)", part))]
    return found


def commands() -> list[str]:
    """Every command as it is typed; of a group each subcommand, by both names."""
    context = click.Context(group, info_name="genrecls", obj=Shell())
    found = []
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        below = command.list_commands(context) if isinstance(command, click.Group) else []
        found += [f"{name} {each}" for each in below] or [name]
    return found


def refusal(arguments: list[str]) -> str | None:
    """Why the command line would not take these arguments; None where it would. Nothing is executed.

    An ellipsis stands for what was said before: then only the command's and the options' names count.
    """
    name, *given = arguments
    if name.startswith("-"):
        return None if name in ("--help", "--version") else f"there is no {name}"
    if name == "COMMAND":
        return None
    if name not in COMMANDS:
        return f"there is no command {name}"
    context = click.Context(group, info_name="genrecls", obj=Shell())
    command = group.get_command(context, name)
    assert command is not None
    if isinstance(command, click.Group) and given and not given[0].startswith(("-", "…", "[")):
        below = command.get_command(context, given[0])
        if below is None:
            return f"{name} has no {given[0]}"
        command, name, given = below, f"{name} {given[0]}", given[1:]
    known = {flag for each in command.get_params(click.Context(command)) for flag in each.opts}
    if unknown := [word for word in given if word.startswith("--") and word.partition("=")[0] not in known]:
        return f"{name} has no {unknown[0]}"
    if {"…", "[OPTIONS]"} & {*given} or len(given) < 2 or "--help" in given:
        return None
    try:
        command.make_context(name, list(given), parent=context)
    except click.ClickException as error:
        return error.format_message()
    return None


def furnish(root: Path) -> None:
    """A checkout as the reader has it: the recipes, GTZAN, FMA and synth below res/, some music."""
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


class Reader:
    """Who follows pages in a furnished place. runs: what was trained, the last one at the end."""

    def __init__(self, cli: CommandLine, root: Path) -> None:
        self._cli = cli
        self._root = root
        self.runs: list[str] = []

    def follow(self, text: str, passed_over: tuple[str, ...] = ()) -> None:
        """Write the files that the page shows and type its commands, but for those that are passed over.

        RUN is the run trained last, RUN_A the one before it, RUN_B the last, A1 to B3 the last six. Training is made
        short.
        """
        for block in blocks(text):
            if block.title is not None:
                (self._root / block.title).write_text(block.body, encoding="utf-8")
        for words in typed(text):
            if words[0] == "genrecls" and words[1] not in passed_over:
                self._type(words[1:])

    def _type(self, words: list[str]) -> None:
        arguments = [self._names().get(word, word) for word in words]
        if arguments[0] in ("train", "sweep") and "--help" not in arguments:
            arguments = [*arguments, *shortening(arguments)]
        if arguments == ["download", "synth"]:
            # All of it is rendered, and the small one is trained on.
            arguments += ["--res", "elsewhere"]
        done = self._cli(*arguments, cwd=self._root)
        assert done.status == 0, f"genrecls {shlex.join(words)}\n{done.stderr}"
        if found := re.search(
            r"(?:Trained|Found): (\S+)|^Score it: genrecls evaluate (\S+)", done.stdout, re.MULTILINE
        ):
            self.runs.append(found[1] or found[2])

    def _names(self) -> dict[str, str]:
        named = dict(zip(_GROUPS, self.runs[-6:], strict=False)) if len(self.runs) >= 6 else {}
        for name, place in (("RUN", -1), ("RUN_A", -2), ("RUN_B", -1)):
            if len(self.runs) >= -place:
                named[name] = self.runs[place]
        return named


def shortening(arguments: list[str]) -> list[str]:
    """What makes the same training take a moment, typed after it: of a flag that is there twice, the last counts."""
    made = ["--epochs", "1", "--crops-per-clip", "1", "--batch-size", "16", "--threads", "1"]
    return made if "--fragment" in arguments else [*made, "--fragment", "1"]
