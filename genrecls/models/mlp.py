"""Multilayer perceptrons on the values of a fragment, one after the other."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from genrecls.errors import ConfigError
from genrecls.models.dropout import Dropout
from genrecls.models.one_input import OneInputSettings
from genrecls.models.registry import InputShape, Model, register
from genrecls.models.widths import widths
from genrecls.settings import setting

ORIGIN = "MLP and CEL on 5-second GTZAN fragments"


@dataclass(frozen=True)
class MLPSettings(OneInputSettings):
    """The input; the two hidden layers of 128 are the source's."""


@dataclass(frozen=True)
class MLP2Settings(OneInputSettings):
    """Number and widths of the hidden layers. The defaults are the source's configuration 2, its most accurate."""

    layers: int = setting(2, "Hidden layers.", flag="--layers", low=1, high=64)
    nodes: str = setting(
        "512",
        "Widths of the hidden layers, such as 1024-512-256; the last one is repeated for further layers.",
        flag="--nodes",
    )
    dropout: float = setting(0.5, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = len(widths(self.nodes, "model.nodes (--nodes)"))
        if listed > self.layers:
            raise ConfigError(
                f"model.nodes (--nodes {self.nodes}) lists {listed} widths for {self.layers} hidden layers: "
                f"shorten it, or choose --layers {listed}."
            )

    def hidden(self) -> tuple[int, ...]:
        """The width of each hidden layer."""
        listed = widths(self.nodes, "model.nodes (--nodes)")
        return listed + listed[-1:] * (self.layers - len(listed))


@register(
    "mlp",
    MLPSettings,
    origin=ORIGIN,
    reported="none of its own (GTZAN, 5-s fragments, songs leak: the best of the source's systems about 0.30 accuracy)",
)
class MLP(Model):
    """Values -> 128 -> 128 -> genres, with ReLU."""

    def __init__(self, settings: MLPSettings, shape: InputShape) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(math.prod(settings.extents(shape)), 128), nn.ReLU()),
            *(nn.Linear(128, 128), nn.ReLU()),
        )
        self.head = nn.Linear(128, shape.genres)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 1, samples) or (batch, 1, bins, frames) -> logits (batch, genres)."""
        return self.head(self.layers(x.flatten(1)))


@register(
    "mlp2",
    MLP2Settings,
    origin=ORIGIN,
    reported=(
        "GTZAN, 5-s fragments, songs leak: of three configurations 2 (2 x 512, dropout 0.5) the most accurate, "
        "1 (4 x 256) balanced, 3 (1024-512-256, dropout 0.3) the poorest; the best of all the source's systems about "
        "0.30 accuracy"
    ),
)
class MLP2(Model):
    """Hidden layers of [linear, BatchNorm, ReLU, dropout], then a linear layer to the genres."""

    def __init__(self, settings: MLP2Settings, shape: InputShape) -> None:
        super().__init__()
        inputs = math.prod(settings.extents(shape))
        layers = []
        for width in settings.hidden():
            layers.append(
                nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), Dropout(settings.dropout))
            )
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, shape.genres)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 1, samples) or (batch, 1, bins, frames) -> logits (batch, genres)."""
        return self.head(self.layers(x.flatten(1)))
