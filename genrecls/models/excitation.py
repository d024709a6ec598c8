"""Squeeze-and-excitation (Hu, Shen and Sun 2018): channels weighed by what all of them hold."""

import torch
from torch import nn


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from all channels' means: (n, c, h, w) -> (n, c, h, w).

    ratio: the reduction r, from 1 to `channels`; the narrow layer has channels // ratio units.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // ratio, bias=False)
        self.excite = nn.Linear(channels // ratio, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gates are in (0, 1)."""
        # mean, not adaptive pooling, which has no deterministic backward on CUDA
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean(dim=(2, 3))))))
        return x * gate[:, :, None, None]
