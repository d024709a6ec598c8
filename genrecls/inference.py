"""From weights to probabilities: fragments on a grid, their logits in fp32, means by clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls import metrics, weights
from genrecls.distributed import ALONE, Ranks
from genrecls.errors import GenreclsError, Untrainable
from genrecls.fragments import Fragments, Places, Stretch, as_inputs, grid, places
from genrecls.metrics import Figures
from genrecls.models.building import Model, build
from genrecls.models.shapes import InputShape
from genrecls.run import Run
from genrecls.tables import csv_text

M = TypeVar("M", bound=torch.nn.Module)

BATCH = {"cpu": 16, "cuda": 256}
"""Fragments at a time, by device. Fixed, because another size may change fp32 bits."""


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
        rows: list[list[object]] = [["clip", "genre", "predicted", "fragments", *self.genres]]
        counts = np.bincount(self.owner, minlength=len(self.clips))
        for clip, genre, count, row in zip(self.clips, self.genre, counts, self.by_clip, strict=True):
            predicted = self.genres[int(row.argmax())]
            rows.append([clip, self.genres[genre], predicted, int(count), *(repr(float(p)) for p in row)])
        return csv_text(rows)


def placed(model: M, device: torch.device) -> M:
    """The model on its device, its kernels laid out channels-last, in which convolutions are fastest."""
    return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def trained_model(found: Run, device: torch.device) -> Model:
    """The best weights of a run. Raises GenreclsError where it was not trained to an end."""
    if not found.finished:
        raise GenreclsError(f"The run {found.path} was not trained to an end: run its `genrecls train` again first.")
    if found.record["best_epoch"] is None:
        raise GenreclsError(f"The run {found.path} has only initial weights: train one with more than 0 --epochs.")
    config = found.config
    model = build(config.model, InputShape.of(config, len(found.record["genres"])))
    try:
        model.load_state_dict(weights.read_best(found))
    except RuntimeError as error:  # all that PyTorch raises for tensors of other names or shapes
        raise GenreclsError(
            f"The weights of the run {found.path} are not those of the model that its config.toml and run.json "
            "describe: undo the change to these files, or remove the folder and train the run again."
        ) from error
    return placed(model, device)


def predict_subset(
    model: torch.nn.Module,
    fragments: Fragments,
    stretches: Sequence[Stretch],
    genres: tuple[str, ...],
    ranks: Ranks = ALONE,
) -> Predictions:
    """Predict every fragment of the stretches. ranks: the processes that share the work; all get the same.

    Raises Untrainable as `fragment_logits` does.
    """
    ordered = sorted(stretches, key=lambda stretch: (stretch.clip, stretch.first, stretch.first_sample))
    clips = tuple(sorted({stretch.clip for stretch in ordered}))
    position = {clip: i for i, clip in enumerate(clips)}
    genre = np.zeros(len(clips), dtype=np.int64)
    genre[[position[s.clip] for s in ordered]] = [s.genre for s in ordered]
    config = fragments.config
    starts = [grid(s.frames, config.frames, config.batches.overlap) for s in ordered]
    which = np.repeat(np.arange(len(ordered)), [len(s) for s in starts])
    logits = fragment_logits(model, fragments, places(ordered, which, np.concatenate(starts)), ranks)
    owner = np.array([position[s.clip] for s in ordered])[which]
    return Predictions(clips, genres, genre, metrics.softmax(logits), owner)


@torch.inference_mode()
def fragment_logits(
    model: torch.nn.Module, fragments: Fragments, where: Places, ranks: Ranks = ALONE
) -> NDArray[np.float32]:
    """Logits (fragments, genres) in fp32. Raises Untrainable where one is no finite number, which answers nothing.

    Several processes take whole batches in turn, so that a batch is the same with any number of them.

    The last batch is filled up with fragments whose logits are dropped, so that a fragment's logits do not
    depend on how many others there are: a file is predicted as it was evaluated, to the bit. Where a dense layer sums
    over thousands of inputs, though, the last bits depend on a fragment's row in the batch.
    """
    was_training = model.training
    model.eval()
    size, count = BATCH[fragments.device.type], len(where.start)
    filled = np.arange(-(-count // size) * size) % count
    batches = len(filled) // size
    made = [
        model(*as_inputs(fragments.seen(stored))).float()
        for stored in fragments.fetched(
            where[filled[at * size : (at + 1) * size]] for at in range(ranks.rank, batches, ranks.size)
        )
    ]
    model.train(was_training)
    logits: NDArray[np.float32] = torch.cat(ranks.collected(made, batches))[:count].cpu().numpy()
    if wrong := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise Untrainable(
            f"The model's answers to {wrong} of {count} fragments are no finite numbers: train it with a lower "
            "learning rate (--lr)."
        )
    return logits
