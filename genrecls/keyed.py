"""Random tensors made on the device that uses them: each value a function of a key and its position alone."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WRAP = 1 << 64
_PIECE = 1 << 15


def _signed(value: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit value."""
    return value - _WRAP if value >= 1 << 63 else value


def _mix(x: torch.Tensor, scratch: torch.Tensor) -> None:
    # The finaliser of SplitMix64 on int64, whose right shift copies the sign bit and so is masked.
    for shift, factor in ((30, _MIX[1]), (27, _MIX[2]), (31, None)):
        torch.bitwise_right_shift(x, shift, out=scratch)
        x.bitwise_xor_(scratch.bitwise_and_((1 << (64 - shift)) - 1))
        if factor is not None:
            x.mul_(_signed(factor))


def _fill(values: torch.Tensor, key: int) -> None:
    """float32 (n,), overwritten."""
    # In pieces that stay in the processor's cache, ten times as fast as one after the other over all values.
    size = len(values)
    piece = _PIECE if values.device.type == "cpu" else max(1, size)
    scratch = torch.empty(min(piece, size), dtype=torch.int64, device=values.device)
    for first in range(0, size, piece):
        x = torch.arange(first, min(size, first + piece), dtype=torch.int64, device=values.device)
        own = scratch[: len(x)]
        x.bitwise_xor_(_signed(key))
        _mix(x, own)
        x.add_(_signed(_MIX[0]))
        _mix(x, own)
        values[first : first + len(x)] = x.bitwise_right_shift_(40).bitwise_and_((1 << 24) - 1)
    values.mul_(2.0**-24)


def keyed_uniform(shape: tuple[int, ...] | torch.Size, key: int, device: torch.device) -> torch.Tensor:
    """float32 in [0, 1) with 24 random bits, a function of `key` and position: the same on CPU and GPU.

    key: of 64 well mixed bits, such as `seeding.derived_key` gives.
    """
    return keyed_uniforms(np.array([key], dtype=np.uint64), shape, device)[0]


def keyed_uniforms(keys: NDArray[np.uint64], shape: tuple[int, ...] | torch.Size, device: torch.device) -> torch.Tensor:
    """`keyed_uniform` of this shape for each key, float32 (keys, *shape): a row knows nothing of the others.

    keys: uint64 (keys,), of well mixed bits, such as `seeding.hash64` gives.
    """
    made = torch.empty(len(keys), math.prod(shape), dtype=torch.float32, device=device)
    for row, key in zip(made, keys.tolist(), strict=True):
        _fill(row, key)
    return made.reshape(len(keys), *shape)
