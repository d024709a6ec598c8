"""Recipes: TOML files of settings, each of which may name another as its `base`; and settings given one by one."""

import os
from collections.abc import Callable
from datetime import date, time
from pathlib import Path

from genrecls import config, reading
from genrecls.config import ModelSettings, Nested
from genrecls.errors import ConfigError, GenreclsError
from genrecls.reading import Damaged
from genrecls.settings import Value

_LONGEST_CHAIN = 32
"""Recipes that are bases of one another."""


def load(path: Path, model: Callable[[str], type[ModelSettings]], heirs: tuple[Path, ...] = ()) -> Nested:
    """The nested settings of a TOML file over those of its `base`, if it names one.

    base: the path of another recipe, from the folder of the one that names it. A setting of the base that has no
    meaning beside what the recipe states is left out. heirs: the recipes that this one is the base of.
    Raises GenreclsError where it cannot be read, ConfigError where it is no recipe or makes no run, each naming the
    file.
    """
    named = f"The base {path} of the recipe {heirs[-1]}" if heirs else f"The recipe {path}"
    try:
        stated = reading.toml(reading.read_bytes(path, reading.LONGEST_TOML))
    except OSError as error:
        raise GenreclsError(f"{named} cannot be read ({error.strerror}): check the path.") from error
    except Damaged as error:
        raise ConfigError(f"{named} cannot be used ({error}): correct it.") from error
    base = _base(path, stated.pop("base", None), model, (*heirs, path))
    try:
        settings = config.inherit(base, stated, model)
        config.read(settings, model)
    except ConfigError as error:
        raise ConfigError(f"In the recipe {path}: {error}") from error
    return settings


def _base(path: Path, named: object, model: Callable[[str], type[ModelSettings]], heirs: tuple[Path, ...]) -> Nested:
    if named is None:
        return {}
    if type(named) is not str or not named or "\0" in named:
        raise ConfigError(f"In the recipe {path}: base must be the path of another recipe, not {named!r}.")
    if len(heirs) >= _LONGEST_CHAIN:
        raise ConfigError(f"The recipe {heirs[0]} has more than {_LONGEST_CHAIN} recipes below it: make fewer of them.")
    base = path.parent / named
    if os.path.realpath(base) in map(os.path.realpath, heirs):
        circle = " -> ".join(str(each) for each in (*heirs, base))
        raise ConfigError(f"These recipes are bases of one another, {circle}: take one of their `base` lines out.")
    return load(base, model, heirs)


def parse_assignment(text: str) -> tuple[str, str, Value]:
    """Section, field and value of "section.field=value"; the value is read as TOML, else as text.

    A value of several lines is text as it is: TOML would take the lines after the first for settings of their own.
    """
    path, equals, value = text.partition("=")
    section, dot, name = path.strip().partition(".")
    if not (equals and dot and section and name):
        raise ConfigError(f"--set {text!r} is not of the form section.field=value, such as optimiser.lr=0.001.")
    value = value.strip()
    if len(value.splitlines()) > 1:
        return section, name, value
    try:
        parsed = reading.toml(f"value = {value}".encode())["value"]
    except (Damaged, UnicodeEncodeError):
        parsed = value
    if isinstance(parsed, date | time):  # `model.nodes=2048-10-12` is three widths
        parsed = value
    return section, name, parsed
