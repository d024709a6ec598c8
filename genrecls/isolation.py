"""What two runs share, read from what each recorded, and which differing setting accounts for what they do not share.

A run differs from another by some settings, and the question is whether by anything else. What a setting may move:

seed                              every draw, every initial weight, every dropout mask
number of processes               dropout masks
corpus, split                     who trains, and with that the draws, which are of training clips, and normalisation
initialisation                    initial weights
crops of a clip                   the number of draws; those of the crops that both runs have stay
whatever changes a model's shape  initial weights of another name or shape, and of dropout masks the shape
features and the model's input    the arrays, and the figures that normalise them
every other setting               none of these

A difference that no differing setting accounts for is contamination.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from genrecls import provenance, weights
from genrecls.batches import crop_draws, draws_sha256
from genrecls.config import Config
from genrecls.datasets.index import Role
from genrecls.environment import flat
from genrecls.errors import GenreclsError
from genrecls.models.dropout import ChannelDropout, Dropout
from genrecls.run import Run
from genrecls.seeding import name_keys
from genrecls.splits import Span
from genrecls.summary import anatomy

CORPUS = "the corpus"
"""Stands among settings for files or labels, which no setting names."""
FRAMES = ("batches.fragment", "features.sample_rate", "features.hop_length")
"""What a fragment's length in frames depends on."""
_NO_MACHINE = ("argv", "res", "data_dir", "groups", "switches", "ranks", "resumed")
"""What of `environment.json` is no property of software or machine, or follows from settings."""
_DROPOUT = ("training.seed", "compute.ranks")
"""What a dropout mask is keyed by, beside module and step."""


@dataclass(frozen=True)
class Recorded:
    """All that a finished run recorded of what it was trained with.

    environment: of software and machine. draws: for each epoch the hash of each stream. spans: empty where there was
    no epoch. initial, normalisation: tensors by name. arrays: SHA-256 of each array by its file.
    """

    run: Run
    config: Config
    environment: dict[str, Any]
    fingerprint: str
    cache_key: str
    arrays: dict[str, str]
    genres: int
    draws: list[dict[str, str]]
    spans: list[Span]
    initial: dict[str, torch.Tensor]
    normalisation: dict[str, torch.Tensor]

    @classmethod
    def of(cls, run: Run) -> "Recorded":
        """Read it. Raises GenreclsError where the run is not finished, or a file is missing or damaged."""
        record, config = run.record, run.config
        if record["status"] != "finished":
            raise GenreclsError(f"The run {run.path} is not finished: run its `genrecls train` again first.")
        trained = config.training.epochs > 0
        return cls(
            run=run,
            config=config,
            environment=_software_and_machine(run),
            fingerprint=record["fingerprint"],
            cache_key=record["cache_key"],
            arrays=run.arrays if trained else {},
            genres=len(record["genres"]),
            draws=run.read_draws() if trained else [],
            spans=run.read_spans() if trained else [],
            initial=weights.read_initial(run),
            normalisation=weights.read(run, "normalisation") if trained else {},
        )

    def clips(self, role: Role) -> set[str]:
        """The clips with a span of this role."""
        return {span.clip for span in self.spans if span.role == role}

    @cached_property
    def training_clips(self) -> tuple[str, ...]:
        """Whose draws are recorded, in their order."""
        return tuple(sorted(self.clips("train")))

    def expected_draws(self, stream: str, epoch: int) -> str:
        """The hash that this run's seed, training clips and crops give."""
        settings = self.config
        keys = name_keys(self.training_clips)
        return draws_sha256(crop_draws(settings.training.seed, stream, epoch, keys, settings.batches.crops_per_clip))

    @cached_property
    def masks(self) -> dict[str, tuple[int, ...]] | None:
        """The shape of each dropout mask without the batch, by module; None where they cannot be known.

        Masks are not recorded, but are functions of seed, module name, step and position. Which modules there are says
        the model, built anew from the settings; that it is the one that was trained, the names and shapes of its
        weights. A module with probability 0 draws no mask.
        """
        try:
            built = anatomy(self.config, self.genres)
        except GenreclsError:
            return None
        shapes = {name: value.shape for name, value in built.model.state_dict().items()}
        if shapes != {name: value.shape for name, value in self.initial.items()}:
            return None
        masks: dict[str, tuple[int, ...]] = {}
        for layer in built.layers:
            module = built.model.get_submodule(layer.name)
            if isinstance(module, Dropout) and module.p > 0 and layer.output is not None:
                masks[layer.name] = layer.output[:1] if isinstance(module, ChannelDropout) else layer.output
        return masks


def _software_and_machine(run: Run) -> dict[str, Any]:
    """What `environment.json` says of them, and of the code of this package, as "code", where the run recorded it."""
    found = {name: value for name, value in run.environment.items() if name not in _NO_MACHINE}
    if (made_by := provenance.package_of(run)) is not None:
        found["code"] = made_by
    return found


@dataclass(frozen=True)
class Overlap:
    """Names in two records: with the same content, with other content, with another shape, and in one alone."""

    shared: tuple[str, ...]
    changed: tuple[str, ...]
    reshaped: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def other(self) -> tuple[str, ...]:
        """Names that have no counterpart of the same shape."""
        return (*self.reshaped, *self.only_a, *self.only_b)

    def values(self) -> dict[str, list[str]]:
        """As JSON."""
        return {name: list(names) for name, names in vars(self).items()}


@dataclass(frozen=True)
class Stream:
    """One stream's draws in the epochs that both runs had. first_difference: epoch from 0, None where all are equal."""

    equal_epochs: int
    first_difference: int | None


@dataclass(frozen=True)
class Moved:
    """Something that two runs do not share. by: the differing settings that may move it; none: contamination."""

    what: str
    by: tuple[str, ...]


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is not the same in both: name -> {"a": value, "b": value}, None where one lacks it."""
    names = [*a, *(name for name in b if name not in a)]
    return {name: {"a": a.get(name), "b": b.get(name)} for name in names if a.get(name) != b.get(name)}


def _overlap(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    same: Callable[[Any, Any], bool],
    shape: Callable[[Any], Hashable] = lambda _: None,
) -> Overlap:
    both = sorted(a.keys() & b.keys())
    alike = [name for name in both if shape(a[name]) == shape(b[name])]
    shared = [name for name in alike if same(a[name], b[name])]
    return Overlap(
        shared=tuple(shared),
        changed=tuple(name for name in alike if name not in set(shared)),
        reshaped=tuple(name for name in both if name not in set(alike)),
        only_a=tuple(sorted(a.keys() - b.keys())),
        only_b=tuple(sorted(b.keys() - a.keys())),
    )


def _tensors(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> Overlap:
    return _overlap(a, b, torch.equal, lambda tensor: (tensor.shape, tensor.dtype))


class Isolation:
    """What the runs `a` and `b` share.

    settings: the differing ones, name -> {"a": value, "b": value}. environment: likewise of software and machine.
    moved: what they do not share, with the settings that account for it.
    """

    def __init__(self, a: Recorded, b: Recorded) -> None:
        self.a, self.b = a, b
        self.settings = differing(flat(a.config.values()), flat(b.config.values()))
        # What one version did not record yet is no difference.
        known = [name for name in a.environment if name in b.environment]
        ours, theirs = ({name: each.environment[name] for name in known} for each in (a, b))
        self.environment = differing(flat(ours), flat(theirs))
        self.same_corpus = a.fingerprint == b.fingerprint
        self.same_split = _cast(a) == _cast(b)
        self.inputs = _overlap(a.arrays, b.arrays, str.__eq__)
        self.normalisation = _tensors(a.normalisation, b.normalisation)
        self.initial = _tensors(a.initial, b.initial)
        self.epochs = min(len(a.draws), len(b.draws))
        self.streams, self.streams_of_one = self._streams()
        self.dropout = self._dropout()
        self.moved = (*self._moved_ground(), *self._moved_draws(), *self._moved_model())

    @property
    def contamination(self) -> tuple[str, ...]:
        """What differs and no differing setting accounts for."""
        return tuple(each.what for each in self.moved if not each.by)

    @property
    def shared_streams(self) -> tuple[str, ...]:
        """Streams whose draws are equal in every epoch that both runs had."""
        return tuple(name for name, each in self.streams.items() if each.first_difference is None)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The settings that differ by themselves, and not because another one took their meaning away.

        With another model, all its settings count as one. CORPUS is among them where the corpora differ otherwise.
        """
        return (*self._roots, *(name for name in self._corpus if name == CORPUS))

    @property
    def _roots(self) -> tuple[str, ...]:
        names = [name for name, values in self.settings.items() if None not in values.values()]
        if "model.name" in names:
            names = [name for name in names if name == "model.name" or not name.startswith("model.")]
        return tuple(names)

    @property
    def drawn(self) -> set[str]:
        """Names of the initial tensors that hold more than one value: the others are constants in any run."""
        return {
            name
            for weights in (self.a.initial, self.b.initial)
            for name, tensor in weights.items()
            if tensor.numel() and bool((tensor != tensor.flatten()[0]).any())
        }

    def _streams(self) -> tuple[dict[str, Stream], dict[str, tuple[str, ...]]]:
        """Each stream that both runs drew from in a common epoch, and those of one alone."""
        ours, theirs = (dict.fromkeys(name for line in each.draws[: self.epochs] for name in line) for each in self._ab)
        made = {}
        for name in (name for name in ours if name in theirs):
            equal = [self.a.draws[epoch].get(name) == self.b.draws[epoch].get(name) for epoch in range(self.epochs)]
            made[name] = Stream(sum(equal), None if all(equal) else equal.index(False))
        return made, {
            "a": tuple(name for name in ours if name not in theirs),
            "b": tuple(name for name in theirs if name not in ours),
        }

    def _dropout(self) -> Overlap | None:
        """By module; None where the masks of a run cannot be known."""
        if self.a.masks is None or self.b.masks is None:
            return None
        same_key = not self._among(*_DROPOUT)
        return _overlap(self.a.masks, self.b.masks, lambda *_: same_key, lambda shape: shape)

    @property
    def common_crops(self) -> tuple[int, int] | None:
        """Training clips, and crops of each, whose draws both runs made from the same seed. None with other seeds."""
        if "training.seed" in self.settings or not self.epochs:
            return None
        clips = set(self.a.training_clips) & set(self.b.training_clips)
        return len(clips), min(each.config.batches.crops_per_clip for each in self._ab)

    @property
    def same_files(self) -> bool:
        """Whether the record shows that a clip's id means the same file in both runs.

        That of a cache that both used does, and so does the corpus's fingerprint.
        """
        return self.same_corpus or bool(set(self.a.cache_key.split("+")) & set(self.b.cache_key.split("+")))

    @property
    def same_test_pieces(self) -> bool:
        """Whether what is tested of the clips is the same. Only splits that cut clips test pieces of them."""
        ours, theirs = ({each for each in _cast(record) if each[1] == "test"} for record in self._ab)
        return ours == theirs

    @property
    def _ab(self) -> tuple[Recorded, Recorded]:
        return self.a, self.b

    def _among(self, *prefixes: str) -> tuple[str, ...]:
        """The differing settings that begin so, without those that follow from another of them."""
        names = tuple(name for name in self.settings if name.startswith(prefixes))
        return tuple(name for name in names if name in self._roots) or names

    @property
    def _corpus(self) -> tuple[str, ...]:
        return () if self.same_corpus else self._among("dataset.") or (CORPUS,)

    @property
    def _split(self) -> tuple[str, ...]:
        """What may move the split: with pieces of clips, the length of a piece, too."""
        cut = all(each.config.split.policy == "contaminated" for each in self._ab)
        return (*self._corpus, *self._among("split."), *(self._among(*FRAMES) if cut else ()))

    def _moved_ground(self) -> Iterator[Moved]:
        """Of what is the same in every epoch: split, arrays, normalisation."""
        if not self.epochs:
            return
        features = self._among("features.")
        if not self.same_split:
            yield Moved("the split", self._split)
        plain, rendered = _parted(self.inputs.changed)
        if plain:
            yield Moved(f"the arrays {some(plain)}", (*self._corpus, *features))
        if rendered:  # of the training clips alone
            yield Moved(f"the arrays {some(rendered)}", (*self._split, *features, *self._among("augment.")))
        if lone := (*self.inputs.only_a, *self.inputs.only_b):
            yield Moved(f"the presence of {some(lone)}", self._among("features.", "model.", "augment."))
        if self.normalisation.changed:
            by_split = () if self.same_split else self._split
            yield Moved("the normalisation", (*by_split, *features, *self._among("batches.normalisation")))
        if self.normalisation.other:
            yield Moved("what is normalised", self._among("features.", "model."))

    def _moved_draws(self) -> Iterator[Moved]:
        clips_differ = self.a.training_clips != self.b.training_clips
        by = (*self._among("training.seed", "batches.crops_per_clip"), *(self._split if clips_differ else ()))
        moved = [name for name in self.streams if name not in self.shared_streams]
        # That something may move them excuses nothing else: each hash must be the one that it leads to.
        wrong = [name for name in self.streams if not self._as_expected(name)] if by else moved
        if wrong:
            yield Moved(f"the draws of {some(wrong)}", ())
        if as_expected := [name for name in moved if name not in wrong]:
            yield Moved(f"the draws of {some(as_expected)}", by)
        if lone := (*self.streams_of_one["a"], *self.streams_of_one["b"]):
            yield Moved(f"the presence of draws of {some(lone)}", self._among("augment.", "model."))
        places = self._among(*FRAMES)
        if places and "crop" in self.streams and "training.seed" not in self.settings:
            yield Moved("where crops begin, from the same draws", places)

    def _as_expected(self, stream: str) -> bool:
        return all(
            each.draws[epoch].get(stream) == each.expected_draws(stream, epoch)
            for epoch in range(self.epochs)
            for each in self._ab
        )

    def _moved_model(self) -> Iterator[Moved]:
        shaping = (*self._among("model.", "features.", "batches.fragment"), *self._corpus)
        if self.initial.changed:
            by = self._among("training.seed", "training.initialisation")
            yield Moved(f"the initial values of {some(self.initial.changed)}", by)
        if self.initial.other:
            yield Moved(f"the shape or presence of {some(self.initial.other)}", shaping)
        if self.dropout is not None:
            if self.dropout.changed:
                yield Moved(f"the dropout masks of {some(self.dropout.changed)}", self._among(*_DROPOUT))
            if self.dropout.other:
                yield Moved(f"the shape or presence of the dropout masks of {some(self.dropout.other)}", shaping)


def _cast(each: Recorded) -> set[tuple[Any, ...]]:
    """Who has which role; with a split that cuts clips, which piece."""
    if each.config.split.policy == "contaminated":
        return {(span.clip, span.role, span.first_frame, span.frames) for span in each.spans}
    return {(span.clip, span.role) for span in each.spans}


def _parted(arrays: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arrays of the clips themselves, and of their variants, which stand below a folder's name."""
    return [name for name in arrays if "/" not in name], [name for name in arrays if "/" in name]


def some(names: Sequence[str]) -> str:
    """A few of them by name."""
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"
