"""Multilayer perceptrons on the values of a fragment, one after the other."""

import math

import torch
from torch import nn

from genrecls.models.building import Model
from genrecls.models.dropout import Dropout
from genrecls.models.settings.mlp import MLP2Settings, MLPSettings
from genrecls.models.shapes import InputShape


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
