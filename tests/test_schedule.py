"""The learning rate against PyTorch's schedulers, and what validation figures say of the epochs."""

import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from genrecls.config import SCHEDULES, OptimiserSettings
from genrecls.schedule import learning_rates
from genrecls.seeding import name_key, uniform
from genrecls.selection import cost, exhausted, plateaus, stale

EPOCHS = 24


def falling(key: str, epochs: int = EPOCHS) -> list[float]:
    """Costs as of a training: falling, with noise, and rising again at the end."""
    noise = uniform(0, key, 0, name_key(key), range(epochs))
    return [2 * math.exp(-i / 4) + 0.02 * max(0, i - 15) + 0.1 * float(u) for i, u in enumerate(noise)]


def rates(epochs: int = EPOCHS, steps: int = 1, costs: list[float] | None = None, **settings: Any) -> list[float]:
    chosen = OptimiserSettings(**{"lr": 0.02, "warmup": 0.0, **settings})
    costs = costs or [1.0] * epochs
    return [rate for e in range(epochs) for rate in learning_rates(chosen, e, epochs, steps, costs[:e])]


def stepped(make: Any, count: int, *, costs: list[float] | None = None, lr: float = 0.02) -> list[float]:
    """The rates of count steps by a scheduler of torch.optim; several schedulers are chained."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedulers = make(optimiser)
    made = []
    for i in range(count):
        made.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        for scheduler in schedulers:
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                assert costs is not None
                scheduler.step(costs[i])
            else:
                scheduler.step()
    return made


def test_cosine_is_cosine_annealing() -> None:
    theirs = stepped(lambda o: [lr_scheduler.CosineAnnealingLR(o, EPOCHS, eta_min=0.02 * 0.05)], EPOCHS)
    assert rates(schedule="cosine", final_lr_share=0.05) == pytest.approx(theirs, rel=1e-12)


def test_linear_is_linear() -> None:
    theirs = stepped(lambda o: [lr_scheduler.LinearLR(o, 1.0, 0.1, EPOCHS)], EPOCHS)
    assert rates(schedule="linear", final_lr_share=0.1) == pytest.approx(theirs, rel=1e-12)


def test_step_is_step() -> None:
    theirs = stepped(lambda o: [lr_scheduler.StepLR(o, 5, 0.7)], EPOCHS)
    ours = rates(schedule="step", step_epochs=5, step_gamma=0.7, steps=3)
    assert ours[::3] == ours[1::3] == ours[2::3] == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("key", ["a", "b", "c"])
@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.2])
def test_plateau_is_reduce_on_plateau(key: str, patience: int, threshold: float) -> None:
    def make(o: Any) -> Any:
        return [lr_scheduler.ReduceLROnPlateau(o, "min", 0.5, patience, threshold, "abs", eps=0)]

    costs = falling(key)
    theirs = stepped(make, EPOCHS, costs=costs)
    assert theirs[-1] < theirs[0]
    settings: dict[str, Any] = {"plateau_factor": 0.5, "plateau_patience": patience, "plateau_threshold": threshold}
    assert rates(costs=costs, schedule="plateau", **settings) == pytest.approx(theirs, rel=1e-12)


def test_a_plateau_of_a_figure_of_which_more_is_better() -> None:
    accuracies = [{"accuracy": 1 - each / 4} for each in falling("d")]

    def make(o: Any) -> Any:
        return [lr_scheduler.ReduceLROnPlateau(o, "max", 0.5, 1, 1e-4, "abs", eps=0)]

    theirs = stepped(make, EPOCHS, costs=[each["accuracy"] for each in accuracies])
    ours = rates(costs=[cost("accuracy", each) for each in accuracies], schedule="plateau", plateau_patience=1)
    assert theirs[-1] < theirs[0]
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_step_plateau_is_both_chained() -> None:
    def make(o: Any) -> Any:
        return [lr_scheduler.StepLR(o, 10, 0.7), lr_scheduler.ReduceLROnPlateau(o, "min", 0.7, 2, 1e-4, "abs", eps=0)]

    costs = falling("e")
    theirs = stepped(make, EPOCHS, costs=costs)
    ours = rates(costs=costs, schedule="step-plateau", plateau_factor=0.7, plateau_patience=2)
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert ours != pytest.approx(rates(costs=costs, schedule="step"))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_one_cycle_is_one_cycle(share: float) -> None:
    def make(o: Any) -> Any:
        # Its final share of the highest rate is 1 / (25 x final_div_factor).
        return [lr_scheduler.OneCycleLR(o, 0.02, 40, pct_start=share, final_div_factor=4, cycle_momentum=False)]

    ours = rates(10, 4, schedule="one-cycle", warmup=share, final_lr_share=0.01)
    assert ours == pytest.approx(stepped(make, 40), rel=1e-9)


def test_one_cycle_without_a_rise_begins_at_the_top() -> None:
    assert rates(5, 2, schedule="one-cycle")[0] == 0.02
    assert rates(1, 1, schedule="one-cycle") == [0.02]


def test_one_cycle_may_rise_to_the_end() -> None:
    ours = rates(5, 2, schedule="one-cycle", warmup=1.0)
    assert [ours[0], ours[-1]] == pytest.approx([0.02 / 25, 0.02])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_first_and_never_again(schedule: str) -> None:
    ours = rates(10, 4, schedule=schedule, warmup=0.2)
    assert ours[:8] == sorted(set(ours[:8]))
    assert max(ours) == pytest.approx(0.02)
    assert min(ours) >= 0
    assert ours[8:] == sorted(ours[8:], reverse=True)


def test_costs_point_downwards() -> None:
    figures = {"cross_entropy": 1.5, "accuracy": 0.25, "f1_macro": 0.5}
    assert [cost(name, figures) for name in figures] == [1.5, -0.25, -0.5]


def test_stale_epochs_count_from_the_last_real_improvement() -> None:
    costs = [3.0, 2.0, 1.95, 1.9, 1.85, 2.5]
    assert list(stale(costs, 0.0)) == [0, 0, 0, 0, 0, 1]
    # Against the lowest that counted: 1.9 is not more than 0.1 below 2.0, and 1.85 is.
    assert list(stale(costs, 0.1)) == [0, 0, 1, 2, 0, 1]


def test_patience_is_the_number_of_epochs_borne() -> None:
    costs = [2.0, 1.0, 1.0, 1.5]
    assert exhausted(costs, 2, 0.0)
    assert not exhausted(costs, 3, 0.0)
    assert not exhausted(costs[:3], 2, 0.0)
    assert exhausted(costs[:2], 1, 1.0)
    assert not exhausted([1.0] * 50, 0, 0.0)
    assert plateaus(costs, 2, 0.0) == 0
    assert plateaus(costs, 1, 0.0) == 1
