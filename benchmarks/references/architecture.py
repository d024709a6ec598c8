"""The network that genrecls trains, for references that train the same one in their own way."""

import torch
from torch import nn

from genrecls.models.building import Model, build
from genrecls.models.dropout import Dropout
from genrecls.models.registry import settings_class
from genrecls.models.se_resnet import Subsample
from genrecls.models.shapes import InputShape

GENRES = 10


def built(model: dict[str, object], features: torch.Tensor) -> Model:
    """As genrecls builds it. model: its name and settings. features: one input, (1, bins, frames)."""
    settings = dict(model)
    name = str(settings.pop("name"))
    shape = InputShape(features.shape[1], features.shape[2], GENRES, 0)
    return build(settings_class(name)(**settings), shape)


def plain(model: dict[str, object], features: torch.Tensor) -> nn.Module:
    """The same of PyTorch's own layers alone: strided convolutions and its dropout, where genrecls has its own."""
    network = built(model, features)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
        if isinstance(module, nn.Sequential) and len(module) and isinstance(module[0], Subsample):
            module[0] = nn.Identity()
            module[1].stride = (2, 2)  # type: ignore[assignment]
    return network
