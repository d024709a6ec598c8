"""Dropout whose masks are a function of (seed, module name, step, rank) and position, on every device."""

import torch

from genrecls.keyed import keyed_uniform
from genrecls.seeding import derived_key


class Dropout(torch.nn.Module):
    """Zero each value with probability p in training and scale the others by 1 / (1 - p).

    The mask is drawn at any p, so that p changes no mask but only its threshold. `begin_step` sets what it
    is drawn from; a model is trained only after it. Raises RuntimeError where that was forgotten.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.key: int | None = None

    def _mask_shape(self, x: torch.Tensor) -> torch.Size:
        return x.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape in, the same shape out."""
        if not self.training or self.p == 0:
            return x
        if self.key is None:
            raise RuntimeError("begin_step was not called before a training step")
        keep = keyed_uniform(self._mask_shape(x), self.key, x.device) >= self.p
        return x * (keep / (1 - self.p)).to(x.dtype)

    def extra_repr(self) -> str:
        """For printing the layers."""
        return f"p={self.p}"


class ChannelDropout(Dropout):
    """Dropout of whole channels (Tompson et al. 2015): (batch, channels, …) in, the same shape out."""

    def _mask_shape(self, x: torch.Tensor) -> torch.Size:
        return torch.Size((*x.shape[:2], *(1 for _ in x.shape[2:])))


def begin_step(model: torch.nn.Module, seed: int, step: int, rank: int = 0) -> None:
    """Give every Dropout of `model` the key of this training step."""
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            module.key = derived_key(seed, "dropout", name, step, rank)
