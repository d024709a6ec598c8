"""Multilayer perceptrons on the values of a fragment, one after the other."""

from dataclasses import dataclass

from genrecls.errors import ConfigError
from genrecls.models.registry import register
from genrecls.models.settings.one_input import OneInputSettings
from genrecls.models.settings.widths import widths
from genrecls.settings import setting

ORIGIN = "MLP and CEL on 5-second GTZAN fragments"


@register(
    "mlp",
    network="genrecls.models.mlp:MLP",
    origin=ORIGIN,
    reported="none of its own (GTZAN, 5-s fragments, songs leak: the best of the source's systems about 0.30 accuracy)",
)
@dataclass(frozen=True)
class MLPSettings(OneInputSettings):
    """The input; the two hidden layers of 128 are the source's."""


@register(
    "mlp2",
    network="genrecls.models.mlp:MLP2",
    origin=ORIGIN,
    reported=(
        "GTZAN, 5-s fragments, songs leak: of three configurations 2 (2 x 512, dropout 0.5) the most accurate, "
        "1 (4 x 256) balanced, 3 (1024-512-256, dropout 0.3) the poorest; the best of all the source's systems about "
        "0.30 accuracy"
    ),
)
@dataclass(frozen=True)
class MLP2Settings(OneInputSettings):
    """Number and widths of the hidden layers. The defaults are the source's configuration 2, its most accurate."""

    layers: int = setting(2, "Hidden layers.", flag="--layers", low=1, high=64)
    nodes: str = setting(
        "512",
        "Widths of the hidden layers, such as 1024-512-256; the last one is repeated for further layers.",
        flag="--nodes",
    )
    dropout: float = setting(0.5, "Dropout, wherever the model has it.", flag="--dropout", low=0, high=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = len(widths(self.nodes, "model.nodes (--nodes)"))
        if listed > self.layers:
            raise ConfigError(
                f"model.nodes (--nodes {self.nodes}) lists {listed} widths for {self.layers} hidden layers: "
                f"shorten it, or choose --layers {listed}."
            )

    def hidden(self) -> tuple[int, ...]:
        """The width of each hidden layer."""
        listed = widths(self.nodes, "model.nodes (--nodes)")
        return listed + listed[-1:] * (self.layers - len(listed))
