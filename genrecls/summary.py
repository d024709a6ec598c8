"""What a model is made of: its layers with output shapes and parameters, from one forward pass of a zero fragment."""

from dataclasses import dataclass

import torch
from torch import nn

from genrecls.models.registry import Input, InputShape

Shape = tuple[int, ...]


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


def zero_fragments(inputs: tuple[Input, ...], shape: InputShape) -> list[torch.Tensor]:
    """One fragment of zeros for each input: (1, 1, samples) or (1, 1, bins, frames)."""
    sizes = {"wave": (shape.samples,), "feature": (shape.bins, shape.frames)}
    return [torch.zeros(1, 1, *sizes[each]) for each in inputs]


def parameters(model: nn.Module) -> int:
    """The number of values that training may move."""
    return sum(value.numel() for value in model.parameters())


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
