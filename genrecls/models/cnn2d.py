"""CNN2D: a residual network along time whose first convolution spans all bins of the feature."""

import torch
from torch import nn

from genrecls.models.building import Model
from genrecls.models.dense import hidden_layers
from genrecls.models.settings.cnn2d import CNN2DSettings, FeatureExtractorSettings
from genrecls.models.shapes import InputShape, Smallest


class FeatureExtractor(nn.Module):
    """Three convolutions along time with a residual sum, then maximum and mean over windows of frames.

    The first convolution spans all bins and pads nothing; the sum is of its output and the third's, which is not
    rectified before. The windows lie side by side from the first frame; what fills no whole one is left out.

    outputs: how many numbers that is, twice the filters for each window.
    """

    def __init__(self, settings: FeatureExtractorSettings, shape: InputShape) -> None:
        super().__init__()
        filters, kernel = settings.filters, settings.kernel
        # The second and the third padding make up for what their two kernels cut off.
        second, third = kernel // 2, kernel - 1 - kernel // 2
        self.first = nn.Sequential(nn.Conv2d(1, filters, (shape.bins, kernel)), nn.BatchNorm2d(filters), nn.ReLU())
        self.residual = nn.Sequential(
            *(nn.Conv2d(filters, filters, (1, kernel), padding=(0, second)), nn.BatchNorm2d(filters), nn.ReLU()),
            *(nn.Conv2d(filters, filters, (1, kernel), padding=(0, third)), nn.BatchNorm2d(filters)),
        )
        self.window = settings.window
        self.windows = settings.frames_after_convolutions(shape.frames) // settings.window
        self.outputs = filters * self.windows * 2

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, bins, frames) -> (batch, outputs)."""
        x = self.first(feature)
        x = torch.relu(x + self.residual(x)).squeeze(2)
        x = x[:, :, : self.windows * self.window].unflatten(2, (self.windows, self.window))
        # amax and mean, not adaptive pooling, which has no deterministic backward on CUDA
        return torch.cat([x.amax(dim=3), x.mean(dim=3)], dim=1).flatten(1)


class CNN2D(Model):
    """The extractor on the feature, a dense layer as wide as its input, further hidden ones, one linear layer."""

    @classmethod
    def smallest(cls, settings: CNN2DSettings) -> Smallest:
        """What leaves the extractor one window."""
        return Smallest(frames=settings.least_frames())

    def __init__(self, settings: CNN2DSettings, shape: InputShape) -> None:
        super().__init__()
        self.extractor = FeatureExtractor(settings, shape)
        hidden = (self.extractor.outputs, *settings.dense_widths())
        self.dense = hidden_layers(self.extractor.outputs, hidden, settings.dropout)
        self.head = nn.Linear(hidden[-1], shape.genres)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, bins, frames) -> logits (batch, genres)."""
        return self.head(self.dense(self.extractor(feature)))
