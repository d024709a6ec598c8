"""From a model's settings to its network: the base of all networks, building one, counting its parameters."""

from typing import Any

import torch
from torch import nn

from genrecls.config import Input, ModelSettings
from genrecls.errors import Untrainable
from genrecls.models.registry import entry
from genrecls.models.shapes import InputShape, Smallest


class Model(torch.nn.Module):
    """Base of every model: float tensors, in the order of its settings' `inputs`, -> logits (batch, genres).

    It is built as `cls(settings, shape)`, of its settings and an `InputShape`.
    """

    @classmethod
    def smallest(cls, settings: Any) -> Smallest:
        """The smallest fragment these settings can be built for."""
        return Smallest()


def build(settings: ModelSettings, shape: InputShape) -> Model:
    """The model, on the CPU; `initialisation.initialise` or stored weights give its parameters their values.

    Raises Untrainable where the fragment is too short, or its feature too low, for the architecture.
    """
    network: Any = entry(settings.name).model
    _check_size(settings.name, settings.inputs, shape, network.smallest(settings))
    # PyTorch's layers draw first values from the global generator, which `initialise` replaces.
    with torch.random.fork_rng(devices=[]):
        made: Model = network(settings, shape)
    return made


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
