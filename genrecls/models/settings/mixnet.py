"""MixNet: CNN1D's extractor on the waveform and CNN2D's on the feature, side by side."""

from dataclasses import dataclass

from genrecls.config import Input
from genrecls.models.registry import register
from genrecls.models.settings.cnn1d import ORIGIN, WaveExtractorSettings
from genrecls.models.settings.cnn2d import FeatureExtractorSettings
from genrecls.models.settings.widths import widths
from genrecls.settings import setting


@register(
    "mixnet",
    network="genrecls.models.mixnet:MixNet",
    origin=ORIGIN,
    reported="FMA-small, official split: accuracy 55 %, F1 0.35",
)
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
