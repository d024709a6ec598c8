"""Which models there are: name -> config class and module."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import nn

from genrecls.config import Config, Input, ModelSettings
from genrecls.errors import ConfigError, Untrainable
from genrecls.settings import suggestion


@dataclass(frozen=True)
class InputShape:
    """What a model is built for: the fragment it sees and the genres it tells apart.

    bins: rows of the 2-D feature. frames: its columns in a fragment. genres: number of logits. samples: of the
    fragment's waveform.
    """

    bins: int
    frames: int
    genres: int
    samples: int

    @classmethod
    def of(cls, config: Config, genres: int) -> "InputShape":
        """The fragment that these settings describe."""
        return cls(config.features.bins, config.frames, genres, config.samples)


@dataclass(frozen=True)
class Smallest:
    """The smallest fragment that an architecture takes."""

    bins: int = 1
    frames: int = 1
    samples: int = 1


class Model(torch.nn.Module):
    """Base of every model: float tensors, in the order of its settings' `inputs`, -> logits (batch, genres)."""

    @classmethod
    def smallest(cls, settings: Any) -> Smallest:
        """The smallest fragment these settings can be built for."""
        return Smallest()


Builder = Callable[..., Model]
M = TypeVar("M", bound=type[Model])


@dataclass(frozen=True)
class Entry:
    """A registered model. origin: the work it follows. reported: the figure given there, with its data set."""

    name: str
    settings: type[ModelSettings]
    model: type[Model]
    origin: str
    reported: str


# Adding a model: write its module, whose class is registered by the decorator, and name it here.
_MODULES = (
    "genrecls.models.se_resnet",
    "genrecls.models.se_cnn",
    "genrecls.models.cnn1d",
    "genrecls.models.cnn2d",
    "genrecls.models.mixnet",
    "genrecls.models.mlp",
    "genrecls.models.cel",
    "genrecls.models.crnn",
)
_entries: dict[str, Entry] = {}


def register(name: str, settings: type[ModelSettings], origin: str, reported: str) -> Callable[[M], M]:
    """Class decorator: the model is built as `cls(settings, shape)` and chosen by `--model name`."""

    def add(model: M) -> M:
        settings.name = name
        _entries[name] = Entry(name, settings, model, origin, reported)
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

    Raises Untrainable where the fragment is too short, or its feature too low, for the architecture.
    """
    found = entry(settings.name).model
    _check_size(settings.name, settings.inputs, shape, found.smallest(settings))
    # PyTorch's layers draw first values from the global generator, which `initialise` replaces.
    with torch.random.fork_rng(devices=[]):
        return found(settings, shape)


def weightless(settings: ModelSettings, shape: InputShape) -> Model:
    """The model on PyTorch's device "meta", where tensors have shapes and take no memory. Raises as `build` does."""
    with torch.device("meta"):
        return build(settings, shape)


def parameters(model: nn.Module) -> int:
    """The number of values that training may move."""
    return sum(value.numel() for value in model.parameters())


def _check_size(name: str, taken: tuple[Input, ...], shape: InputShape, smallest: Smallest) -> None:
    if "wave" in taken and shape.samples < smallest.samples:
        raise Untrainable(
            f"A fragment of {shape.samples} samples is too short for {name}, which needs {smallest.samples}: choose a "
            "longer --fragment or a higher --sample-rate."
        )
    if "feature" in taken and shape.frames < smallest.frames:
        raise Untrainable(
            f"A fragment of {shape.frames} frames is too short for {name}, which needs {smallest.frames}: choose a "
            "longer --fragment or a smaller --hop-length."
        )
    if "feature" in taken and shape.bins < smallest.bins:
        raise Untrainable(
            f"A feature of {shape.bins} bins is too low for {name}, which needs {smallest.bins}: choose more --n-mels, "
            "or another --feature."
        )
