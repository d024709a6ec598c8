"""The loss of a training step: cross-entropy with label smoothing, mixup and class weights."""

from collections.abc import Iterable

import numpy as np
import torch

from genrecls.batches import Batch
from genrecls.config import Config


def balanced(genre: Iterable[int], genres: int) -> torch.Tensor:
    """Weight of each genre, float32 (genres,): clips / (genres x clips of the genre), scikit-learn's "balanced".

    genre: label of each training clip, from 0. A genre without a clip weighs 0 and is not among those counted.
    """
    clips = np.bincount(np.fromiter(genre, dtype=np.int64), minlength=genres)
    present = clips > 0
    weights = np.zeros(genres)
    weights[present] = clips.sum() / (present.sum() * clips[present])
    return torch.from_numpy(weights.astype(np.float32))


class Loss:
    """The mean cross-entropy of a batch, in nats.

    Of a crop with the share s and the genre y, of which mixup added 1 - s of another crop with the genre z, it is
    s l(y) + (1 - s) l(z), where l is cross-entropy with label smoothing. With class weights w the mean is weighted:
    the sum of s w(y) l(y) + (1 - s) w(z) l(z) over the batch, divided by that of s w(y) + (1 - s) w(z). Without mixup
    that is `torch.nn.functional.cross_entropy(weight=w)`, which also weighs the smoothed part of l by genre.

    Where several processes have a part of the batch each, the mean of what they get is the loss of the batch.
    """

    def __init__(self, config: Config, training_clips: Iterable[int], genres: int, device: torch.device) -> None:
        """training_clips: genre of each, from 0."""
        self._smoothing = config.training.label_smoothing
        self._mixup = config.augment.mixup > 0
        weighted = config.training.class_weights == "balanced"
        self._class_weights = balanced(training_clips, genres).to(device) if weighted else None

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """logits: float32 (crops of the batch's part, genres). Returns a scalar."""
        labels = [(batch.genre, batch.weight)]
        if self._mixup:
            labels.append((batch.partner_genre, 1 - batch.weight))
        parts = [self._each(logits, genre[batch.part]) * share[batch.part] for genre, share in labels]
        if self._class_weights is None:
            return torch.stack([part.mean() for part in parts]).sum()
        weight = [self._class_weights[genre] * share for genre, share in labels]
        processes = len(batch.genre) // len(logits)
        return torch.stack(parts).sum() * processes / torch.stack(weight).sum()

    def _each(self, logits: torch.Tensor, genre: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            logits, genre, weight=self._class_weights, label_smoothing=self._smoothing, reduction="none"
        )
