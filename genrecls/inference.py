"""From weights to probabilities: fragments on a grid, their logits in fp32, means by clip."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls import metrics
from genrecls.batches import Frames, Stretch, grid
from genrecls.metrics import Figures

BATCH = 64
"""Fragments at a time. Fixed, because another size may change fp32 bits."""


@dataclass(frozen=True)
class Predictions:
    """Probabilities of a subset.

    clips: ids, sorted. genres: labels in the order of the columns. genre: int64 (clips,), the true label.
    fragments: float64 (fragments, genres), in the order of clips. owner: int64 (fragments,), position of the
    fragment's clip.
    """

    clips: tuple[str, ...]
    genres: tuple[str, ...]
    genre: NDArray[np.int64]
    fragments: NDArray[np.float64]
    owner: NDArray[np.int64]

    @property
    def by_clip(self) -> NDArray[np.float64]:
        """Mean probabilities, float64 (clips, genres)."""
        return metrics.mean_by_clip(self.fragments, self.owner, len(self.clips))

    @property
    def clip_figures(self) -> Figures:
        """Figures over clips."""
        return metrics.figures(self.by_clip, self.genre, np.arange(len(self.clips)), self.genres)

    @property
    def fragment_figures(self) -> Figures:
        """Figures over fragments."""
        return metrics.figures(self.fragments, self.genre[self.owner], self.owner, self.genres)

    def csv(self) -> str:
        """A line a clip: id, true and predicted genre, fragments, and the probability of each genre.

        Numbers are in the shortest form that reads back as the same float64.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["clip", "genre", "predicted", "fragments", *self.genres])
        counts = np.bincount(self.owner, minlength=len(self.clips))
        for clip, genre, count, row in zip(self.clips, self.genre, counts, self.by_clip, strict=True):
            predicted = self.genres[int(row.argmax())]
            writer.writerow([clip, self.genres[genre], predicted, int(count), *(repr(float(p)) for p in row)])
        return text.getvalue()


def predict_subset(
    model: torch.nn.Module, frames: Frames, stretches: Sequence[Stretch], genres: tuple[str, ...], fragment: int
) -> Predictions:
    """Predict every fragment of the stretches. fragment: its length in frames."""
    ordered = sorted(stretches, key=lambda stretch: (stretch.clip, stretch.first))
    clips = tuple(sorted({stretch.clip for stretch in ordered}))
    position = {clip: i for i, clip in enumerate(clips)}
    genre = np.zeros(len(clips), dtype=np.int64)
    genre[[position[s.clip] for s in ordered]] = [s.genre for s in ordered]
    starts = [grid(s.frames, fragment) for s in ordered]
    times = [len(s) for s in starts]
    logits = fragment_logits(
        model,
        frames,
        np.repeat([s.first for s in ordered], times),
        np.repeat([s.frames for s in ordered], times),
        np.concatenate(starts),
        fragment,
    )
    owner = np.repeat([position[s.clip] for s in ordered], times)
    return Predictions(clips, genres, genre, metrics.softmax(logits), owner)


@torch.inference_mode()
def fragment_logits(
    model: torch.nn.Module,
    frames: Frames,
    first: NDArray[np.int64],
    length: NDArray[np.int64],
    start: NDArray[np.int64],
    fragment: int,
) -> NDArray[np.float32]:
    """Logits (fragments, genres) in fp32. first, length, start: as in `Frames.fragments`."""
    was_training = model.training
    model.eval()
    made = []
    for at in range(0, len(start), BATCH):
        part = slice(at, at + BATCH)
        features = frames.fragments(first[part], length[part], start[part], fragment)[:, None]
        made.append(model(features.to(memory_format=torch.channels_last)))
    model.train(was_training)
    return torch.cat(made).float().cpu().numpy()
