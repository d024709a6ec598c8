"""Random tensors made on the device that uses them: each value a function of a key and its position alone."""

import numpy as np
import torch
from numpy.typing import NDArray

_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WRAP = 1 << 64


def _signed(value: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit value."""
    return value - _WRAP if value >= 1 << 63 else value


def _mix(x: torch.Tensor) -> torch.Tensor:
    # The finaliser of SplitMix64 on int64, whose right shift copies the sign bit and so is masked. In place.
    x = x.bitwise_xor_((x >> 30) & ((1 << 34) - 1)).mul_(_signed(_MIX[1]))
    x = x.bitwise_xor_((x >> 27) & ((1 << 37) - 1)).mul_(_signed(_MIX[2]))
    return x.bitwise_xor_((x >> 31) & ((1 << 33) - 1))


def keyed_uniform(shape: tuple[int, ...] | torch.Size, key: int, device: torch.device) -> torch.Tensor:
    """float32 in [0, 1) with 24 random bits, a function of `key` and position: the same on CPU and GPU.

    key: of 64 well mixed bits, such as `seeding.derived_key` gives.
    """
    size = 1
    for extent in shape:
        size *= extent
    counter = torch.arange(size, dtype=torch.int64, device=device).reshape(shape)
    bits = _mix(_mix(counter ^ _signed(key)).add_(_signed(_MIX[0])))
    return ((bits >> 40) & ((1 << 24) - 1)).to(torch.float32) * 2.0**-24


def keyed_uniforms(keys: NDArray[np.uint64], shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """`keyed_uniform` of this shape for each key, float32 (keys, *shape): a row knows nothing of the others.

    keys: uint64 (keys,), at least one, of well mixed bits, such as `seeding.hash64` gives.
    """
    # Row by row, which a CPU does within its cache: ten times as fast as all rows at once.
    return torch.stack([keyed_uniform(shape, key, device) for key in keys.tolist()])
