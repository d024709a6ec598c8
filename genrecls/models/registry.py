"""Which models there are: name -> config class and module."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TypeVar

import torch

from genrecls.config import ModelSettings
from genrecls.errors import ConfigError, GenreclsError
from genrecls.settings import suggestion


@dataclass(frozen=True)
class InputShape:
    """What a model is built for: the fragment it sees and the genres it tells apart.

    bins: rows of the 2-D feature. frames: columns of a fragment. genres: number of logits.
    """

    bins: int
    frames: int
    genres: int


class Model(torch.nn.Module):
    """Base of every model: (batch, 1, bins, frames) float -> logits (batch, genres).

    minimum_frames: the shortest fragment its architecture takes.
    """

    minimum_frames: int = 1


Builder = Callable[..., Model]
M = TypeVar("M", bound=type[Model])


@dataclass(frozen=True)
class Entry:
    """A registered model. origin: the work it follows."""

    name: str
    settings: type[ModelSettings]
    model: type[Model]
    origin: str


# Adding a model: write its module, whose class is registered by the decorator, and name it here.
_MODULES = ("genrecls.models.se_resnet",)
_entries: dict[str, Entry] = {}


def register(name: str, settings: type[ModelSettings], origin: str) -> Callable[[M], M]:
    """Class decorator: the model is built as `cls(settings, shape)` and chosen by `--model name`."""

    def add(model: M) -> M:
        settings.name = name
        _entries[name] = Entry(name, settings, model, origin)
        return model

    return add


def entries() -> dict[str, Entry]:
    """All models by name."""
    for module in _MODULES:
        import_module(module)
    return _entries


def entry(name: str) -> Entry:
    """The model of that name. Raises ConfigError for an unknown one, naming those there are."""
    known = entries()
    if name not in known:
        raise ConfigError(f"Unknown model {name!r}{suggestion(name, known)}: choose one of {', '.join(known)}.")
    return known[name]


def settings_class(name: str) -> type[ModelSettings]:
    """The config class of a model."""
    return entry(name).settings


def build(settings: ModelSettings, shape: InputShape) -> Model:
    """The model, on the CPU; `initialisation.initialise` or stored weights give its parameters their values.

    Raises GenreclsError where the fragment is too short for the architecture.
    """
    found = entry(settings.name)
    if shape.frames < found.model.minimum_frames:
        raise GenreclsError(
            f"A fragment of {shape.frames} frames is too short for {settings.name}, which needs "
            f"{found.model.minimum_frames}: choose a longer --fragment or a smaller --hop-length."
        )
    # PyTorch's layers draw first values from the global generator, which `initialise` replaces.
    with torch.random.fork_rng(devices=[]):
        return found.model(settings, shape)
