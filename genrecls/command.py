"""The command that makes a run again: the shortest `genrecls train` with the same settings."""

import shlex
from collections.abc import Iterator
from typing import Any

import tomli_w

from genrecls.config import DEFAULT_MODEL, Config
from genrecls.identity import ALWAYS_HASHED
from genrecls.recipes import parse_assignment
from genrecls.settings import Value, described

PLACEHOLDERS = {"data_dir": ("--data-dir", "DIR"), "groups": ("--groups", "FILE")}
"""Flags whose values are places of one machine: field of `environment.json` -> flag and what stands for its value."""


def train_command(settings: Config, environment: dict[str, Any]) -> str:
    """The command line, as one would type it into a shell.

    settings: as a run resolved them. environment: the run's `environment.json`.
    A setting is stated where it is not the default, by its flag or else by `--set`. So are those that depend on the
    machine or the corpus where they are not stated (split, device, precision, threads), whatever they are: the
    command gives the run's id anywhere. Where the corpus lay is shown as DIR.
    """
    words = ["genrecls", "train"]
    if settings.compute.ranks > 1:
        words = ["torchrun", "--standalone", f"--nproc-per-node={settings.compute.ranks}", "-m", *words]
    for option in _options(settings, environment):
        words += option
    return shlex.join(words)


def _options(settings: Config, environment: dict[str, Any]) -> Iterator[tuple[str, str]]:
    values = settings.values()
    for section in settings.sections():
        if section.section == "model" and settings.model.name != DEFAULT_MODEL:
            yield "--model", settings.model.name
        applying = values[section.section]
        for field, known in described(type(section)):
            if field.name in PLACEHOLDERS and section.section == "dataset":
                if environment[field.name]:
                    yield PLACEHOLDERS[field.name]
                continue
            if field.name == "ranks" and section.section == "compute":
                continue  # torchrun says it
            resolved = (section.section, field.name) in ALWAYS_HASHED
            if field.name not in applying or (applying[field.name] == field.default and not resolved):
                continue
            value = applying[field.name]
            if known.flag:
                yield known.flag, str(value)
            else:
                yield "--set", f"{section.section}.{field.name}={assigned(value)}"


def assigned(value: Value) -> str:
    """The value as `--set` reads it: text that would be taken for something else is quoted."""
    text = str(value)
    if parse_assignment(f"section.field={text}")[2] == value:
        return text
    return tomli_w.dumps({"value": value}).partition("= ")[2].rstrip()
