"""CRNNs: three convolutions, bidirectional recurrent layers over time, and a small head."""

from dataclasses import dataclass

from genrecls.config import ModelSettings
from genrecls.models.registry import register
from genrecls.settings import setting

ORIGIN = "CRNNs on FMA-large"
LSTM_UNITS = 128
"""Units of the LSTMs in each direction, and of the layer in their head: the source's, whatever the width h."""


@dataclass(frozen=True)
class CRNNSettings(ModelSettings):
    """Width, recurrent layers and dropout. The defaults are those of the source's training."""

    hidden: int = setting(
        64,
        "Channels of the first convolution; the other two have twice and four times as many.",
        flag="--hidden",
        low=1,
        high=1024,
    )
    rnn_layers: int = setting(2, "Recurrent layers.", flag="--rnn-layers", low=1, high=8)
    dropout: float = setting(0.3, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)


@register(
    "cnn1d-gru",
    network="genrecls.models.crnn:CNN1dGRU",
    origin=ORIGIN,
    reported="FMA-large, random split, 12 genres: accuracy 69.10 %, weighted F1 0.674, macro F1 0.556",
)
@dataclass(frozen=True)
class CNN1dGRUSettings(CRNNSettings):
    """As its base class has them."""


@register(
    "cnn1d-lstm",
    network="genrecls.models.crnn:CNN1dLSTM",
    origin=ORIGIN,
    reported="FMA-large, random split, 12 genres: accuracy 69.69 %, weighted F1 0.686, macro F1 0.598",
)
@dataclass(frozen=True)
class CNN1dLSTMSettings(CRNNSettings):
    """As its base class has them."""


@register(
    "cnn2d-gru",
    network="genrecls.models.crnn:CNN2dGRU",
    origin=ORIGIN,
    reported="FMA-large, random split, 12 genres: accuracy 71.40 %, weighted F1 0.703, macro F1 0.619",
)
@dataclass(frozen=True)
class CNN2dGRUSettings(CRNNSettings):
    """As its base class has them."""


@register(
    "cnn2d-lstm",
    network="genrecls.models.crnn:CNN2dLSTM",
    origin=ORIGIN,
    reported="FMA-large, random split, 12 genres: accuracy 70.83 %, weighted F1 0.697, macro F1 0.608",
)
@dataclass(frozen=True)
class CNN2dLSTMSettings(CRNNSettings):
    """As its base class has them. The source has hidden = 64 alone, whatever was asked for."""
