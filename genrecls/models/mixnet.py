"""MixNet: CNN1D's extractor on the waveform and CNN2D's on the feature, side by side."""

import torch
from torch import nn

from genrecls.models.building import Model
from genrecls.models.cnn1d import WaveExtractor
from genrecls.models.cnn2d import FeatureExtractor
from genrecls.models.dense import hidden_layers
from genrecls.models.settings.mixnet import MixNetSettings
from genrecls.models.shapes import InputShape, Smallest


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
