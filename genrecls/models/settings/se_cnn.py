"""SE-CNN: a plain convolutional network with squeeze-and-excitation (Xu and Zhou 2020)."""

from dataclasses import dataclass

from genrecls.config import ModelSettings
from genrecls.errors import ConfigError
from genrecls.models.registry import register
from genrecls.models.settings.widths import widths
from genrecls.settings import setting


@register(
    "se-cnn",
    network="genrecls.models.se_cnn:SECNN",
    origin="SENets on GTZAN; Xu and Zhou 2020",
    reported=(
        "GTZAN, 5 folds by file, validation folds: accuracy per file 81.0 % with flatten, 88.9 % with average (with "
        "augmentation 84.8 %, 85.2 %); the paper's own headline of about 92 % is not verified"
    ),
)
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
