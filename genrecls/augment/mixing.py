"""Two crops in one."""

import numpy as np
import torch
from numpy.typing import NDArray


def mixup_weights(u: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Mixup's weight of a crop beside its partner (Zhang et al. 2018), Beta(alpha, alpha) by its inverse."""
    from scipy.special import betaincinv  # Not above: whoever predicts would wait for it.

    weights: NDArray[np.float64] = betaincinv(alpha, alpha, u)
    return weights


def mixup(crops: torch.Tensor, partners: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """weights x crops + (1 - weights) x partners. crops, partners: (batch, …), wave or feature; weights: (batch,)."""
    return torch.lerp(partners, crops, weights.reshape(-1, *(1 for _ in crops.shape[1:])))
