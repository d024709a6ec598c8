"""What a model is made of: its layers with output shapes and parameters, from a forward pass without weights."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from genrecls import config
from genrecls.config import Config, Input
from genrecls.errors import GenreclsError
from genrecls.models.building import Model, parameters, weightless
from genrecls.models.registry import Entry, entries, entry, settings_class
from genrecls.models.shapes import InputShape

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Listed:
    """A model at its default settings, for a fragment of the default length.

    parameters: None where it cannot be built for that fragment.
    """

    name: str
    inputs: tuple[Input, ...]
    parameters: int | None
    origin: str
    reported: str


@dataclass(frozen=True)
class Layer:
    """A module of a model.

    name: dotted, as in the model's weights; of the model itself "". depth: of the nesting, 0 for the model.
    output: shape without the batch, None where the module gives none or takes no part in the forward pass.
    parameters: of the module's own, not of those inside it.
    """

    name: str
    type: str
    depth: int
    output: Shape | None
    parameters: int


@dataclass(frozen=True)
class Anatomy:
    """One model taken apart. inputs: the shape of one fragment, without the batch, by name. layers: as `layers`."""

    entry: Entry
    model: Model
    inputs: dict[Input, Shape]
    genres: int
    layers: list[Layer]

    @property
    def parameters(self) -> int:
        """In all."""
        return parameters(self.model)

    def values(self) -> dict[str, Any]:
        """The fields of `models NAME --json`."""
        return {
            "name": self.entry.name,
            "inputs": self.inputs,
            "genres": self.genres,
            "parameters": self.parameters,
            "origin": self.entry.origin,
            "reported": self.entry.reported,
            "layers": [asdict(layer) for layer in self.layers],
        }


def catalogue(genres: int) -> list[Listed]:
    """Every registered model."""
    return [_listed(each, genres) for each in entries().values()]


def _listed(found: Entry, genres: int) -> Listed:
    settings = config.read({"model": {"name": found.name}}, settings_class)
    try:
        count = parameters(weightless(settings.model, InputShape.of(settings, genres)))
    except GenreclsError:
        count = None
    return Listed(found.name, settings.model.inputs, count, found.origin, found.reported)


def anatomy(settings: Config, genres: int) -> Anatomy:
    """The model of these settings. Raises GenreclsError where it cannot be built for their fragment."""
    shape = InputShape.of(settings, genres)
    model = weightless(settings.model, shape)
    sizes: dict[Input, Shape] = {"wave": (1, shape.samples), "feature": (1, shape.bins, shape.frames)}
    inputs = {each: sizes[each] for each in settings.model.inputs}
    return Anatomy(entry(settings.model.name), model, inputs, genres, layers(model, fragment(inputs.values())))


def fragment(shapes: Iterable[Shape]) -> list[torch.Tensor]:
    """A batch of one fragment for each input, on the device "meta"."""
    return [torch.empty(1, *shape, device="meta") for shape in shapes]


def layers(model: nn.Module, fragments: list[torch.Tensor]) -> list[Layer]:
    """Every module, each before those inside it. fragments: one tensor for each input, on the model's device.

    The model is left in evaluation mode. A module that is used several times has the shape of its last output.
    """
    shapes: dict[nn.Module, Shape] = {}

    def remember(module: nn.Module, _: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, torch.Tensor):
            shapes[module] = tuple(first.shape[1:])

    hooks = [module.register_forward_hook(remember) for module in model.modules()]
    try:
        with torch.inference_mode():
            model.eval()(*fragments)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Layer(
            name,
            type(module).__name__,
            name.count(".") + 1 if name else 0,
            shapes.get(module),
            sum(value.numel() for value in module.parameters(recurse=False)),
        )
        for name, module in model.named_modules()
    ]
