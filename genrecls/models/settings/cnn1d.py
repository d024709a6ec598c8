"""CNN1D: one-dimensional convolutions on the waveform."""

from dataclasses import dataclass

from genrecls.config import Input, ModelSettings
from genrecls.errors import ConfigError
from genrecls.models.registry import register
from genrecls.models.settings.widths import widths
from genrecls.settings import setting

ORIGIN = "CNN1D, CNN2D and MixNet on FMA-small"
STAGES = ((128, 32, 4), (32, 2, 2), (16, 2, 2), (8, 2, 1))
"""Kernel, stride and max-pooling of each convolution, whose padding is half its kernel (the source's)."""


@dataclass(frozen=True)
class WaveExtractorSettings(ModelSettings):
    """Channels of the convolutions on the wave. The default is the source's, which searched 64 to 256."""

    channels: str = setting("64-128-256-512", "Channels of each convolution.", flag="--channels")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = len(self.wave_channels())
        if given != len(STAGES):
            raise ConfigError(
                f"model.channels (--channels) must be {len(STAGES)} widths in the model {self.name}, not {given} "
                f"({self.channels!r})."
            )

    def wave_channels(self) -> tuple[int, ...]:
        """The channels of each convolution."""
        return widths(self.channels, "model.channels (--channels)")


@register(
    "cnn1d",
    network="genrecls.models.cnn1d:CNN1D",
    origin=ORIGIN,
    reported="FMA-small, official split: accuracy 47 %, F1 0.33",
)
@dataclass(frozen=True)
class CNN1DSettings(WaveExtractorSettings):
    """Channels, dense layers and dropout, which the source has not. The other defaults are the source's."""

    dense: str = setting("512-128-128-64", "Widths of the hidden dense layers.", flag="--dense")
    dropout: float = setting(0.0, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dense_widths()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The wave alone."""
        return ("wave",)

    def dense_widths(self) -> tuple[int, ...]:
        """The width of each hidden dense layer."""
        return widths(self.dense, "model.dense (--dense)")
