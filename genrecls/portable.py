"""PyTorch's sums on the CPU under portable kernels: matrix products, convolutions and roots.

Held to AVX2, most of oneDNN sums in an order that depends on the shapes alone. What does not is made of what does:

* Matrix products are oneDNN's inner product, whose blocks are constants. MKL has one path that is the same for every
  vendor (`MKL_CBWR=COMPATIBLE`), and it takes two to six times as long.
* oneDNN's convolutions of channels-last images sum their input channels in blocks that fit the second-level cache.
  Those of more channels than fit the smallest one there is are made of several.
* Kernels longer than 13, and padded strided ones longer than 7, fall back to a matrix product in blocks of the caches.
  They are made of shorter ones: the values of a stride become channels, and a kernel that is still long is a sum.
* Square roots of whole tensors are MKL's, which begins on that path with the processor's approximation of 1 / sqrt:
  Intel's, AMD's and qemu's differ, and so did one root in five in the last bit. NumPy's are rounded correctly.

Of PyTorch's other functions of whole tensors that are MKL's, `log` in float64, `log10` and `pow` with the exponent 0.5
differ between processors, too, and are used nowhere in this package.
"""

import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch.nn.functional import pad

from genrecls.kernels import PORTABLE, in_force

CACHES = (28 * 1024, 185 * 1024)
"""Bytes that oneDNN fills of the first and second cache: 7/8 and 3/4 of the smallest of a processor with AVX2, 32 and
256 KiB (Haswell), less what it sums into."""
LONGEST = 7

_MADE: list[torch.library.Library] = []


def ready() -> None:
    """Have PyTorch's sums portable in this process, where its kernels are to be: before anything is computed."""
    if in_force() == PORTABLE:
        install()


def install() -> None:
    """From now on matrix products, convolutions and roots, and with them layers and gradients, are as this module says.

    For the whole process and for good. A second call does nothing. Only float32 on the CPU is concerned; what has an
    `out=`, and convolutions in groups or with dilation, stay PyTorch's own.
    """
    if _MADE:
        return
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators")
        for name, kernel in (("mm", _mm), ("addmm", _addmm)):
            library.impl(name, kernel, "CPU", allow_override=True)
        for name in ("conv1d", "conv2d"):
            for key in ("CPU", "AutogradCPU"):
                library.impl(name, _convolution, key, allow_override=True)
        library.impl("sqrt", _root, "CPU", allow_override=True)
        library.impl("sqrt_", _replace_by_root, "CPU", allow_override=True)
    _MADE.append(library)


def _root(x: torch.Tensor) -> torch.Tensor:
    if x.dtype not in (torch.float32, torch.float64):
        wider = torch.promote_types(x.dtype, torch.get_default_dtype()) if not x.is_floating_point() else x.dtype
        return torch.sqrt(x, out=torch.empty_like(x, dtype=wider))
    return torch.from_numpy(np.asarray(np.sqrt(x.detach().numpy())))


def _replace_by_root(x: torch.Tensor) -> torch.Tensor:
    return x.copy_(_root(x))


def _mm(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return _product(left, right, None)


def _addmm(
    added: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    if added.shape == right.shape[1:] and beta == 1 and alpha == 1:
        return _product(left, right, added)
    product = _product(left, right, None)
    return (product if alpha == 1 else product * alpha) + (added if beta == 1 else added * beta)


def _product(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if left.dtype != torch.float32 or right.dtype != torch.float32 or not left.numel() or not right.numel():
        made = torch.mm(left, right, out=torch.empty(left.shape[0], right.shape[1], dtype=left.dtype))
        return made if bias is None else made + bias
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), bias, "none", [], "")
    return product


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> torch.Tensor:
    axes = weight.ndim - 2
    strides, paddings, dilations = (list(each) * (axes // len(each)) for each in (stride, padding, dilation))
    if x.ndim == weight.ndim - 1:
        return _convolution(x[None], weight, bias, strides, paddings, dilations, groups)[0]
    if x.dtype != torch.float32 or groups != 1 or max(dilations) > 1:
        return torch.convolution(x, weight, bias, strides, paddings, dilations, False, [0] * axes, groups)
    if weight.shape[-1] > LONGEST:
        return _of_short(x, weight, bias, strides, paddings)
    return _of_few_channels(x, weight, bias, strides, paddings)


def _of_short(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: list[int], padding: list[int]
) -> torch.Tensor:
    """A convolution whose kernel is long on the last axis, by those of at most 7 without padding or stride there."""
    length, step, around = weight.shape[-1], stride[-1], padding[-1]
    frames = (x.shape[-1] + 2 * around - length) // step + 1
    taps = -(-length // step)
    columns = frames + taps - 1
    x = pad(x, (around, columns * step - around - x.shape[-1]))
    weight = pad(weight, (0, taps * step - length))
    if step > 1:
        x, weight = (each.unflatten(-1, (-1, step)).movedim(-1, 2).flatten(1, 2).contiguous() for each in (x, weight))
    others = ([*stride[:-1], 1], [*padding[:-1], 0])

    def part(first: int, own: torch.Tensor | None) -> torch.Tensor:
        some = weight[..., first : first + LONGEST]
        seen = x[..., first : first + frames + some.shape[-1] - 1]
        return _of_few_channels(seen, some, own, *others)

    made = part(0, bias)
    for first in range(LONGEST, taps, LONGEST):
        made = made + part(first, None)
    return made


def _of_few_channels(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: list[int], padding: list[int]
) -> torch.Tensor:
    """A convolution by those of as few input channels, and output channels that a gradient is summed over, as fit."""
    most = _most_channels(weight.shape[2:], stride[-1])
    outputs, inputs = weight.shape[:2]
    many = -(-inputs // most)
    wide = -(-outputs // most) if x.requires_grad and torch.is_grad_enabled() else 1
    plain = ([1] * len(stride), False, [0] * len(stride), 1)

    def summed(rows: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
        if many == 1:  # the gradient of a chunk that is all would be a copy of it
            return torch.convolution(x, rows, own, stride, padding, *plain)
        pairs = zip(x.chunk(many, dim=1), rows.chunk(many, dim=1), strict=True)
        (seen, some), *others = pairs
        made = torch.convolution(seen, some, own, stride, padding, *plain)
        for seen, some in others:
            made = made + torch.convolution(seen, some, None, stride, padding, *plain)
        return made

    if wide == 1:
        return summed(weight, bias)
    owns = [None] * wide if bias is None else bias.chunk(wide)
    return torch.cat([summed(rows, own) for rows, own in zip(weight.chunk(wide), owns, strict=True)], dim=1)


@cache
def _most_channels(kernel: torch.Size, step: int) -> int:
    """How many channels oneDNN sums at once on every processor with AVX2, a multiple of 8.

    Of each it counts the weights of 32 (8) outputs and what 3 (14) places of a row see of the input.
    """
    rows, width = (1, *kernel)[-2:]
    bytes_each = max(
        4 * rows * (width * outputs + (places - 1) * step + width) for outputs, places in ((32, 3), (8, 14))
    )
    first = 4 * (13 * step + width)
    return max(8, min(CACHES[0] // first, CACHES[1] // bytes_each) // 8 * 8)
