"""Every recipe of the checkout makes a run: it is read, its model built, and a step of training done."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from genrecls import config, normalisation, recipes
from genrecls.batches import TrainingCrops, training_batches
from genrecls.config import Config, Input
from genrecls.datasets.loader import DATASETS
from genrecls.fragments import Fragments, Stretch
from genrecls.loss import Loss
from genrecls.models.building import build
from genrecls.models.dropout import begin_step
from genrecls.models.initialisation import initialise
from genrecls.models.registry import entries, settings_class
from genrecls.models.shapes import InputShape
from genrecls.optimisation import optimiser, update
from genrecls.schedule import learning_rates

FOLDER = Path(__file__).parent.parent / "experiments"
RECIPES = sorted(path for path in FOLDER.rglob("*.toml") if not {"runs", "sweeps"} & set(path.parts))
GENRES = {"gtzan": 10, "synth": 10, "fma-small": 8, "fma-large": 12}
CPU = torch.device("cpu")


def read(path: Path) -> Config:
    return config.read(recipes.load(path, settings_class), settings_class)


def named(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_a_recipe_is_read(path: Path) -> None:
    assert read(path).dataset.name in DATASETS


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in RECIPES if not path.name.startswith("_")], ids=named)
def test_a_step_of_a_recipe_moves_every_parameter(path: Path) -> None:
    settings = read(path)
    settings = replace(settings, batches=replace(settings.batches, batch_size=2, crops_per_clip=1))
    genres = GENRES[settings.dataset.name]
    model = build(settings.model, InputShape.of(settings, genres))
    initialise(model, 0, settings.training.initialisation)
    frames, hop = settings.frames + 5, settings.features.hop_length
    noise = torch.Generator().manual_seed(0)
    arrays: dict[Input, NDArray[Any]] = {
        "feature": torch.randn(2 * frames, settings.features.bins, generator=noise).half().numpy(),
        "wave": (torch.randn(2 * frames * hop, generator=noise) * 3000).short().numpy(),
    }
    stretches = [Stretch(f"clip{i}", i, i * frames, frames, i * frames * hop, frames * hop) for i in range(2)]
    method = settings.batches.normalisation
    scales: dict[Input, normalisation.Normalisation] = {
        "feature": normalisation.identity(settings.features.bins, method),
        "wave": normalisation.identity(1, method),
    }
    fragments = Fragments(arrays, scales, settings, CPU)
    plan = TrainingCrops(stretches, settings).plan(0)
    batch = next(training_batches(fragments, plan, range(1)))
    begin_step(model.train(), 0, 0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    (lr,) = learning_rates(settings.optimiser, 0, 2, 1, [])
    loss = Loss(settings, [0, 1], genres, CPU)(model(*batch.inputs), batch)
    update(optimiser(model, settings.optimiser), settings.optimiser, loss, lr or settings.optimiser.lr)
    assert np.isfinite(float(loss.detach()))
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert len(moved) > 0.9 * len(before)


def test_every_model_has_a_recipe() -> None:
    assert {read(path).model.name for path in RECIPES} == set(entries())
