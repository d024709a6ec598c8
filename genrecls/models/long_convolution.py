"""Convolutions of long kernels over a waveform, made of short ones."""

import torch
from torch import nn
from torch.nn.functional import conv1d, pad

LONGEST = 8
"""Taps of the short convolutions. oneDNN has kernels of its own up to 13; beyond, and for padded strided ones beyond 7,
it falls back to a matrix product in blocks of the processor's caches, whose sums differ from one to the next."""


class LongConv1d(nn.Conv1d):
    """`nn.Conv1d` without dilation and groups, for a kernel that is a multiple of its stride.

    The sum is the same in another order: the samples of a stride become channels, and so do stretches of a kernel that
    is still longer than 8. The stride is then 1. Faster than the fallback, and the same bits whatever the caches.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, padding: int) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding)
        taps = kernel // stride
        self._step, self._around, self._taps = stride, padding, min(taps, LONGEST)
        self._stretches = taps // self._taps
        if kernel != stride * self._taps * self._stretches:
            raise ValueError(f"a kernel of {kernel} is no multiple of the stride {stride}, or of {LONGEST} strides")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, samples) -> (n, outputs, (samples + 2 padding - kernel) // stride + 1)."""
        step, taps, stretches = self._step, self._taps, self._stretches
        frames = (x.shape[2] + 2 * self._around - taps * stretches * step) // step + 1
        columns = frames + taps * stretches - 1
        x = pad(x, (self._around, columns * step - self._around - x.shape[2]))
        x = x.unflatten(2, (columns, step)).transpose(2, 3).flatten(1, 2)
        weight = self.weight.unflatten(2, (taps * stretches, step)).transpose(2, 3).flatten(1, 2)
        if stretches > 1:
            x = torch.cat([x[:, :, i * taps : i * taps + frames + taps - 1] for i in range(stretches)], dim=1)
            weight = torch.cat(weight.split(taps, dim=2), dim=1)
        return conv1d(x, weight, self.bias)
