"""Crops lie where they may, fragments cover what they should."""

import numpy as np
import pytest
import torch

from genrecls import config, normalisation
from genrecls.batches import TrainingCrops, training_batches
from genrecls.config import Config
from genrecls.errors import GenreclsError
from genrecls.fragments import Fragments, Stretch
from genrecls.models.registry import settings_class

BINS, FRAGMENT = 4, 43
CPU = torch.device("cpu")


def settings(**batches: object) -> Config:
    sections = {
        "batches": {"fragment": 1.0, "batch_size": 4, "crops_per_clip": 3, **batches},
        "features": {"n_mels": 8},
    }
    return config.read(sections, settings_class)


def flat(frames: int) -> np.ndarray:
    """Each value tells its frame and bin."""
    return (np.arange(frames)[:, None] + np.arange(BINS) / 8).astype(np.float16)


def test_crops_stay_in_their_clip_and_reach_both_ends() -> None:
    stretches = [Stretch("a", 0, 0, 50), Stretch("b", 1, 50, 200), Stretch("short", 2, 250, 20)]
    crops = TrainingCrops(stretches, settings(crops_per_clip=400))
    plan = crops.plan(0)
    starts = {clip: plan.places.start[plan.clip == clip] for clip in range(3)}
    assert (starts[0].min(), starts[0].max()) == (0, 7)
    assert starts[1].min() <= 3
    assert 154 <= starts[1].max() <= 157
    assert set(starts[2]) == {0}
    assert all((plan.genre == plan.clip).tolist())


def test_every_place_of_a_clip_of_several_stretches_is_as_likely() -> None:
    stretches = [Stretch("a", 0, 0, 43), Stretch("a", 0, 100, 43), Stretch("a", 0, 200, 45)]
    plan = TrainingCrops(stretches, settings(crops_per_clip=1000)).plan(0)
    places, counts = np.unique(plan.places.first + plan.places.start, return_counts=True)
    assert places.tolist() == [0, 100, 200, 201, 202]
    assert counts.min() > 150


def test_an_epoch_has_each_crop_once_in_another_order() -> None:
    crops = TrainingCrops([Stretch(f"c{i}", 0, 50 * i, 50) for i in range(10)], settings())
    one, two = crops.plan(0), crops.plan(1)
    assert sorted(one.clip) == sorted(two.clip) == sorted(list(range(10)) * 3)
    assert one.clip.tolist() != two.clip.tolist()
    assert crops.steps == 7


def test_too_few_crops_for_a_batch() -> None:
    with pytest.raises(GenreclsError, match=r"An epoch has 3 crops .* --batch-size"):
        TrainingCrops([Stretch("a", 0, 0, 50)], settings())


def test_corpus_normalisation_is_that_of_all_frames() -> None:
    values = np.random.default_rng(0).normal(3, 2, (500, BINS)).astype(np.float16)
    values[:, 2] = 7
    made = normalisation.corpus([values[:200], values[200:]], BINS)
    np.testing.assert_allclose(made.mean, values.astype(np.float64).mean(axis=0), rtol=1e-6)
    expected = values.astype(np.float64).std(axis=0)
    expected[2] = 1
    np.testing.assert_allclose(made.deviation, expected, rtol=1e-6)
    assert made(torch.from_numpy(values)).dtype == torch.float32


def test_mixup_mixes_features_and_says_how_much() -> None:
    stretches = [Stretch(f"c{i}", i % 2, 50 * i, 50) for i in range(8)]
    given = config.read(
        {
            "batches": {"fragment": 1.0, "batch_size": 8, "crops_per_clip": 1},
            "augment": {"mask_probability": 0.0, "equaliser_db": 0.0, "mixup": 0.5},
        },
        settings_class,
    )
    fragments = Fragments({"feature": flat(400)}, {"feature": normalisation.identity(BINS)}, given, CPU)
    plan = TrainingCrops(stretches, given).plan(0)
    batch = next(training_batches(fragments, plan, range(1)))
    for i in range(8):
        weight, partner = float(plan.weight[i]), plan.partner[i]
        own, other = (plan.places.first[j] + plan.places.start[j] for j in (i, partner))
        assert float(batch.inputs[0][i, 0, 0, 0]) == pytest.approx(weight * own + (1 - weight) * other, abs=0.01)
        assert batch.genre[i] == plan.genre[i]
        assert batch.partner_genre[i] == plan.genre[partner]
    assert 0 <= plan.weight.min() < plan.weight.max() <= 1
