"""The course of the learning rate: a function of the settings, the step and the validation costs so far."""

import math
from collections.abc import Sequence

from genrecls.config import OptimiserSettings
from genrecls.selection import plateaus

ONE_CYCLE_START = 1 / 25
"""Share of the highest rate at which one-cycle begins: the `div_factor` of torch's OneCycleLR."""


def learning_rates(
    settings: OptimiserSettings, epoch: int, epochs: int, steps: int, costs: Sequence[float]
) -> list[float]:
    """The rate of each step of an epoch.

    epoch: from 0, of `epochs`. steps: of one epoch. costs: validation costs (`selection.cost`) of the epochs before.

    The rate rises from 0 in the warm-up, whatever the schedule (one-cycle has a rise of its own), and then:
    constant stays; cosine and linear fall to `final_lr_share`, which they would reach one step after the last; step
    is multiplied by `step_gamma` every `step_epochs` epochs; plateau by `plateau_factor` when more than
    `plateau_patience` epochs did not lower the cost by more than `plateau_threshold`, as ReduceLROnPlateau does it
    with an absolute threshold and no lower bound; step-plateau by both. The last three count from the first epoch.
    one-cycle (Smith and Topin 2018, in the form of OneCycleLR, without its cycle of momentum): a cosine up from
    1/25 over the share `warmup` of the steps, then a cosine down to `final_lr_share` at the last step.
    """
    factor = 1.0
    if settings.schedule in ("step", "step-plateau"):
        factor *= settings.step_gamma ** (epoch // settings.step_epochs)
    if settings.schedule in ("plateau", "step-plateau"):
        factor *= settings.plateau_factor ** plateaus(costs, settings.plateau_patience, settings.plateau_threshold)
    course = _one_cycle if settings.schedule == "one-cycle" else _after_warmup
    return [factor * course(settings, epoch * steps + i, epochs * steps) for i in range(steps)]


def _after_warmup(settings: OptimiserSettings, step: int, steps: int) -> float:
    rising = round(settings.warmup * steps)
    if step < rising:
        return settings.lr * (step + 1) / rising
    fallen, falling, low = step - rising, max(1, steps - rising), settings.final_lr_share
    if settings.schedule == "cosine":
        return settings.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * fallen / falling)))
    if settings.schedule == "linear":
        return settings.lr * (1 - (1 - low) * fallen / falling)
    return settings.lr


def _one_cycle(settings: OptimiserSettings, step: int, steps: int) -> float:
    peak = max(0.0, settings.warmup * steps - 1)
    if step <= peak:
        start, way = ONE_CYCLE_START, step / peak if peak else 1.0
    else:
        start, way = settings.final_lr_share, (steps - 1 - step) / (steps - 1 - peak)
    return settings.lr * (start + (1 - start) * 0.5 * (1 - math.cos(math.pi * way)))
