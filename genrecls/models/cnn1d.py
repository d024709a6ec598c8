"""CNN1D: one-dimensional convolutions on the waveform."""

from dataclasses import dataclass

import torch
from torch import nn

from genrecls.config import Input, ModelSettings
from genrecls.errors import ConfigError
from genrecls.models.dense import hidden_layers
from genrecls.models.registry import InputShape, Model, Smallest, register
from genrecls.models.widths import widths
from genrecls.settings import setting

ORIGIN = "CNN1D, CNN2D and MixNet on FMA-small"
STAGES = ((128, 32, 4), (32, 2, 2), (16, 2, 2), (8, 2, 1))
"""Kernel, stride and max-pooling of each convolution, whose padding is half its kernel (the source's)."""


@dataclass(frozen=True)
class WaveExtractorSettings(ModelSettings):
    """Channels of the convolutions on the wave. The default is the source's, which searched 64 to 256."""

    channels: str = setting("64-128-256-512", "Channels of each convolution.", flag="--channels")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = len(self.wave_channels())
        if given != len(STAGES):
            raise ConfigError(
                f"model.channels (--channels) must be {len(STAGES)} widths in the model {self.name}, not {given} "
                f"({self.channels!r})."
            )

    def wave_channels(self) -> tuple[int, ...]:
        """The channels of each convolution."""
        return widths(self.channels, "model.channels (--channels)")


@dataclass(frozen=True)
class CNN1DSettings(WaveExtractorSettings):
    """Channels, dense layers and dropout, which the source has not. The other defaults are the source's."""

    dense: str = setting("512-128-128-64", "Widths of the hidden dense layers.", flag="--dense")
    dropout: float = setting(0.0, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dense_widths()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The wave alone."""
        return ("wave",)

    def dense_widths(self) -> tuple[int, ...]:
        """The width of each hidden dense layer."""
        return widths(self.dense, "model.dense (--dense)")


class WaveExtractor(nn.Module):
    """Four [strided convolution, BatchNorm, ReLU, max-pool], then maximum and mean over the frames that remain.

    outputs: how many numbers that is, twice the last channels.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        for inputs, outputs, (kernel, stride, pool) in zip((1, *channels), channels, STAGES, strict=False):
            stage = nn.Sequential(
                nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2),
                nn.BatchNorm1d(outputs),
                nn.ReLU(),
            )
            if pool > 1:
                stage.append(nn.MaxPool1d(pool))
            self.stages.append(stage)
        self.outputs = 2 * channels[-1]

    @staticmethod
    def least_samples() -> int:
        """The shortest waveform of which one frame remains."""
        length = 1
        for kernel, stride, pool in reversed(STAGES):
            length = max(1, (length * pool - 1) * stride + kernel - 2 * (kernel // 2))
        return length

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, 1, samples) -> (batch, outputs)."""
        x = self.stages(wave)
        # amax and mean, not adaptive pooling, which has no deterministic backward on CUDA
        return torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)


@register(
    "cnn1d",
    CNN1DSettings,
    origin=ORIGIN,
    reported="FMA-small, official split: accuracy 47 %, F1 0.33",
)
class CNN1D(Model):
    """The extractor on the wave, hidden dense layers, one linear layer."""

    @classmethod
    def smallest(cls, settings: CNN1DSettings) -> Smallest:
        """What leaves the extractor one frame."""
        return Smallest(samples=WaveExtractor.least_samples())

    def __init__(self, settings: CNN1DSettings, shape: InputShape) -> None:
        super().__init__()
        hidden = settings.dense_widths()
        self.extractor = WaveExtractor(settings.wave_channels())
        self.dense = hidden_layers(self.extractor.outputs, hidden, settings.dropout)
        self.head = nn.Linear(hidden[-1], shape.genres)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, 1, samples) -> logits (batch, genres)."""
        return self.head(self.dense(self.extractor(wave)))
