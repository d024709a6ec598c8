"""What a step does to the weights: penalties, clipping."""

import math
from typing import Any

import pytest
import torch

from genrecls.config import OptimiserSettings
from genrecls.optimisation import optimiser, update
from genrecls.seeding import generator

SGD = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}


def small() -> torch.nn.Sequential:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.Flatten(), torch.nn.Linear(6, 4)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator(0, name)) * 2 - 1)
    return model


def moved(model: torch.nn.Module, steps: int = 1, scale: float = 0.0, lr: float = 0.1, **settings: Any) -> None:
    """Steps on `scale` times a loss that has a gradient for every parameter."""
    chosen = OptimiserSettings(**{**SGD, **settings})
    stepping = optimiser(model, chosen)
    x = torch.rand(8, 2, 3, 3, generator=generator(0, "x"))
    for _ in range(steps):
        update(stepping, chosen, scale * torch.nn.functional.cross_entropy(model(x), torch.arange(8) % 4), lr)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim > 1])


def others(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim == 1])


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_a_penalty_is_that_of_autograd(penalty: str) -> None:
    ours, theirs = small(), small()
    settings: dict[str, Any] = {penalty: 0.03}
    moved(ours, scale=1.0, **settings)
    x = torch.rand(8, 2, 3, 3, generator=generator(0, "x"))
    matrices = [p for p in theirs.parameters() if p.ndim > 1]
    sums = [p.abs().sum() if penalty == "l1" else (p**2).sum() for p in matrices]
    loss = torch.nn.functional.cross_entropy(theirs(x), torch.arange(8) % 4) + 0.03 * torch.stack(sums).sum()
    loss.backward()
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert their.grad is not None
        torch.testing.assert_close(mine.detach(), their.detach() - 0.1 * their.grad)


def test_l1_alone_drives_weights_to_zero_and_nothing_else() -> None:
    model = small()
    before = others(model)
    moved(model, steps=120, lr=0.01, l1=1.0)
    # Each step is 0.01 towards zero, which all have reached within a step's length after 100.
    assert weights(model).abs().max() <= 0.0101
    assert torch.equal(others(model), before)


def test_l2_alone_shrinks_weights_by_a_factor() -> None:
    model = small()
    before, fixed = weights(model), others(model)
    moved(model, steps=5, l2=0.5)
    torch.testing.assert_close(weights(model), before * 0.9**5)
    assert torch.equal(others(model), fixed)


def test_without_penalties_steps_are_the_optimisers_own_bits() -> None:
    ours, theirs = small(), small()
    moved(ours, scale=1.0, lr=0.1)
    x = torch.rand(8, 2, 3, 3, generator=generator(0, "x"))
    stepping = torch.optim.SGD(theirs.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(theirs(x), torch.arange(8) % 4).backward()
    stepping.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def distance(**settings: Any) -> float:
    model = small()
    before = torch.cat([weights(model), others(model)])
    moved(model, lr=1.0, **settings)
    return float((torch.cat([weights(model), others(model)]) - before).norm())


def test_the_norm_of_all_gradients_is_bounded() -> None:
    free = distance(scale=50.0)
    assert free > 1
    assert distance(scale=50.0, clip_norm=0.25) == pytest.approx(0.25, rel=1e-4)
    assert distance(scale=50.0, clip_norm=2 * free) == pytest.approx(free, rel=1e-6)
    # The penalty's gradient is bounded with the rest.
    assert distance(scale=0.0, l1=3.0) == pytest.approx(3 * math.sqrt(weights(small()).numel()), rel=1e-4)
    assert distance(scale=0.0, l1=3.0, clip_norm=0.25) == pytest.approx(0.25, rel=1e-4)
