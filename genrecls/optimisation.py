"""Optimisers, and the step they make: penalties, clipping, the change of the weights."""

from collections.abc import Mapping

import torch

from genrecls.config import OptimiserSettings


def optimiser(model: torch.nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """SGD (with Nesterov momentum), Adam or AdamW over the model's parameters.

    Weight decay is for matrices and kernels, the first group; biases and normalisation, the second, have none. In SGD
    and Adam it is a gradient of the L2 penalty, in AdamW decoupled (Loshchilov and Hutter 2019). Fused: one pass over
    memory instead of one for each operation, seven times as fast on the CPU.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.name == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(groups, lr=settings.lr, momentum=momentum, nesterov=momentum > 0, fused=True)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr, fused=True)


def moments(moved: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What the optimiser remembers of the steps so far, by "number of the parameter.name"."""
    return {
        f"{number}.{name}": value
        for number, parameter in enumerate(_parameters(moved))
        for name, value in moved.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def restore_moments(moved: torch.optim.Optimizer, kept: Mapping[str, torch.Tensor]) -> None:
    """Make a new optimiser remember what `moments` gave."""
    every = _parameters(moved)
    for key, value in kept.items():
        number, _, name = key.partition(".")
        parameter = every[int(number)]
        # In the memory layout of its parameter, as the optimiser makes it: a step may depend on that to the last bit.
        like = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
        moved.state[parameter][name] = like.detach()


def _parameters(moved: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in moved.param_groups for parameter in group["params"]]


def update(moved: torch.optim.Optimizer, settings: OptimiserSettings, loss: torch.Tensor, lr: float) -> None:
    """One step at the learning rate `lr` down the gradient of `loss` and of the penalties.

    moved: made by `optimiser`. The penalties l1 x sum |w| and l2 x sum w^2 are over its first group. The norm of all
    gradients, penalties included, is clipped to `clip_norm`, if that is above 0.
    """
    moved.zero_grad(set_to_none=True)
    loss.backward()
    _add_penalties(moved.param_groups[0]["params"], settings)
    if settings.clip_norm:
        torch.nn.utils.clip_grad_norm_(_parameters(moved), settings.clip_norm)
    for group in moved.param_groups:
        group["lr"] = lr
    moved.step()


@torch.no_grad()
def _add_penalties(weights: list[torch.Tensor], settings: OptimiserSettings) -> None:
    # The gradients as they are known, one kernel for all tensors: autograd would walk each weight twice more.
    gradients = [p.grad for p in weights if p.grad is not None]
    if settings.l1:
        torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=settings.l1)
    if settings.l2:
        torch._foreach_add_(gradients, weights, alpha=2 * settings.l2)
