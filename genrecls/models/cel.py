"""CEL: convolutions, each with its max-pooling, then dense layers; three activations under three names."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from genrecls.models.dropout import ChannelDropout, Dropout
from genrecls.models.one_input import OneInputSettings
from genrecls.models.registry import InputShape, Model, Smallest, register
from genrecls.models.widths import widths
from genrecls.settings import setting

ORIGIN = "MLP and CEL on 5-second GTZAN fragments"
NODES = {"feature": "32-64", "wave": "64-128"}
"""The source's default channels by input."""


@dataclass(frozen=True)
class CELSettings(OneInputSettings):
    """Channels, dense layers and dropout. The defaults are the source's.

    On the wave they make a huge layer behind the last convolution: 452 million parameters at 5 s of 22,050 Hz, where
    the source's configurations 1 (32-32, one dense layer) and 3 (128-128-64) have 9 and 57 million.
    """

    nodes: str = setting(
        "",
        "Channels of the convolutions, such as 128-128-64; the last one is the width of hidden dense layers, too.",
        flag="--nodes",
        shown=f"{NODES['feature']}, on the waveform {NODES['wave']}",
    )
    dense_layers: int = setting(2, "Dense layers, counting the output layer.", flag="--dense-layers", low=1, high=16)
    dropout: float = setting(0.3, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.channels()

    def channels(self) -> tuple[int, ...]:
        """The channels of each convolution; where none are given, the source's for the input."""
        return widths(self.nodes or NODES[self.input], "model.nodes (--nodes)")


@dataclass(frozen=True)
class CEL2Settings(CELSettings):
    """As cel's."""


@dataclass(frozen=True)
class CEL3Settings(CELSettings):
    """As cel's."""


@register(
    "cel",
    CELSettings,
    origin=ORIGIN,
    reported=(
        "GTZAN, 5-s fragments, songs leak: of three configurations 3 (128-128-64) the best on the spectrogram, "
        "1 (32-32, one dense layer) overfitted; ReLU balanced on the spectrogram; the best of all the source's systems "
        "about 0.30 accuracy"
    ),
)
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


@register(
    "cel2",
    CEL2Settings,
    origin=ORIGIN,
    reported=(
        "GTZAN, 5-s fragments, songs leak: LeakyReLU the best of three activations on the wave; the best of all the "
        "source's systems about 0.30 accuracy"
    ),
)
class CEL2(CEL):
    """CEL with LeakyReLU of slope 0.1."""

    def __init__(self, settings: CEL2Settings, shape: InputShape) -> None:
        super().__init__(settings, shape, lambda: nn.LeakyReLU(0.1))


@register(
    "cel3",
    CEL3Settings,
    origin=ORIGIN,
    reported=(
        "GTZAN, 5-s fragments, songs leak: ELU the worst of three activations on the wave; the best of all the "
        "source's systems about 0.30 accuracy"
    ),
)
class CEL3(CEL):
    """CEL with ELU."""

    def __init__(self, settings: CEL3Settings, shape: InputShape) -> None:
        super().__init__(settings, shape, nn.ELU)


def _wave_layers(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv1d(inputs, outputs, 3, padding=1), nn.BatchNorm1d(outputs), nn.MaxPool1d(2)


def _feature_layers(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.MaxPool2d(2)
