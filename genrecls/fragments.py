"""Fragments, gathered from flat arrays that stay on the device: the samples, the rows of a 2-D feature, or both.

Places are counted in frames, whatever a model takes: of the waveform it gets the samples under its frames.
"""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from genrecls.cache import Cache
from genrecls.cachefiles import Row
from genrecls.compute import free_memory
from genrecls.config import Config, Input
from genrecls.datasets.index import Corpus, Role
from genrecls.errors import GenreclsError
from genrecls.features import Spectral, restored
from genrecls.normalisation import Normalisation
from genrecls.splits import ROLES, Span

Arrays = Mapping[Input, NDArray[np.float16] | NDArray[np.int16]]


@dataclass(frozen=True)
class Stretch:
    """A span of a clip in the flat arrays. clip: its id. genre: number of its label.

    first, frames: of the feature's array. first_sample, samples: of the waveform's. variant: which arrays those are,
    0 for the clips themselves.
    """

    clip: str
    genre: int
    first: int
    frames: int
    first_sample: int = 0
    samples: int = 0
    variant: int = 0


def frames_by_clip(caches: Mapping[Input, Cache], config: Config) -> dict[str, int]:
    """The length in frames of each clip that can be used, by clip id."""
    cache = next(iter(caches.values())) if "feature" not in caches else caches["feature"]
    return {row.clip: _frames(row, config) for row in cache.rows if row.status == "ok"}


def _frames(row: Row, config: Config) -> int:
    features = config.features
    return row.frames or max(row.samples, features.n_fft // 2 + 1) // features.hop_length + 1


def stretches_of(
    spans: Sequence[Span], caches: Mapping[Input, Cache], corpus: Corpus, config: Config
) -> dict[Role, list[Stretch]]:
    """The spans of each role as stretches of the caches' flat arrays, with the labels that the corpus has now.

    (A cache is known by the bytes of its files, so that its index may have been written under other labels.)
    Raises GenreclsError where a cache does not have the frames of a span, or the corpus its clip.
    """
    hop, number = config.features.hop_length, {genre: i for i, genre in enumerate(corpus.genres)}
    label = {clip.id: number[clip.genre] for clip in corpus.clips}
    rows = {kind: {row.clip: row for row in cache.rows} for kind, cache in caches.items()}
    made: dict[Role, list[Stretch]] = {role: [] for role in ROLES}
    for span in spans:
        first = first_sample = samples = 0
        for kind, cache in caches.items():
            row = rows[kind].get(span.clip)
            held = _frames(row, config) if row is not None and row.status == "ok" else 0
            if (
                row is None
                or span.clip not in label
                or span.first_frame < 0
                or not 0 < span.frames <= held - span.first_frame
            ):
                raise GenreclsError(
                    f"The split has frames of the clip {span.clip!r} that the cache {cache.path} does not have: one of "
                    "the two is damaged, so run `genrecls preprocess --verify`, or train again."
                )
            if kind == "feature":
                first = row.first_frame + span.first_frame
            else:
                # The last frame may be centred on the end of the samples, or on the silence after very short ones.
                before = min(span.first_frame * hop, row.samples - 1)
                first_sample, samples = row.first_sample + before, min(span.frames * hop, row.samples - before)
        made[span.role].append(Stretch(span.clip, label[span.clip], first, span.frames, first_sample, samples))
    return made


def stretches_of_variants(
    training: Sequence[Stretch], variants: Sequence[Mapping[Input, Cache]], config: Config
) -> list[Stretch]:
    """The variants of whole clips as stretches of the variants' flat arrays: all of the first, then the next one's.

    Raises GenreclsError where a cache does not have a clip.
    """
    made = []
    for number, caches in enumerate(variants, 1):
        rows = {kind: {row.clip: row for row in cache.rows if row.status == "ok"} for kind, cache in caches.items()}
        for whole in training:
            found = {kind: of_clip.get(whole.clip) for kind, of_clip in rows.items()}
            first = first_sample = samples = frames = 0
            for kind, row in found.items():
                if row is None:
                    raise GenreclsError(
                        f"The cache {caches[kind].path} does not have the clip {whole.clip!r}: remove the folder, and "
                        "train again."
                    )
                frames = _frames(row, config)
                if kind == "feature":
                    first = row.first_frame
                else:
                    first_sample, samples = row.first_sample, row.samples
            made.append(Stretch(whole.clip, whole.genre, first, frames, first_sample, samples, number))
    return made


@dataclass(frozen=True)
class Places:
    """Where fragments begin: in which stretches, as in `Stretch`, and at which of their frames. Arrays int64 (n,)."""

    first: NDArray[np.int64]
    frames: NDArray[np.int64]
    first_sample: NDArray[np.int64]
    samples: NDArray[np.int64]
    variant: NDArray[np.int64]
    start: NDArray[np.int64]

    def __getitem__(self, at: NDArray[np.int64]) -> "Places":
        """Some of them."""
        return Places(**{each.name: getattr(self, each.name)[at] for each in fields(self)})


def places(stretches: Sequence[Stretch], which: NDArray[np.int64], start: NDArray[np.int64]) -> Places:
    """The places that begin at frame `start` of the stretches number `which`."""
    table = np.array([(s.first, s.frames, s.first_sample, s.samples, s.variant) for s in stretches], dtype=np.int64)
    first, frames, first_sample, samples, variant = table[which].T
    return Places(first, frames, first_sample, samples, variant, start)


def grid(frames: int, fragment: int, overlap: float) -> NDArray[np.int64]:
    """First frames of the fragments that cover a stretch, the last flush with the end.

    overlap: share of a fragment that the next one has too, 0 to below 1.
    """
    last = max(frames - fragment, 0)
    starts = np.arange(0, last + 1, max(1, int(fragment * (1 - overlap))), dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


RESIDENT_SHARE = 0.6
"""Of the free memory that arrays may take."""
AHEAD = 2
"""Batches that are fetched before they are asked for."""

Stored = dict[Input, torch.Tensor]


class Flat:
    """A flat array (rows, width) or (rows,).

    resident: whether it lies in the memory of the device, where a batch is one gather. Otherwise it stays memory-mapped
    on the CPU and each batch is gathered there and sent.
    """

    def __init__(
        self, array: NDArray[np.float16] | NDArray[np.int16], device: torch.device, resident: bool = True
    ) -> None:
        self._device = device
        # A copy of the read-only memory map, which torch cannot tell from one it may write to.
        self._flat = torch.from_numpy(np.array(array)).to(device) if resident else _mapped(array)

    def rows(
        self,
        first: NDArray[np.int64],
        extent: NDArray[np.int64],
        start: NDArray[np.int64],
        length: int,
        padding: str,
        silence: torch.Tensor,
    ) -> torch.Tensor:
        """Some rows in a place each: (batch, length, width), of the array's type.

        first, extent: the stretch each is taken from. start: where in it. All int64 (batch,). Beyond the stretch's
        end come, by `padding`, its rows again ("repeat"), its last row ("edge") or `silence`, (width,) ("zero").
        """
        place = self._flat.device
        columns = [torch.from_numpy(each)[:, None].to(place) for each in (first, extent, start)]
        offset = columns[2] + torch.arange(length, device=place)
        within = offset % columns[1] if padding == "repeat" else torch.minimum(offset, columns[1] - 1)
        taken = self._flat.index_select(0, (columns[0] + within).reshape(-1))
        taken = taken.reshape(len(first), length, -1)
        if padding == "zero":
            taken = torch.where((offset >= columns[1])[:, :, None], silence.to(place), taken)
        return taken.to(self._device)


def _mapped(array: NDArray[np.float16] | NDArray[np.int16]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class Fragments:
    """What the model of a config sees at given places, normalised.

    arrays: flat arrays by input, those that the model takes. scales: their normalisations. variants: the flat arrays of
    each variant, which are looked up by a place's variant, from 1.
    """

    def __init__(
        self,
        arrays: Arrays,
        scales: Mapping[Input, Normalisation],
        config: Config,
        device: torch.device,
        variants: Sequence[Arrays] = (),
    ) -> None:
        self.config, self.device = config, device
        self._flat: dict[Input, list[Flat]] = {}
        self.streams = False
        room = config.compute.resident_limit * 2**20 or RESIDENT_SHARE * free_memory(device)
        for kind in config.model.inputs:
            self._flat[kind] = []
            for array in (each[kind] for each in (arrays, *variants)):
                resident = array.nbytes <= room
                room -= array.nbytes if resident else 0
                self._flat[kind].append(Flat(array, device, resident))
                self.streams |= not resident
        self.scales = {kind: scales[kind].to(device) for kind in config.model.inputs}
        self._silence = {"wave": torch.zeros(1, dtype=torch.int16)}
        if "feature" in self._flat:
            self._silence["feature"] = torch.from_numpy(Spectral(config.features).silence())

    def at(self, where: Places) -> dict[Input, torch.Tensor]:
        """float32: the waveform (batch, samples), the feature (batch, bins, frames), or both."""
        return self.seen(self.stored(where))

    def stored(self, where: Places) -> Stored:
        """What the arrays hold there, of their types: (batch, length, width)."""
        return {kind: self._rows(kind, where) for kind in self._flat}

    def seen(self, stored: Stored) -> dict[Input, torch.Tensor]:
        """What `stored` gave, as `at` gives it."""
        return laid_out(self.normalised(stored))

    def normalised(self, stored: Stored) -> dict[Input, torch.Tensor]:
        """What `stored` gave, float32 and normalised: (batch, length, width)."""
        features = self.config.features
        return {kind: self.scales[kind](restored(rows, kind, features)) for kind, rows in stored.items()}

    def fetched(self, batches: Iterable[Places]) -> Iterator[Stored]:
        """`stored` of each. Where arrays stay on the disk, the next is fetched while the caller works on one."""
        if not self.streams:
            yield from map(self.stored, batches)
            return
        with ThreadPoolExecutor(1, "fetch") as fetcher:
            coming: deque[Future[Stored]] = deque()
            for where in batches:
                coming.append(fetcher.submit(self.stored, where))
                if len(coming) > AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def _rows(self, kind: Input, where: Places) -> torch.Tensor:
        present = np.unique(where.variant)
        if len(present) == 1:
            return self._rows_of(kind, where, int(present[0]))
        parts = [np.flatnonzero(where.variant == variant) for variant in present]
        rows = [self._rows_of(kind, where[at], int(variant)) for at, variant in zip(parts, present, strict=True)]
        order = torch.from_numpy(np.argsort(np.concatenate(parts), kind="stable")).to(self.device)
        return torch.cat(rows).index_select(0, order)

    def _rows_of(self, kind: Input, where: Places, variant: int) -> torch.Tensor:
        config = self.config
        if kind == "wave":
            # The last frame of a clip is centred on its end, where no whole hop of samples follows.
            start = np.minimum(where.start * config.features.hop_length, np.maximum(where.samples - config.samples, 0))
            spots = (where.first_sample, where.samples, start, config.samples)
        else:
            spots = (where.first, where.frames, where.start, config.frames)
        return self._flat[kind][variant].rows(*spots, config.batches.padding, self._silence[kind])


def laid_out(taken: Mapping[Input, torch.Tensor]) -> dict[Input, torch.Tensor]:
    """Rows (batch, length, width) as `Fragments.at` gives them: (batch, samples), (batch, bins, frames)."""
    return {
        kind: rows[:, :, 0] if kind == "wave" else rows.transpose(1, 2).contiguous() for kind, rows in taken.items()
    }


def as_inputs(taken: Mapping[Input, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """What a model's `forward` takes: each with its axis of channels, a feature laid out channels-last.

    In that layout convolutions are fastest.
    """
    return tuple(
        values[:, None] if kind == "wave" else values[:, None].contiguous(memory_format=torch.channels_last)
        for kind, values in taken.items()
    )
