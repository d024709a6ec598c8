"""What a training step sees: random crops of the training clips, augmented.

Which crops an epoch has, in which order, is drawn by (seed, stream, epoch, clip, crop number): `EpochPlan`.
"""

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls import augment
from genrecls.config import LOG_POWER, Config, Input
from genrecls.errors import Untrainable
from genrecls.fragments import Fragments, Places, Stored, Stretch, as_inputs, laid_out, places
from genrecls.seeding import name_keys, uniform


@dataclass(frozen=True)
class EpochPlan:
    """All crops of an epoch in their order. Arrays are (crops,) long.

    clip: position of the clip among the training clips. genre: number of its label. places: where the crops lie.
    partner: which crop of the plan mixup adds, weight: how much of the crop itself remains.
    masks, tone: draws for `augment.mask` and `augment.equalise`. altered: for `augment.wave_amounts` and
    `augment.feature_amounts`, of what is switched on. sha256: hash of every stream's draws, by stream.
    """

    clip: NDArray[np.int64]
    genre: NDArray[np.int64]
    places: Places
    partner: NDArray[np.int64]
    weight: NDArray[np.float64]
    masks: dict[str, NDArray[np.float64]]
    tone: NDArray[np.float64]
    altered: dict[str, NDArray[np.float64]]
    sha256: dict[str, str]


def steps_of_epoch(clips: int, config: Config) -> int:
    """Whole batches in an epoch over this many training clips. Raises Untrainable where there is none."""
    crops = clips * config.batches.crops_per_clip
    if crops < config.batches.batch_size:
        raise Untrainable(
            f"An epoch has {crops} crops ({clips} training clips x {config.batches.crops_per_clip}), too few for one "
            f"batch of {config.batches.batch_size}: choose a smaller --batch-size, or more --crops-per-clip."
        )
    return crops // config.batches.batch_size


def crop_draws(seed: int, stream: str, epoch: int, keys: NDArray[np.uint64], per_clip: int) -> NDArray[np.float64]:
    """What a stream draws for an epoch: float64 (clips * per_clip,) in [0, 1), clip by clip.

    keys: uint64 (clips,), `name_keys` of the training clips in the order of their ids.
    """
    return uniform(seed, stream, epoch, keys[:, None], np.arange(per_clip)).ravel()


def draws_sha256(values: NDArray[np.float64]) -> str:
    """What `draws.jsonl` holds of a stream's draws."""
    return hashlib.sha256(values.tobytes()).hexdigest()


class TrainingCrops:
    """The crops that epochs are made of: `crops_per_clip` of every training clip.

    A clip's crop starts anywhere in its training stretches where a whole crop fits, each place as likely as
    any other (one place where none fits). Of a clip with variants the crop is taken from the clip itself or from any of
    them, each as likely, as far from its begin as its length demands.
    variants: as `stretches_of_variants` gives them, where every clip is one stretch.
    Raises GenreclsError where an epoch would not fill one batch.
    """

    def __init__(self, stretches: Sequence[Stretch], config: Config, variants: Sequence[Stretch] = ()) -> None:
        self._config = config
        clips = sorted({stretch.clip for stretch in stretches})
        position = {clip: i for i, clip in enumerate(clips)}
        ordered = sorted(stretches, key=lambda stretch: (stretch.clip, stretch.first))
        owner = np.array([position[stretch.clip] for stretch in ordered])
        self.keys = name_keys(clips)
        self._genre = np.zeros(len(clips), dtype=np.int64)
        self._genre[owner] = [stretch.genre for stretch in ordered]
        self._variants = len(variants) // len(clips)
        self._stretches = [*ordered, *sorted(variants, key=lambda stretch: (stretch.variant, stretch.clip))]
        starts = np.maximum(np.array([stretch.frames for stretch in ordered]) - config.frames, 0) + 1
        self._starts_of_clip = np.bincount(owner, weights=starts).astype(np.int64)
        self._end_of_stretch = np.cumsum(starts)
        self._begin_of_clip = np.cumsum(self._starts_of_clip) - self._starts_of_clip
        self.crops = len(clips) * config.batches.crops_per_clip
        self.steps = steps_of_epoch(len(clips), config)

    def plan(self, epoch: int) -> EpochPlan:
        """The crops of an epoch, from 0."""
        config, per_clip = self._config, self._config.batches.crops_per_clip
        clip = np.repeat(np.arange(len(self.keys)), per_clip)
        hashes: dict[str, str] = {}

        def draw(stream: str) -> NDArray[np.float64]:
            values = crop_draws(config.training.seed, stream, epoch, self.keys, per_clip)
            hashes[stream] = draws_sha256(values)
            return values

        order = np.argsort(draw("order"), kind="stable")
        u = draw("crop")
        flat = self._begin_of_clip[clip] + np.floor(u * self._starts_of_clip[clip]).astype(np.int64)
        stretch = np.searchsorted(self._end_of_stretch, flat, side="right")
        start = flat - np.concatenate([[0], self._end_of_stretch])[stretch]
        if self._variants:
            variant = np.floor(draw("augment.variant") * (self._variants + 1)).astype(np.int64)
            stretch = variant * len(self.keys) + clip
            frames = np.array([each.frames for each in self._stretches])[stretch]
            start = np.floor(u * (np.maximum(frames - config.frames, 0) + 1)).astype(np.int64)
        masks = augment.mask_draws(config.augment, draw)
        tone = augment.equaliser_draws(draw)
        altered: dict[str, NDArray[np.float64]] = {}
        if "wave" in config.model.inputs:
            altered |= augment.wave_draws(config.augment, draw)
        if "feature" in config.model.inputs:
            altered |= augment.feature_draws(config.augment, draw)
        partner = np.floor(draw("augment.mixup.partner") * self.crops).astype(np.int64)
        share = draw("augment.mixup.weight")
        weight = augment.mixup_weights(share, config.augment.mixup) if config.augment.mixup else np.ones(self.crops)
        rank = np.empty_like(order)
        rank[order] = np.arange(self.crops)
        return EpochPlan(
            clip=clip[order],
            genre=self._genre[clip][order],
            places=places(self._stretches, stretch[order], start[order]),
            partner=rank[partner][order],
            weight=weight[order],
            masks={name: values[order] for name, values in masks.items()},
            tone=tone[order],
            altered={name: values[order] for name, values in altered.items()},
            sha256=hashes,
        )


EVERY = slice(None)


@dataclass(frozen=True)
class Batch:
    """inputs: what the model takes. genre, partner_genre: int64 (batch,). weight: float32 (batch,).

    part: which crops the inputs are of, where several processes share the batch; the others are of the whole batch.
    """

    inputs: tuple[torch.Tensor, ...]
    genre: torch.Tensor
    partner_genre: torch.Tensor
    weight: torch.Tensor
    part: slice = field(default_factory=lambda: EVERY)


def training_batches(
    fragments: Fragments, plan: EpochPlan, steps: range, part: slice = EVERY
) -> Generator[Batch, None, None]:
    """The augmented batches of these steps of an epoch, or the part of each that is this process's."""
    size, mixed = fragments.config.batches.batch_size, bool(fragments.config.augment.mixup)
    batches = [np.arange(step * size, (step + 1) * size) for step in steps]
    crops = (np.concatenate([each[part], plan.partner[each[part]]]) if mixed else each[part] for each in batches)
    for whole, stored in zip(batches, fragments.fetched(plan.places[at] for at in crops), strict=True):
        yield _batch(fragments, plan, whole, part, stored)


def _batch(fragments: Fragments, plan: EpochPlan, whole: NDArray[np.int64], part: slice, stored: Stored) -> Batch:
    """whole: numbers of its crops in the plan. stored: of the part's crops, and then of their partners, if any."""
    config, at = fragments.config, whole[part]
    partner = plan.partner[whole]
    taken = fragments.normalised({kind: rows[: len(at)] for kind, rows in stored.items()})
    weight = torch.from_numpy(plan.weight[whole].astype(np.float32)).to(fragments.device)
    if config.augment.mixup:
        others = fragments.normalised({kind: rows[len(at) :] for kind, rows in stored.items()})
        taken = {kind: augment.mixup(values, others[kind], weight[part]) for kind, values in taken.items()}
    drawn = {name: values[at] for name, values in {**plan.masks, **plan.altered}.items()}
    deviation = fragments.scales["feature"].deviation if "feature" in taken else None
    taken = augmented(laid_out(taken), plan.tone[at], drawn, config, deviation)
    return Batch(
        inputs=as_inputs(taken),
        genre=torch.from_numpy(plan.genre[whole]).to(fragments.device),
        partner_genre=torch.from_numpy(plan.genre[partner]).to(fragments.device),
        weight=weight,
        part=part,
    )


def augmented(
    taken: dict[Input, torch.Tensor],
    tone: NDArray[np.float64],
    drawn: augment.Draws,
    config: Config,
    deviation: torch.Tensor | None,
) -> dict[Input, torch.Tensor]:
    """Crops as `Fragments.at` gives them, with all that is done to each by itself.

    tone: as `augment.equaliser_draws`. drawn: all other draws, by name. deviation: what the bins of the feature were
    divided by, None without a feature.
    """
    made, settings = dict(taken), config.augment
    if "wave" in made:
        amounts = augment.wave_amounts(drawn, settings, made["wave"].shape[1])
        fade = round(settings.wave_mask_fade * config.features.sample_rate)
        made["wave"] = augment.alter_wave(made["wave"], amounts, fade)
    if deviation is not None:
        feature = made["feature"]
        if settings.equaliser_db and LOG_POWER.holds(config):
            feature = augment.equalise(feature, tone, settings.equaliser_db, deviation)
        feature = augment.alter_feature(feature, augment.feature_amounts(drawn, settings, feature.shape[2]))
        made["feature"] = augment.mask(feature, drawn, settings, longest_time_mask(config))
    return made


def longest_time_mask(config: Config) -> int:
    """The largest length of a time mask in frames."""
    return config.features.frames(config.augment.time_mask_seconds) if config.augment.time_mask_seconds else 0
