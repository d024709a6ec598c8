"""Dropout whose masks are a function of (seed, module name, step, rank) and position, on every device."""

import torch

from genrecls.seeding import derived_key

_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WRAP = 1 << 64


def _signed(value: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit value."""
    return value - _WRAP if value >= 1 << 63 else value


def _mix(x: torch.Tensor) -> torch.Tensor:
    # The finaliser of SplitMix64 on int64, whose right shift copies the sign bit and so is masked.
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _signed(_MIX[1])
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _signed(_MIX[2])
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def keyed_uniform(shape: tuple[int, ...] | torch.Size, key: int, device: torch.device) -> torch.Tensor:
    """float32 in [0, 1) with 24 random bits, a function of `key` and position: the same on CPU and GPU."""
    size = 1
    for extent in shape:
        size *= extent
    counter = torch.arange(size, dtype=torch.int64, device=device).reshape(shape)
    bits = _mix(_mix(counter ^ _signed(key)) + _signed(_MIX[0]))
    return ((bits >> 40) & ((1 << 24) - 1)).to(torch.float32) * 2.0**-24


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
