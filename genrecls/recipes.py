"""Recipes: TOML files of settings, each of which may name another as its `base`; and settings given one by one."""

import os
import tomllib
from collections.abc import Callable
from datetime import date, time
from pathlib import Path
from typing import Any

from genrecls import config
from genrecls.config import ModelSettings, Nested
from genrecls.errors import ConfigError, GenreclsError
from genrecls.settings import Value


def load(path: Path, model: Callable[[str], type[ModelSettings]], heirs: tuple[Path, ...] = ()) -> Nested:
    """The nested settings of a TOML file over those of its `base`, if it names one.

    base: the path of another recipe, from the folder of the one that names it. A setting of the base that has no
    meaning beside what the recipe states is left out. heirs: the recipes that this one is the base of.
    Raises GenreclsError where it cannot be read, ConfigError where it makes no run, each naming the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        named = f"The base {path} of the recipe {heirs[-1]}" if heirs else f"The recipe {path}"
        raise GenreclsError(f"{named} cannot be read ({error.strerror}): check the path.") from error
    try:
        stated = _parsed(content.decode("utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"The recipe {path} is not valid TOML: {error}.") from error
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
        parsed = _parsed(f"value = {value}")["value"]
    except ValueError:
        parsed = value
    if isinstance(parsed, date | time):  # `model.nodes=2048-10-12` is three widths
        parsed = value
    return section, name, parsed


def _parsed(text: str) -> dict[str, Any]:
    """TOML. Raises ValueError where it is none, or holds more than a value of a setting can be."""
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None
    _check_range(found)
    return found


def _check_range(value: object) -> None:
    """Raise ValueError for a whole number that TOML does not have, which Python's parser would let pass."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number is beyond 64 bits")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_range(each)
