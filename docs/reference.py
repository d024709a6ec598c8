"""Write commands.md from what the command line and the settings say of themselves: `python docs/reference.py`."""

import dataclasses
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from genrecls import config
from genrecls.cli.main import COMMANDS, group
from genrecls.models.registry import entries
from genrecls.settings import Setting, described, span, type_of

PAGE = Path(__file__).parent / "commands.md"

HEAD = """# Commands and settings

Written by `docs/reference.py` from the command line itself; a test holds it to be up to date. `genrecls COMMAND --help`
says the same, and `--help` is therefore left out below. `RUN` is a run's directory, its id, or the beginning of its id.

The exit status is 0 for success, 1 for a failure (one sentence on stderr says what and what next) and 2 for wrong
usage. Results go to stdout, progress and remarks to stderr.
"""

SETTINGS = """## Settings

All of them are settings of `train`. In a recipe a setting stands in its section under its name;
`--set section.name=value` gives any of them by hand, and those with a flag can be given by that. A value that does not
exist, does not apply or is out of range is an error that names the setting.

```toml title="recipe.toml"
[dataset]
name = "synth"

[training]
epochs = 16
```

```console
$ genrecls train --recipe recipe.toml --set augment.time_masks=1 --se-ratio 8
```
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD, *(part for name in COMMANDS for part in _commands(name)), SETTINGS]
    for section in config.SECTIONS:
        if section == "model":
            parts += _models()
        else:
            rows = [(f, known) for name, f, known in config.fields() if name == section]
            parts.append(f"### Section {section}\n\n{_settings(rows)}")
    return "\n".join(parts)


def _commands(name: str) -> Iterator[str]:
    """The section of a command; of a group, those of its subcommands, too."""
    context = click.Context(group, info_name="genrecls")
    command = group.get_command(context, name)
    assert command is not None
    own = click.Context(command, info_name=name, parent=context)
    yield _command(f"## {name}", command, own)
    if isinstance(command, click.Group):
        for below in command.list_commands(own):
            subcommand = command.get_command(own, below)
            assert subcommand is not None
            yield _command(f"### {name} {below}", subcommand, click.Context(subcommand, info_name=below, parent=own))


def _command(heading: str, command: click.Command, own: click.Context) -> str:
    usage = " ".join([own.command_path, *command.collect_usage_pieces(own)])
    text, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")
    lines = [heading, "", *_paragraphs(text), "```text", usage, "```", ""]
    lines += ["Example:", "", "```bash", *(line.strip() for line in example.splitlines()), "```", ""]
    options = [each for each in command.get_params(own) if isinstance(each, click.Option)]
    settings = [each for each in options if "__" in (each.name or "")]
    rows = [_option(each, own) for each in options if each not in settings and "--help" not in each.opts]
    if rows:
        lines += [*_table(("option", "what it is", "default"), rows), ""]
    if settings:
        flags = " ".join(f"`{each.opts[0]}`" for each in settings)
        lines += [f"It takes these of the [settings](#settings), too: {flags}", ""]
    return "\n".join(lines)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    shown = option.get_help_extra(context)
    default = str(shown.get("default", "")).removeprefix("(").removesuffix(")")
    kind = "" if option.is_flag else f" {option.make_metavar(context)}"
    if isinstance(option.type, click.Choice):
        kind, choices = "", f" One of {_listed(option.type.choices)}."
    else:
        choices = f" {shown['range']}." if "range" in shown else ""
    variable = "".join(f" Environment variable `{name}`." for name in shown.get("envvars", ()))
    return f"`{', '.join(option.opts)}{kind}`", f"{option.help or ''}{choices}{variable}", default


def _models() -> Iterator[str]:
    yield "### Section model\n"
    yield "`name` (`--model`) is the model, `se-resnet` where none is named. The others are those of the model:\n"
    alike: dict[str, list[str]] = {}
    for entry in entries().values():
        rows = [(each, known) for each, known in described(entry.settings) if each.name != "name"]
        alike.setdefault(_settings(rows), []).append(entry.name)
    for table, names in alike.items():
        yield f"Of {_listed(names)}:\n\n{table}"


def _settings(rows: Iterable[tuple["dataclasses.Field[Any]", Setting]]) -> str:
    cells = []
    for each, known in rows:
        values = _listed(known.choices) if known.choices else span(known)
        values = values or {int: "a whole number", float: "a number", str: "a text"}[type_of(each)]
        default = known.shown or f"`{each.default}`"
        cells.append((f"`{each.name}`", f"`{known.flag}`" if known.flag else "", known.help, values, default))
    heads = ("name", "flag", "what it is", "values", "default")
    return "\n".join([*_table(heads, cells), ""])


def _listed(names: Iterable[object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    made = [heads, ("---",) * len(heads), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in made]


def _cell(text: str) -> str:
    """Of one line, and without what Markdown or HTML would take for their own."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
