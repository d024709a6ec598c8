"""The training loss against torch and scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from genrecls import config
from genrecls.batches import Batch
from genrecls.loss import Loss, balanced
from genrecls.models.registry import settings_class

CLIPS = [0] * 8 + [1] * 3 + [2] * 1
GENRE, PARTNER = torch.tensor([0, 1, 2, 0, 0, 2]), torch.tensor([2, 0, 2, 1, 0, 1])
LOGITS = torch.linspace(-2, 3, 18).reshape(6, 3).sin() * 3


def loss(logits: torch.Tensor, share: torch.Tensor, mixup: float, smoothing: float, **training: Any) -> torch.Tensor:
    sections = {"augment": {"mixup": mixup}, "training": {"label_smoothing": smoothing, **training}}
    made = Loss(config.read(sections, settings_class), CLIPS, 3, torch.device("cpu"))
    return made(logits, Batch((torch.zeros(6, 1, 1, 1),), GENRE, PARTNER, share))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=np.array(CLIPS))
    assert balanced(CLIPS, 3).tolist() == pytest.approx(theirs.tolist())
    assert balanced(CLIPS, 3).tolist() == pytest.approx([12 / (3 * 8), 12 / (3 * 3), 12 / 3])


def test_a_genre_without_a_clip_weighs_nothing() -> None:
    assert balanced([0, 0, 2], 3).tolist() == [0.75, 0.0, 1.5]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_plain_loss_is_torchs(smoothing: float) -> None:
    ones = torch.ones(6)
    torch.testing.assert_close(
        loss(LOGITS, ones, 0.0, smoothing), cross_entropy(LOGITS, GENRE, label_smoothing=smoothing)
    )
    weighted = loss(LOGITS, ones, 0.0, smoothing, class_weights="balanced")
    theirs = cross_entropy(LOGITS, GENRE, weight=balanced(CLIPS, 3), label_smoothing=smoothing)
    torch.testing.assert_close(weighted, theirs)
    assert abs(weighted - loss(LOGITS, ones, 0.0, smoothing)) > 0.01


def test_without_class_weights_it_is_two_means_to_the_bit() -> None:
    share = torch.tensor([1.0, 0.9, 0.5, 0.7, 0.6, 0.8])
    own, others = (cross_entropy(LOGITS, y, label_smoothing=0.1, reduction="none") for y in (GENRE, PARTNER))
    assert loss(LOGITS, share, 0.0, 0.1) == (own * share).mean()
    assert loss(LOGITS, share, 0.2, 0.1) == (own * share).mean() + (others * (1 - share)).mean()


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_mean_over_parts_is_the_loss_of_the_batch(weights: str) -> None:
    share = torch.tensor([1.0, 0.9, 0.5, 0.7, 0.6, 0.8])
    sections = {"augment": {"mixup": 0.2}, "training": {"class_weights": weights}}
    made = Loss(config.read(sections, settings_class), CLIPS, 3, torch.device("cpu"))
    parts = [
        made(LOGITS[part], Batch((torch.zeros(2, 1, 1, 1),), GENRE, PARTNER, share, part))
        for part in (slice(0, 2), slice(2, 4), slice(4, 6))
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), loss(LOGITS, share, 0.2, 0.1, class_weights=weights))


def test_with_mixup_both_labels_have_their_share() -> None:
    share = torch.tensor([1.0, 0.9, 0.5, 0.7, 0.6, 0.8])
    soft = torch.zeros(6, 3)
    soft[torch.arange(6), GENRE] += share
    soft[torch.arange(6), PARTNER] += 1 - share
    torch.testing.assert_close(loss(LOGITS, share, 0.2, 0.0), cross_entropy(LOGITS, soft))
    # torch divides by the number of crops where labels are shares; here it is by their weights, as with plain labels.
    weights = balanced(CLIPS, 3)
    expected = cross_entropy(LOGITS, soft, weight=weights, reduction="sum") / (soft * weights).sum()
    torch.testing.assert_close(loss(LOGITS, share, 0.2, 0.0, class_weights="balanced"), expected)
