"""SE-CNN: a plain convolutional network with squeeze-and-excitation (Xu and Zhou 2020)."""

import torch
from torch import nn

from genrecls.models.building import Model
from genrecls.models.dropout import Dropout
from genrecls.models.excitation import SqueezeExcitation
from genrecls.models.settings.se_cnn import SECNNSettings
from genrecls.models.shapes import InputShape, Smallest


class SECNN(Model):
    """Blocks of [convolution 3x3, max-pool 2, dropout, excitation, ReLU], then one linear layer without bias.

    Each block halves both axes, rounding down, so that n blocks take 2^n bins and frames at least. There is no
    normalisation. The ReLU is upstream's addition to the paper.
    """

    @classmethod
    def smallest(cls, settings: SECNNSettings) -> Smallest:
        """As the class says."""
        least = 2 ** len(settings.widths())
        return Smallest(bins=least, frames=least)

    def __init__(self, settings: SECNNSettings, shape: InputShape) -> None:
        super().__init__()
        channels, ratio = settings.widths(), settings.se_ratio
        self.blocks = nn.Sequential()
        for inputs, outputs in zip((1, *channels), channels, strict=False):
            self.blocks.append(
                nn.Sequential(
                    nn.Conv2d(inputs, outputs, 3, padding=1),
                    nn.MaxPool2d(2),
                    Dropout(settings.dropout),
                    SqueezeExcitation(outputs, ratio) if ratio else nn.Identity(),
                    nn.ReLU(),
                )
            )
        self.averages = settings.head == "average"
        halved = 2 ** len(channels)
        places = 1 if self.averages else (shape.bins // halved) * (shape.frames // halved)
        self.head = nn.Linear(channels[-1] * places, shape.genres, bias=False)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, bins, frames) -> logits (batch, genres)."""
        x = self.blocks(feature)
        return self.head(x.mean(dim=(2, 3)) if self.averages else x.flatten(1))
