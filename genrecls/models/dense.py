"""Hidden dense layers: what several models have between their convolutions and the layer to the genres."""

from collections.abc import Iterable

from torch import nn

from genrecls.models.dropout import Dropout


def hidden_layers(inputs: int, widths: Iterable[int], dropout: float) -> nn.Sequential:
    """[linear, ReLU, dropout] for each width: (batch, inputs) -> (batch, the last width)."""
    layers = nn.Sequential()
    for width in widths:
        layers.append(nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), Dropout(dropout)))
        inputs = width
    return layers
