"""CEL: convolutions, each with its max-pooling, then dense layers; three activations under three names."""

import math
from collections.abc import Callable

import torch
from torch import nn

from genrecls.models.building import Model
from genrecls.models.dropout import ChannelDropout, Dropout
from genrecls.models.settings.cel import CEL2Settings, CEL3Settings, CELSettings
from genrecls.models.shapes import InputShape, Smallest


class CEL(Model):
    """Blocks of [convolution of 3, BatchNorm, activation, max-pool 2, dropout of channels], then dense layers.

    The convolutions are 1-D on the wave and 2-D on the feature. Each block halves the fragment, rounding down, so that
    n blocks take 2^n samples, or bins and frames, at least. activation: makes the activation; cel's is ReLU.
    """

    @classmethod
    def smallest(cls, settings: CELSettings) -> Smallest:
        """As the class says."""
        least = 2 ** len(settings.channels())
        return Smallest(bins=least, frames=least, samples=least)

    def __init__(self, settings: CELSettings, shape: InputShape, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        channels = settings.channels()
        self.blocks = nn.Sequential()
        for inputs, outputs in zip((1, *channels), channels, strict=False):
            layers = _wave_layers if settings.input == "wave" else _feature_layers
            convolution, norm, pool = layers(inputs, outputs)
            self.blocks.append(nn.Sequential(convolution, norm, activation(), pool, ChannelDropout(settings.dropout)))
        inputs = channels[-1] * math.prod(extent // 2 ** len(channels) for extent in settings.extents(shape))
        self.dense = nn.Sequential()
        for _ in range(settings.dense_layers - 1):
            self.dense.append(nn.Sequential(nn.Linear(inputs, channels[-1]), activation(), Dropout(settings.dropout)))
            inputs = channels[-1]
        self.head = nn.Linear(inputs, shape.genres)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 1, samples) or (batch, 1, bins, frames) -> logits (batch, genres)."""
        return self.head(self.dense(self.blocks(x).flatten(1)))


class CEL2(CEL):
    """CEL with LeakyReLU of slope 0.1."""

    def __init__(self, settings: CEL2Settings, shape: InputShape) -> None:
        super().__init__(settings, shape, lambda: nn.LeakyReLU(0.1))


class CEL3(CEL):
    """CEL with ELU."""

    def __init__(self, settings: CEL3Settings, shape: InputShape) -> None:
        super().__init__(settings, shape, nn.ELU)


def _wave_layers(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv1d(inputs, outputs, 3, padding=1), nn.BatchNorm1d(outputs), nn.MaxPool1d(2)


def _feature_layers(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.MaxPool2d(2)
