"""Options that commands share: where things lie, manners, and one flag for each setting that has one."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import click

from genrecls import config, recipes
from genrecls.cli.shell import Shell
from genrecls.errors import ConfigError
from genrecls.settings import Setting, type_of

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


def _manner(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        setattr(ctx.ensure_object(Shell), name, value)

    return remember


def manners(command: F) -> F:
    """--json, --quiet, --debug, kept in the Shell."""
    for name, text in (
        ("debug", "Show a traceback where something fails."),
        ("quiet", "No progress, no remarks."),
        ("json", "Print the result as one line of JSON."),
    ):
        command = click.option(
            f"--{name}", is_flag=True, expose_value=False, is_eager=True, callback=_manner(name), help=text
        )(command)
    return command


def res(command: F) -> F:
    """--res."""
    return click.option(
        "--res",
        type=FOLDER,
        default="res",
        envvar="GENRECLS_RES",
        show_default=True,
        show_envvar=True,
        help="Folder of corpora and caches.",
    )(command)


def runs(command: F) -> F:
    """--runs."""
    return click.option(
        "--runs",
        type=FOLDER,
        default="experiments/runs",
        envvar="GENRECLS_RUNS",
        show_default=True,
        show_envvar=True,
        help="Folder of run directories.",
    )(command)


def jobs(command: F) -> F:
    """--jobs."""
    return click.option(
        "--jobs", type=click.IntRange(0, 1024), default=0, show_default="one for each core", help="Worker processes."
    )(command)


def device(command: F) -> F:
    """--device of the commands that use a finished run."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default="the run's own, else cpu",
        help="Where to compute.",
    )(command)


def data_dir(command: F) -> F:
    """--data-dir of the commands that use a finished run."""
    return click.option("--data-dir", default="", show_default="where the run found it", help="Folder of the corpus.")(
        command
    )


def assignments(command: F) -> F:
    """--set."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="SECTION.FIELD=VALUE",
        help="Any setting by its name in a recipe, such as optimiser.lr=0.001; may be repeated.",
    )(command)


def recipe(command: F) -> F:
    """--recipe and --set."""
    option = click.option("--recipe", type=PATH, help="TOML file of settings; flags and --set go over it.")
    return option(assignments(command))


def flag(section: str, each: "dataclasses.Field[Any]", known: Setting, default: str) -> click.Option:
    """The option of a setting; None means that it was not given. default: as the help shows it."""
    assert known.flag is not None
    kind: Any = click.Choice(known.choices) if known.choices else type_of(each)
    metavar = None if known.choices else {int: "N", float: "X", str: "NAME"}[type_of(each)]
    return click.Option(
        [known.flag, f"{section}__{each.name}"], type=kind, metavar=metavar, show_default=default, help=known.help
    )


@cache
def _model_flags() -> list[click.Parameter]:
    """The flags of the models' own settings: one for each name, with every model's default."""
    from genrecls.models.registry import entries
    from genrecls.settings import described

    by_flag: dict[str, list[Any]] = {}
    for entry in entries().values():
        for each, known in described(entry.settings):
            if known.flag:
                by_flag.setdefault(known.flag, []).append((entry.name, each, known))
    made: list[click.Parameter] = []
    for owners in by_flag.values():
        defaults = _grouped((known.shown or str(each.default), name) for name, each, known in owners)
        helps = _grouped((known.help.removesuffix("."), name) for name, _, known in owners)
        _, each, known = owners[0]
        if len(helps) > 1:
            text = " ".join(f"{words} ({'/'.join(names)})." for words, names in helps.items())
            known = dataclasses.replace(known, help=text)
        shown = ", ".join(f"{default} in {'/'.join(names)}" for default, names in defaults.items())
        made.append(flag("model", each, known, shown))
    return made


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The second of each pair under the first."""
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


class ModelCommand(click.Command):
    """A command with the models' own flags, which are added when it is used, because they take importing torch."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The models' flags before the command's own."""
        return [*_model_flags(), *super().get_params(ctx)]


def settings(*sections: str, without: Iterable[str] = (), only: Iterable[str] | None = None) -> Callable[[F], F]:
    """A flag for every setting of these sections that has one, or for those in `only`."""
    found = [
        flag(section, each, known, known.shown or str(each.default))
        for section, each, known in config.fields()
        if section in sections and known.flag and known.flag not in without and (only is None or known.flag in only)
    ]

    def add(command: F) -> F:
        # As click.option does it: a decorated function collects its options, the last decorator's first.
        collected = command.__dict__.setdefault("__click_params__", [])
        collected.extend(reversed(found))
        return command

    return add


def gather(recipe: Path | None, assignments: Iterable[str], flags: Mapping[str, Any]) -> config.Nested:
    """Nested settings of a recipe, overlaid by the flags that were given and by --set.

    What a flag makes meaningless in the recipe is left out. Raises ConfigError where a flag and --set name the same
    setting, for one of the two would be ignored.
    """
    from genrecls.models.registry import settings_class

    given: config.Nested = {}
    for key, value in flags.items():
        if value is not None:
            section, _, name = key.partition("__")
            given.setdefault(section, {})[name] = value
    for text in assignments:
        section, name, value = recipes.parse_assignment(text)
        if name in given.get(section, {}):
            raise ConfigError(f"--set {text!r}: {section}.{name} is given already, so give it once.")
        given.setdefault(section, {})[name] = value
    return config.inherit(recipes.load(recipe, settings_class), given, settings_class) if recipe else given
