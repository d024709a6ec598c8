"""From settings to what a run stands on: the indexed corpus, its fingerprint, its cache."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from genrecls import cache, manifest
from genrecls.cache import Cache
from genrecls.compute import resolve
from genrecls.config import Config, DatasetSettings, Input
from genrecls.datasets.index import Corpus
from genrecls.datasets.loader import Progress, Source, loader
from genrecls.errors import ConfigError
from genrecls.features import extractor
from genrecls.manifest import Manifest
from genrecls.splits import resolve_policy


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
        """The key of the cache that this run's inputs are in; of two caches both, with a plus between."""
        kinds = config.model.inputs
        return "+".join(cache.key(extractor(kind, config.features), self.manifest) for kind in kinds)

    def caches(self, config: Config, place: Workplace) -> dict[Input, Cache]:
        """The cache of each input of the model, built where it is not there."""
        return {
            kind: cache.ensure(
                self.corpus,
                self.manifest,
                extractor(kind, config.features),
                place.res,
                progress=place.progress,
                say=place.say,
                jobs=place.jobs,
            )
            for kind in config.model.inputs
        }


def index(settings: DatasetSettings, res: Path) -> Corpus:
    """The corpus of these settings. Raises ConfigError for an unknown one, GenreclsError where it is missing."""
    found = loader(settings.name)
    if settings.groups and not found.takes_groups:
        raise ConfigError(f"--groups does not apply to the dataset {settings.name}: leave it out.")
    return found.index(source(settings, res))


def source(settings: DatasetSettings, res: Path) -> Source:
    """Where these settings say the corpus lies."""
    return Source(
        res=res,
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        groups=Path(settings.groups) if settings.groups else None,
    )


def ground(corpus: Corpus, place: Workplace, verify: bool = False) -> Ground:
    """Hash the files of an indexed corpus. verify: read every file again."""
    return Ground(corpus, manifest.build(corpus, place.res, place.progress, verify))


def resolved(config: Config, corpus: Corpus) -> Config:
    """The settings with every `auto` replaced by what it means for this corpus on this machine."""
    policy = resolve_policy(corpus, config.split)
    return replace(config, split=replace(config.split, policy=policy), compute=resolve(config.compute))
