"""From settings to what a run stands on: the indexed corpus, its fingerprint, its cache."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genrecls import cache, manifest, splits
from genrecls.augment import Variant
from genrecls.cache import Cache
from genrecls.compute import resolve
from genrecls.config import Config, DatasetSettings, Input
from genrecls.datasets.index import Corpus
from genrecls.datasets.loader import Progress, Source, loader
from genrecls.errors import ConfigError, GenreclsError
from genrecls.features import extractor
from genrecls.fragments import frames_by_clip
from genrecls.kernels import PORTABLE
from genrecls.manifest import Manifest
from genrecls.settings import suggestion


@dataclass(frozen=True)
class Workplace:
    """Where things lie and how the work is shown.

    res: corpora and caches. progress: called as work goes on. say: shows a line.
    jobs: worker processes of preprocessing, 0 for one each core.
    """

    res: Path
    progress: Progress
    say: Callable[[str], None]
    jobs: int = 0


@dataclass(frozen=True)
class Ground:
    """A corpus with the hashes of its files."""

    corpus: Corpus
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """What a result depends on of the corpus."""
        return manifest.fingerprint(self.corpus, self.manifest)

    def cache_key(self, config: Config) -> str:
        """The key of the cache that this run's inputs are in; of several caches all, with a plus between.

        Variants stand for themselves in it by the first one's parameters. config: resolved, or a run's own.
        """
        kinds, rendered = config.model.inputs, [None, *_variants(config)[:1]]
        return "+".join(
            cache.key(extractor(kind, config.features), self.manifest, config.compute.kernels, variant)
            for variant in rendered
            for kind in kinds
        )

    def caches(self, config: Config, place: Workplace) -> dict[Input, Cache]:
        """The cache of each input of the model, built where it is not there."""
        return self._caches(config, place, None)

    def variants(self, config: Config, caches: Mapping[Input, Cache], place: Workplace) -> list[dict[Input, Cache]]:
        """For each variant of the training clips the cache of each input, built where it is not there.

        caches: of the clips themselves. Raises GenreclsError as `splits.spans` does.
        """
        if not config.augment.variants:
            return []
        split = replace(config.split, policy=splits.resolve_policy(self.corpus, config.split))
        spans = splits.spans(self.corpus, split, frames_by_clip(caches, config), config.frames)
        training = {span.clip for span in spans if span.role == "train"}
        part = Ground(
            replace(self.corpus, clips=tuple(clip for clip in self.corpus.clips if clip.id in training)),
            Manifest({clip: sha256 for clip, sha256 in self.manifest.sha256.items() if clip in training}),
        )
        return [part._caches(config, place, variant) for variant in _variants(config)]

    def _caches(self, config: Config, place: Workplace, variant: Variant | None) -> dict[Input, Cache]:
        return {
            kind: cache.ensure(
                self.corpus,
                self.manifest,
                extractor(kind, config.features),
                place.res,
                variant=variant,
                progress=place.progress,
                say=place.say,
                jobs=place.jobs,
            )
            for kind in config.model.inputs
        }


def array_names(caches: Mapping[Input, Cache], variants: Sequence[Mapping[Input, Cache]] = ()) -> dict[str, Cache]:
    """What a run calls the arrays that it is trained on, each with its cache: those of variants are below theirs."""
    return {
        f"{folder}{name}": cache
        for folder, group in (("", caches), *((f"variant-{i}/", each) for i, each in enumerate(variants, 1)))
        for cache in group.values()
        for name in cache.details["arrays"]
    }


def check_arrays(
    given: Mapping[str, Cache], known: Mapping[str, str], run: Path, config: Config, place: Workplace
) -> None:
    """Compare arrays with those that a run was trained on.

    given: of `array_names`. known: the run's SHA-256 of each. Native kernels may have made others on another processor,
    which is a remark. Raises GenreclsError where portable ones have.
    """
    for name, holding in given.items():
        array = holding.path / Path(name).name
        if holding.details["arrays"][array.name]["sha256"] == known.get(name):
            continue
        if config.compute.kernels == PORTABLE:
            raise GenreclsError(
                f"{array} has other bits than the features that {run} was trained on, which the same corpus and "
                "settings never make: remove the cache's folder and run the same command again, or train again."
            )
        place.say(
            f"{array} has other bits than the features that {run} was trained on, as native kernels of another "
            "processor make them."
        )


def _variants(config: Config) -> list[Variant]:
    sound = "wave" not in config.model.inputs
    return [Variant(config.augment, number, sound) for number in range(config.augment.variants)]


def index(settings: DatasetSettings, res: Path) -> Corpus:
    """The corpus of these settings, without the genres that they exclude.

    Raises ConfigError for an unknown corpus or genre, GenreclsError where the corpus is missing.
    """
    found = loader(settings.name)
    if settings.groups and not found.takes_groups:
        raise ConfigError(f"--groups does not apply to the dataset {settings.name}: leave it out.")
    return _without(found.index(source(settings, res)), settings.excluded)


def _without(corpus: Corpus, excluded: tuple[str, ...]) -> Corpus:
    if not excluded:
        return corpus
    for genre in excluded:
        if genre not in corpus.genres:
            near = suggestion(genre, corpus.genres)
            raise ConfigError(
                f"--exclude-genres: the dataset {corpus.name} has no genre {genre!r}{near}, but "
                f"{', '.join(corpus.genres)}."
            )
    left = [genre for genre in corpus.genres if genre not in excluded]
    if len(left) < 2:
        raise ConfigError(
            f"--exclude-genres leaves {repr(left[0]) if left else 'no genre'} of the dataset {corpus.name}, and a "
            "classifier needs at least two: exclude fewer."
        )
    return replace(corpus, clips=tuple(clip for clip in corpus.clips if clip.genre not in excluded))


def source(settings: DatasetSettings, res: Path) -> Source:
    """Where these settings say the corpus lies."""
    return Source(
        res=res,
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        groups=Path(settings.groups) if settings.groups else None,
    )


def ground(corpus: Corpus, place: Workplace, verify: bool = False) -> Ground:
    """Hash the files of an indexed corpus, and say what its index left out. verify: read every file again."""
    for remark in corpus.remarks:
        place.say(remark)
    return Ground(corpus, manifest.build(corpus, place.res, place.progress, verify))


def resolved(config: Config, corpus: Corpus) -> Config:
    """The settings with every `auto` replaced by what it means for this corpus on this machine.

    Raises ConfigError where the processes that were started cannot share a batch.
    """
    policy = splits.resolve_policy(corpus, config.split)
    made = replace(config, split=replace(config.split, policy=policy), compute=resolve(config.compute))
    size, ranks = made.batches.batch_size, made.compute.ranks
    # Normalisation over a batch of one crop is not defined.
    if size % ranks or size < 2 * ranks:
        raise ConfigError(
            f"batches.batch_size (--batch-size) is {size}, which {ranks} processes cannot share evenly with at least 2 "
            f"crops each: choose a multiple of {ranks} from {2 * ranks}."
        )
    return made
