"""Optimisers, and the step they make: penalties, clipping, the change of the weights."""

import torch

from genrecls.config import OptimiserSettings


def optimiser(model: torch.nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """SGD (with Nesterov momentum), Adam or AdamW over the model's parameters.

    Weight decay is for matrices and kernels, the first group; biases and normalisation, the second, have none. In SGD
    and Adam it is a gradient of the L2 penalty, in AdamW decoupled (Loshchilov and Hutter 2019).
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.name == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(groups, lr=settings.lr, momentum=momentum, nesterov=momentum > 0)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr)


def update(moved: torch.optim.Optimizer, settings: OptimiserSettings, loss: torch.Tensor, lr: float) -> None:
    """One step at the learning rate `lr` down the gradient of `loss` and of the penalties.

    moved: made by `optimiser`. The penalties l1 x sum |w| and l2 x sum w^2 are over its first group. The norm of all
    gradients, penalties included, is clipped to `clip_norm`, if that is above 0.
    """
    moved.zero_grad(set_to_none=True)
    loss.backward()
    _add_penalties(moved.param_groups[0]["params"], settings)
    if settings.clip_norm:
        every = [p for group in moved.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(every, settings.clip_norm)
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
