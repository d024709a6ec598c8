"""Matrix products under portable kernels: those of PyTorch on the CPU in float32, made by oneDNN instead of by MKL.

Held to AVX2, oneDNN's inner product blocks its sums by constants, not by vendor or cache. MKL has one path that is the
same on every vendor (`MKL_CBWR=COMPATIBLE`), and it takes two to six times as long.
"""

import torch

_MADE: list[torch.library.Library] = []


def install() -> None:
    """From now on, `mm` and `addmm`, and with them linear and recurrent layers and their gradients, are oneDNN's.

    For the whole process and for good. A second call does nothing. What is not float32, or has an `out=`, stays as it is.
    """
    if _MADE:
        return
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in (("mm", _mm), ("addmm", _addmm)):
        library.impl(name, kernel, "CPU", allow_override=True)
    _MADE.append(library)


def _mm(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return _product(left, right, None)


def _addmm(
    added: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    if added.ndim == 1 and beta == 1 and alpha == 1 and len(added) == right.shape[1] and added.dtype == left.dtype:
        return _product(left, right, added)
    product = _product(left, right, None)
    return (product if alpha == 1 else product * alpha) + (added if beta == 1 else added * beta)


def _product(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if left.dtype != torch.float32 or right.dtype != torch.float32 or not left.numel() or not right.numel():
        made = torch.empty(left.shape[0], right.shape[1], dtype=left.dtype)
        torch.mm(left, right, out=made)
        return made if bias is None else made + bias
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), bias, "none", [], "")
    return made
