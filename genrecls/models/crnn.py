"""CRNNs: three convolutions, bidirectional recurrent layers over time, and a small head."""

from typing import ClassVar

import torch
from torch import nn

from genrecls.models.building import Model
from genrecls.models.dropout import ChannelDropout, Dropout
from genrecls.models.settings.crnn import (
    LSTM_UNITS,
    CNN1dGRUSettings,
    CNN1dLSTMSettings,
    CNN2dGRUSettings,
    CNN2dLSTMSettings,
    CRNNSettings,
)
from genrecls.models.shapes import InputShape, Smallest


class Convolutions1d(nn.Module):
    """Convolutions over time, whose first takes the bins as channels; dropout of single values at the end."""

    smallest = Smallest(frames=4)

    def __init__(self, settings: CRNNSettings, shape: InputShape) -> None:
        super().__init__()
        h = settings.hidden
        self.channels = 4 * h
        self.layers = nn.Sequential(
            *(nn.Conv1d(shape.bins, h, 5, padding=2), nn.BatchNorm1d(h), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.Conv1d(h, 2 * h, 3, padding=1), nn.BatchNorm1d(2 * h), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.Conv1d(2 * h, 4 * h, 3, padding=1), nn.BatchNorm1d(4 * h), nn.ReLU()),
        )
        self.dropout = Dropout(settings.dropout)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, bins, frames) -> (batch, frames / 4, 4h)."""
        return self.dropout(self.layers(feature.squeeze(1))).transpose(1, 2)


class Convolutions2d(nn.Module):
    """Convolutions over bins and frames; dropout of channels at the end, where bins become channels, too."""

    smallest = Smallest(bins=4, frames=4)

    def __init__(self, settings: CRNNSettings, shape: InputShape) -> None:
        super().__init__()
        h = settings.hidden
        self.channels = 4 * h * (shape.bins // 4)
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, h, 5, padding=2), nn.BatchNorm2d(h), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(h, 2 * h, 3, padding=1), nn.BatchNorm2d(2 * h), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(2 * h, 4 * h, 3, padding=1), nn.BatchNorm2d(4 * h), nn.ReLU()),
        )
        self.dropout = ChannelDropout(settings.dropout)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, bins, frames) -> (batch, frames / 4, 4h x (bins / 4))."""
        return self.dropout(self.layers(feature)).flatten(1, 2).transpose(1, 2)


class Recurrence(nn.Module):
    """Bidirectional layers of `units` in each direction, `dropout` between: (n, time, inputs) -> (n, time, 2 units).

    One module a layer, because the dropout of PyTorch's own stack reads the global generator.
    """

    def __init__(
        self, kind: type[nn.GRU] | type[nn.LSTM], inputs: int, units: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = [inputs, *[2 * units] * (layers - 1)]
        self.layers = nn.ModuleList(kind(size, units, batch_first=True, bidirectional=True) for size in sizes)
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in sizes[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        x, _ = self.layers[0](x)
        for dropout, layer in zip(self.dropouts, self.layers[1:], strict=True):
            x, _ = layer(dropout(x))
        return x


class CRNN(Model):
    """Base of the four: what comes before the head. The two max-pools round down, so that 4 frames are the least."""

    convolutions_of: ClassVar[type[Convolutions1d] | type[Convolutions2d]]

    @classmethod
    def smallest(cls, settings: CRNNSettings) -> Smallest:
        """What leaves one value on each axis behind the max-pools."""
        return cls.convolutions_of.smallest

    def __init__(
        self,
        settings: CRNNSettings,
        shape: InputShape,
        kind: type[nn.GRU] | type[nn.LSTM],
        units: int,
        between: float,
    ) -> None:
        super().__init__()
        self.convolutions = self.convolutions_of(settings, shape)
        self.recurrence = Recurrence(kind, self.convolutions.channels, units, settings.rnn_layers, between)


class _GRU(CRNN):
    def __init__(self, settings: CRNNSettings, shape: InputShape, units: int, between: float = 0.0) -> None:
        super().__init__(settings, shape, nn.GRU, units, between)
        h = settings.hidden
        self.head = nn.Sequential(nn.Linear(2 * units, h), nn.ReLU(), nn.Linear(h, shape.genres))

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, bins, frames) -> logits (batch, genres)."""
        return self.head(self.recurrence(self.convolutions(feature)).mean(dim=1))


class _LSTM(CRNN):
    def __init__(self, settings: CRNNSettings, shape: InputShape, between: float = 0.0) -> None:
        super().__init__(settings, shape, nn.LSTM, LSTM_UNITS, between)
        self.head = nn.Sequential(
            *(nn.Linear(4 * LSTM_UNITS, LSTM_UNITS), nn.ReLU(), Dropout(settings.dropout)),
            nn.Linear(LSTM_UNITS, shape.genres),
        )

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, bins, frames) -> logits (batch, genres)."""
        x = self.recurrence(self.convolutions(feature))
        # amax, not adaptive pooling, which has no deterministic backward on CUDA
        return self.head(torch.cat((x.mean(dim=1), x.amax(dim=1)), dim=1))


class CNN1dGRU(_GRU):
    """1-D convolutions, GRU of 2h, mean over time, 4h -> h -> genres; dropout behind the convolutions."""

    convolutions_of = Convolutions1d

    def __init__(self, settings: CNN1dGRUSettings, shape: InputShape) -> None:
        super().__init__(settings, shape, 2 * settings.hidden)


class CNN1dLSTM(_LSTM):
    """1-D convolutions, LSTM of 128, mean and max over time, 512 -> 128 -> genres; dropout there, too."""

    convolutions_of = Convolutions1d

    def __init__(self, settings: CNN1dLSTMSettings, shape: InputShape) -> None:
        super().__init__(settings, shape)


class CNN2dGRU(_GRU):
    """2-D convolutions, GRU of h with dropout between its layers, mean over time, 2h -> h -> genres."""

    convolutions_of = Convolutions2d

    def __init__(self, settings: CNN2dGRUSettings, shape: InputShape) -> None:
        super().__init__(settings, shape, settings.hidden, settings.dropout)


class CNN2dLSTM(_LSTM):
    """2-D convolutions, LSTM of 128 with dropout between its layers, mean and max over time, 512 -> 128 -> genres."""

    convolutions_of = Convolutions2d

    def __init__(self, settings: CNN2dLSTMSettings, shape: InputShape) -> None:
        super().__init__(settings, shape, settings.dropout)
