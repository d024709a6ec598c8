"""Optimisers and the course of the learning rate."""

import math

import torch

from genrecls.config import OptimiserSettings


def optimiser(model: torch.nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """SGD (with Nesterov momentum), Adam or AdamW over the model's parameters.

    Weight decay is for matrices and kernels; biases and normalisation have none. In SGD and Adam it is a
    gradient of the L2 penalty, in AdamW decoupled (Loshchilov and Hutter 2019).
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.name == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(groups, lr=settings.lr, momentum=momentum, nesterov=momentum > 0)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr)


def learning_rate(settings: OptimiserSettings, step: int, steps: int) -> float:
    """The rate of a step (from 0) of all `steps`: up from 0 in the warm-up, then constant or a cosine down to 0."""
    rising = round(settings.warmup * steps)
    if step < rising:
        return settings.lr * (step + 1) / rising
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
