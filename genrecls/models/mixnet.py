"""MixNet: CNN1D's extractor on the waveform and CNN2D's on the feature, side by side."""

from dataclasses import dataclass

import torch
from torch import nn

from genrecls.config import Input
from genrecls.models.cnn1d import ORIGIN, WaveExtractor, WaveExtractorSettings
from genrecls.models.cnn2d import FeatureExtractor, FeatureExtractorSettings
from genrecls.models.dense import hidden_layers
from genrecls.models.registry import InputShape, Model, Smallest, register
from genrecls.models.widths import widths
from genrecls.settings import setting


@dataclass(frozen=True)
class MixNetSettings(FeatureExtractorSettings, WaveExtractorSettings):
    """Both extractors' settings, dense layers and dropout. The defaults are the source's."""

    dense: str = setting("512-256-128", "Widths of the hidden dense layers.", flag="--dense")
    dropout: float = setting(0.1, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dense_widths()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Both."""
        return ("wave", "feature")

    def dense_widths(self) -> tuple[int, ...]:
        """The width of each hidden dense layer."""
        return widths(self.dense, "model.dense (--dense)")


@register(
    "mixnet",
    MixNetSettings,
    origin=ORIGIN,
    reported="FMA-small, official split: accuracy 55 %, F1 0.35",
)
class MixNet(Model):
    """Both extractors' outputs in one row, hidden dense layers, one linear layer."""

    @classmethod
    def smallest(cls, settings: MixNetSettings) -> Smallest:
        """What leaves the one extractor one frame and the other one window."""
        return Smallest(frames=settings.least_frames(), samples=WaveExtractor.least_samples())

    def __init__(self, settings: MixNetSettings, shape: InputShape) -> None:
        super().__init__()
        hidden = settings.dense_widths()
        self.wave_extractor = WaveExtractor(settings.wave_channels())
        self.feature_extractor = FeatureExtractor(settings, shape)
        inputs = self.wave_extractor.outputs + self.feature_extractor.outputs
        self.dense = hidden_layers(inputs, hidden, settings.dropout)
        self.head = nn.Linear(hidden[-1], shape.genres)

    def forward(self, wave: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, samples) and (batch, 1, bins, frames) -> logits (batch, genres)."""
        extracted = torch.cat([self.wave_extractor(wave), self.feature_extractor(feature)], dim=1)
        return self.head(self.dense(extracted))
