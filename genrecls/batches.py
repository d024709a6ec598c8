"""Crops and fragments, gathered from one flat array of frames that stays on the device.

Which crops an epoch has, in which order, is drawn by (seed, stream, epoch, clip, crop number): `EpochPlan`.
Evaluation has no draws: `grid` cuts each span into overlapping fragments.
"""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls import augment
from genrecls.cache import Cache
from genrecls.config import Config
from genrecls.datasets.index import Role
from genrecls.errors import GenreclsError
from genrecls.normalisation import Normalisation
from genrecls.seeding import name_keys, uniform
from genrecls.splits import ROLES, Span


@dataclass(frozen=True)
class Stretch:
    """A span as frames of the flat array. clip: its id. genre: number of its label."""

    clip: str
    genre: int
    first: int
    frames: int


def stretches_of(spans: Sequence[Span], cache: Cache, genres: tuple[str, ...]) -> dict[Role, list[Stretch]]:
    """The spans of each role as stretches of the cache's flat array.

    Raises GenreclsError where the cache does not have the frames of a span.
    """
    rows = {row.clip: row for row in cache.rows}
    number = {genre: i for i, genre in enumerate(genres)}
    made: dict[Role, list[Stretch]] = {role: [] for role in ROLES}
    for span in spans:
        row = rows.get(span.clip)
        if row is None or span.first_frame < 0 or not 0 < span.frames <= row.frames - span.first_frame:
            raise GenreclsError(
                f"The split has frames of the clip {span.clip!r} that the cache {cache.path} does not have: one of the "
                "two is damaged, so run `genrecls preprocess --verify`, or train again."
            )
        made[span.role].append(Stretch(span.clip, number[row.genre], row.first_frame + span.first_frame, span.frames))
    return made


class Frames:
    """The flat array (total frames, bins) and how fragments are taken from it.

    Where it fits into the memory of the device it lies there, and a batch is one gather. Otherwise it stays
    memory-mapped on the CPU and each batch is gathered there and sent.
    """

    def __init__(self, flat: NDArray[np.float16], normalisation: Normalisation, device: torch.device) -> None:
        self.device = device
        self._normalisation = normalisation.to(device)
        resident = flat.nbytes <= _free_memory(device)
        # A copy of the read-only memory map, which torch cannot tell from one it may write to.
        self._flat = torch.from_numpy(np.array(flat)).to(device) if resident else _mapped(flat)

    @property
    def deviation(self) -> torch.Tensor:
        """What each bin's values were divided by, (bins,)."""
        return self._normalisation.deviation

    def fragments(
        self, first: NDArray[np.int64], frames: NDArray[np.int64], start: NDArray[np.int64], length: int
    ) -> torch.Tensor:
        """Normalised fragments, float32 (batch, bins, length).

        first, frames: the stretch each is taken from. start: where in it, int64 (batch,). A stretch shorter
        than `length` repeats cyclically.
        """
        at = first[:, None] + (start[:, None] + np.arange(length)) % frames[:, None]
        rows = torch.from_numpy(at.reshape(-1)).to(self._flat.device)
        taken = self._flat.index_select(0, rows).to(self.device).reshape(len(first), length, -1)
        return self._normalisation(taken).transpose(1, 2).contiguous()


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * 0.6)
    return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.6)


def _mapped(flat: NDArray[np.float16]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(flat)


def grid(frames: int, fragment: int) -> NDArray[np.int64]:
    """First frames of the fragments that cover a stretch: half a fragment apart, the last flush with the end."""
    last = max(frames - fragment, 0)
    starts = np.arange(0, last + 1, max(1, fragment // 2), dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


@dataclass(frozen=True)
class EpochPlan:
    """All crops of an epoch in their order. Arrays are (crops,) long.

    clip: position of the clip among the training clips. genre, first, frames, start: as in `Frames.fragments`.
    partner: which crop of the plan mixup adds, weight: how much of the crop itself remains.
    masks, tone: draws for `augment.mask` and `augment.equalise`. sha256: hash of every stream's draws, by stream.
    """

    clip: NDArray[np.int64]
    genre: NDArray[np.int64]
    first: NDArray[np.int64]
    frames: NDArray[np.int64]
    start: NDArray[np.int64]
    partner: NDArray[np.int64]
    weight: NDArray[np.float64]
    masks: dict[str, NDArray[np.float64]]
    tone: NDArray[np.float64]
    sha256: dict[str, str]


def steps_of_epoch(clips: int, config: Config) -> int:
    """Whole batches in an epoch over this many training clips. Raises GenreclsError where there is none."""
    crops = clips * config.batches.crops_per_clip
    if crops < config.batches.batch_size:
        raise GenreclsError(
            f"An epoch has {crops} crops ({clips} training clips x {config.batches.crops_per_clip}), too few for one "
            f"batch of {config.batches.batch_size}: choose a smaller --batch-size, or more --crops-per-clip."
        )
    return crops // config.batches.batch_size


class TrainingCrops:
    """The crops that epochs are made of: `crops_per_clip` of every training clip.

    A clip's crop starts anywhere in its training stretches where a whole crop fits, each place as likely as
    any other (one place where none fits).
    Raises GenreclsError where an epoch would not fill one batch.
    """

    def __init__(self, stretches: Sequence[Stretch], config: Config) -> None:
        self._config = config
        clips = sorted({stretch.clip for stretch in stretches})
        position = {clip: i for i, clip in enumerate(clips)}
        ordered = sorted(stretches, key=lambda stretch: (stretch.clip, stretch.first))
        owner = np.array([position[stretch.clip] for stretch in ordered])
        self.keys = name_keys(clips)
        self._genre = np.zeros(len(clips), dtype=np.int64)
        self._genre[owner] = [stretch.genre for stretch in ordered]
        self._first = np.array([stretch.first for stretch in ordered], dtype=np.int64)
        self._frames = np.array([stretch.frames for stretch in ordered], dtype=np.int64)
        places = np.maximum(self._frames - config.frames, 0) + 1
        self._places_of_clip = np.bincount(owner, weights=places).astype(np.int64)
        self._end_of_stretch = np.cumsum(places)
        self._begin_of_clip = np.cumsum(self._places_of_clip) - self._places_of_clip
        self.crops = len(clips) * config.batches.crops_per_clip
        self.steps = steps_of_epoch(len(clips), config)

    def plan(self, epoch: int) -> EpochPlan:
        """The crops of an epoch, from 0."""
        config, per_clip = self._config, self._config.batches.crops_per_clip
        clip = np.repeat(np.arange(len(self.keys)), per_clip)
        crop = np.tile(np.arange(per_clip), len(self.keys))
        hashes: dict[str, str] = {}

        def draw(stream: str) -> NDArray[np.float64]:
            values = uniform(config.training.seed, stream, epoch, self.keys[clip], crop)
            hashes[stream] = hashlib.sha256(values.tobytes()).hexdigest()
            return values

        order = np.argsort(draw("order"), kind="stable")
        place = np.floor(draw("crop") * self._places_of_clip[clip]).astype(np.int64)
        flat = self._begin_of_clip[clip] + place
        stretch = np.searchsorted(self._end_of_stretch, flat, side="right")
        before = np.concatenate([[0], self._end_of_stretch])[stretch]
        masks = augment.mask_draws(config.augment, draw)
        tone = augment.equaliser_draws(draw)
        partner = np.floor(draw("augment.mixup.partner") * self.crops).astype(np.int64)
        share = draw("augment.mixup.weight")
        weight = augment.mixup_weights(share, config.augment.mixup) if config.augment.mixup else np.ones(self.crops)
        rank = np.empty_like(order)
        rank[order] = np.arange(self.crops)
        return EpochPlan(
            clip=clip[order],
            genre=self._genre[clip][order],
            first=self._first[stretch][order],
            frames=self._frames[stretch][order],
            start=(flat - before)[order],
            partner=rank[partner][order],
            weight=weight[order],
            masks={name: values[order] for name, values in masks.items()},
            tone=tone[order],
            sha256=hashes,
        )


@dataclass(frozen=True)
class Batch:
    """features: float32 (batch, 1, bins, frames). genre, partner_genre: int64 (batch,). weight: float32 (batch,)."""

    features: torch.Tensor
    genre: torch.Tensor
    partner_genre: torch.Tensor
    weight: torch.Tensor


def training_batch(frames: Frames, plan: EpochPlan, step: int, config: Config) -> Batch:
    """The augmented batch of a step, from 0."""
    size = config.batches.batch_size
    at = np.arange(step * size, (step + 1) * size)
    features = frames.fragments(plan.first[at], plan.frames[at], plan.start[at], config.frames)
    partner = plan.partner[at]
    weight = torch.from_numpy(plan.weight[at].astype(np.float32)).to(frames.device)
    if config.augment.mixup:
        others = frames.fragments(plan.first[partner], plan.frames[partner], plan.start[partner], config.frames)
        features = augment.mixup(features, others, weight)
    if config.augment.equaliser_db:
        features = augment.equalise(features, plan.tone[at], config.augment.equaliser_db, frames.deviation)
    masks = {name: values[at] for name, values in plan.masks.items()}
    longest = config.features.frames(config.augment.time_mask_seconds) if config.augment.time_mask_seconds else 0
    features = augment.mask(features, masks, config.augment, longest)
    return Batch(
        features=features[:, None],
        genre=torch.from_numpy(plan.genre[at]).to(frames.device),
        partner_genre=torch.from_numpy(plan.genre[partner]).to(frames.device),
        weight=weight,
    )
