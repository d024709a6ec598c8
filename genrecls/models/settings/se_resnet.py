"""SE-ResNet: residual networks (He et al. 2016) with squeeze-and-excitation (Hu, Shen and Sun 2018)."""

from dataclasses import dataclass

from genrecls.config import ModelSettings
from genrecls.errors import ConfigError
from genrecls.models.registry import register
from genrecls.settings import setting

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks in each of the four stages by depth (He et al. 2016, table 1)."""


@register(
    "se-resnet",
    network="genrecls.models.se_resnet:SEResNet",
    origin="SENets on GTZAN; Hu, Shen and Sun 2018",
    reported="none (overfitted)",
)
@dataclass(frozen=True)
class SEResNetSettings(ModelSettings):
    """Depth, width and squeeze ratio.

    The sources' width is 64: 11 million parameters at depth 18, for a few hundred training clips. The default is 16
    (0.7 million), because on validation clips of the GTZAN proxy 24 was no better (accuracy 0.58 and cross-entropy
    1.28 beside 0.61 and 1.28 after 16 epochs, one seed each) and took half as long again.
    """

    depth: int = setting(18, "Layers: 18 and 34 of basic, 50 of bottleneck blocks.", flag="--depth")
    se_ratio: int = setting(
        16, "Reduction ratio r of squeeze-and-excitation; 0 leaves it out.", flag="--se-ratio", low=0, high=2048
    )
    width: int = setting(16, "Channels of the first stage (the sources' 64).", flag="--width", low=4, high=512)
    dropout: float = setting(0.0, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in BLOCKS:
            raise ConfigError(f"model.depth (--depth) must be one of {', '.join(map(str, BLOCKS))}, not {self.depth}.")
        narrowest = self.width * (4 if self.depth == 50 else 1)
        if self.se_ratio > narrowest:
            raise ConfigError(
                f"model.se_ratio (--se-ratio) must be at most {narrowest}, the channels of the narrowest block at this "
                f"width and depth, not {self.se_ratio}: nothing would be left to excite with."
            )
