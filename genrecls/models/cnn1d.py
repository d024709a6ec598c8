"""CNN1D: one-dimensional convolutions on the waveform."""

import torch
from torch import nn

from genrecls.models.building import Model
from genrecls.models.dense import hidden_layers
from genrecls.models.settings.cnn1d import STAGES, CNN1DSettings
from genrecls.models.shapes import InputShape, Smallest


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
