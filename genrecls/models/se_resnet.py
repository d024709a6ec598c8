"""SE-ResNet: residual networks (He et al. 2016) with squeeze-and-excitation (Hu, Shen and Sun 2018)."""

import torch
from torch import nn

from genrecls.models.building import Model
from genrecls.models.dropout import Dropout
from genrecls.models.excitation import SqueezeExcitation
from genrecls.models.settings.se_resnet import BLOCKS, SEResNetSettings
from genrecls.models.shapes import InputShape, Smallest


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class Subsample(nn.Module):
    """Keep each second row and column: with a 1x1 convolution behind it, that convolution with stride 2.

    The backward pass of oneDNN's own strided 1x1 convolution reads beyond its data in bfloat16 (PyTorch 2.11, CPU, 12
    or fewer input channels), which now and then ends the process.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, c, h / 2, w / 2), rounded up."""
        return x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)


class Block(nn.Module):
    """A residual block: the branch of convolutions, excitation, then the sum with the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, ratio: int, residual: nn.Sequential) -> None:
        super().__init__()
        self.residual = residual
        self.se = SqueezeExcitation(outputs, ratio) if ratio else nn.Identity()
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut.append(Subsample())
        if stride == 2 or inputs != outputs:
            self.shortcut.extend([_conv(inputs, outputs, 1), nn.BatchNorm2d(outputs)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        return torch.relu(self.se(self.residual(x)) + self.shortcut(x))


def basic_block(inputs: int, width: int, stride: int, ratio: int) -> Block:
    """Two 3x3 convolutions; `width` channels out."""
    residual = nn.Sequential(
        _conv(inputs, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(), _conv(width, width, 3), nn.BatchNorm2d(width)
    )
    return Block(inputs, width, stride, ratio, residual)


def bottleneck(inputs: int, width: int, stride: int, ratio: int) -> Block:
    """1x1, 3x3 (which has the stride) and 1x1 convolutions; 4 x `width` channels out."""
    residual = nn.Sequential(
        *(_conv(inputs, width, 1), nn.BatchNorm2d(width), nn.ReLU()),
        *(_conv(width, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU()),
        *(_conv(width, width * 4, 1), nn.BatchNorm2d(width * 4)),
    )
    return Block(inputs, width * 4, stride, ratio, residual)


class SEResNet(Model):
    """Stem (7x7 stride 2, max-pool 3 stride 2), four stages of blocks, mean over bins and frames, one linear layer.

    The stem and the stages halve both axes five times: fewer than 32 frames would leave the last stage with
    nothing but padding around one column.
    """

    @classmethod
    def smallest(cls, settings: SEResNetSettings) -> Smallest:
        """As the class says."""
        return Smallest(frames=32)

    def __init__(self, settings: SEResNetSettings, shape: InputShape) -> None:
        super().__init__()
        block, expansion = (bottleneck, 4) if settings.depth == 50 else (basic_block, 1)
        channels = settings.width
        self.stem = _conv(1, channels, 7, 2)
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        stages = []
        for stage, count in enumerate(BLOCKS[settings.depth]):
            width = settings.width * 2**stage
            blocks = []
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(block(channels, width, stride, settings.se_ratio))
                channels = width * expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.dropout = Dropout(settings.dropout)
        self.head = nn.Linear(channels, shape.genres)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """(batch, 1, bins, frames) -> logits (batch, genres)."""
        x = self.pool(torch.relu(self.norm(self.stem(feature))))
        x = self.stages(x).mean(dim=(2, 3))
        return self.head(self.dropout(x))
