"""SE-CNN: a plain convolutional network with squeeze-and-excitation (Xu and Zhou 2020)."""

from dataclasses import dataclass

import torch
from torch import nn

from genrecls.config import ModelSettings
from genrecls.errors import ConfigError
from genrecls.models.dropout import Dropout
from genrecls.models.excitation import SqueezeExcitation
from genrecls.models.registry import InputShape, Model, Smallest, register
from genrecls.models.widths import widths
from genrecls.settings import setting


@dataclass(frozen=True)
class SECNNSettings(ModelSettings):
    """Head, channels, squeeze ratio and dropout. The defaults are the source's (the paper's ratio is 31.43)."""

    head: str = setting(
        "flatten",
        "What the last layer sees: every place of the last maps, or their average.",
        flag="--head",
        choices=("flatten", "average"),
    )
    channels: str = setting("32-64-128-256-128", "Channels of each convolution.", flag="--channels")
    se_ratio: int = setting(
        32,
        "Reduction ratio r of squeeze-and-excitation; 0 leaves it out.",
        flag="--se-ratio",
        low=0,
        high=16384,
    )
    dropout: float = setting(0.25, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        narrowest = min(self.widths())
        if self.se_ratio > narrowest:
            raise ConfigError(
                f"model.se_ratio (--se-ratio) must be at most {narrowest}, the narrowest of model.channels (--channels "
                f"{self.channels}), not {self.se_ratio}: nothing would be left to excite with."
            )

    def widths(self) -> tuple[int, ...]:
        """The channels of each block."""
        return widths(self.channels, "model.channels (--channels)")


@register(
    "se-cnn",
    SECNNSettings,
    origin="SENets on GTZAN; Xu and Zhou 2020",
    reported=(
        "GTZAN, 5 folds by file, validation folds: accuracy per file 81.0 % with flatten, 88.9 % with average (with "
        "augmentation 84.8 %, 85.2 %); the paper's own headline of about 92 % is not verified"
    ),
)
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
