"""CEL: convolutions, each with its max-pooling, then dense layers; three activations under three names."""

from dataclasses import dataclass

from genrecls.models.registry import register
from genrecls.models.settings.one_input import OneInputSettings
from genrecls.models.settings.widths import widths
from genrecls.settings import setting

ORIGIN = "MLP and CEL on 5-second GTZAN fragments"
NODES = {"feature": "32-64", "wave": "64-128"}
"""The source's default channels by input."""


@register(
    "cel",
    network="genrecls.models.cel:CEL",
    origin=ORIGIN,
    reported=(
        "GTZAN, 5-s fragments, songs leak: of three configurations 3 (128-128-64) the best on the spectrogram, "
        "1 (32-32, one dense layer) overfitted; ReLU balanced on the spectrogram; the best of all the source's systems "
        "about 0.30 accuracy"
    ),
)
@dataclass(frozen=True)
class CELSettings(OneInputSettings):
    """Channels, dense layers and dropout. The defaults are the source's.

    On the wave they make a huge layer behind the last convolution: 452 million parameters at 5 s of 22,050 Hz, where
    the source's configurations 1 (32-32, one dense layer) and 3 (128-128-64) have 9 and 57 million.
    """

    nodes: str = setting(
        "",
        "Channels of the convolutions, such as 128-128-64; the last one is the width of hidden dense layers, too.",
        flag="--nodes",
        shown=f"{NODES['feature']}, on the waveform {NODES['wave']}",
    )
    dense_layers: int = setting(2, "Dense layers, counting the output layer.", flag="--dense-layers", low=1, high=16)
    dropout: float = setting(0.3, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.channels()

    def channels(self) -> tuple[int, ...]:
        """The channels of each convolution; where none are given, the source's for the input."""
        return widths(self.nodes or NODES[self.input], "model.nodes (--nodes)")


@register(
    "cel2",
    network="genrecls.models.cel:CEL2",
    origin=ORIGIN,
    reported=(
        "GTZAN, 5-s fragments, songs leak: LeakyReLU the best of three activations on the wave; the best of all the "
        "source's systems about 0.30 accuracy"
    ),
)
@dataclass(frozen=True)
class CEL2Settings(CELSettings):
    """As cel's."""


@register(
    "cel3",
    network="genrecls.models.cel:CEL3",
    origin=ORIGIN,
    reported=(
        "GTZAN, 5-s fragments, songs leak: ELU the worst of three activations on the wave; the best of all the "
        "source's systems about 0.30 accuracy"
    ),
)
@dataclass(frozen=True)
class CEL3Settings(CELSettings):
    """As cel's."""
