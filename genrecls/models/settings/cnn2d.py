"""CNN2D: a residual network along time whose first convolution spans all bins of the feature."""

from dataclasses import dataclass

from genrecls.config import ModelSettings
from genrecls.models.registry import register
from genrecls.models.settings.cnn1d import ORIGIN
from genrecls.models.settings.widths import widths
from genrecls.settings import setting


@dataclass(frozen=True)
class FeatureExtractorSettings(ModelSettings):
    """Filters and kernel of the convolutions on the feature, and the windows after them. The source's defaults."""

    filters: int = setting(
        256, "Channels of each of the three convolutions on the feature.", flag="--filters", low=1, high=4096
    )
    kernel: int = setting(4, "Frames that each convolution on the feature spans.", flag="--kernel", low=1, high=256)
    window: int = setting(
        125,
        "Frames of a window, of which maximum and mean are taken after the convolutions.",
        flag="--window",
        low=1,
        high=16384,
    )

    def frames_after_convolutions(self, frames: int) -> int:
        """How many of a fragment's frames remain."""
        return frames - self.kernel + 1

    def least_frames(self) -> int:
        """The shortest fragment of which one window remains."""
        return self.window + self.kernel - 1


@register(
    "cnn2d",
    network="genrecls.models.cnn2d:CNN2D",
    origin=ORIGIN,
    reported="FMA-small, official split: accuracy 51 %, F1 0.38",
)
@dataclass(frozen=True)
class CNN2DSettings(FeatureExtractorSettings):
    """The extractor's settings, dense layers and dropout. The defaults are the source's."""

    dense: str = setting(
        "256-64",
        "Widths of the hidden dense layers.",
        flag="--dense",
    )
    dropout: float = setting(0.1, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dense_widths()

    def dense_widths(self) -> tuple[int, ...]:
        """The widths of the hidden dense layers after the first, which is as wide as its input."""
        return widths(self.dense, "model.dense (--dense)")
