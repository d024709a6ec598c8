"""What every corpus must be able to do, and where to find the one that a name means."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from genrecls.datasets.index import Corpus
from genrecls.errors import ConfigError

Progress = Callable[[str, int, int], None]
"""progress(what, done, total): called as work goes on; total is 0 where it is not known."""


@dataclass(frozen=True)
class Source:
    """Where a corpus is looked for.

    res: the working folder for corpora and caches. data_dir: the folder the user named, None for the
    corpus's own place below `res`. groups: a CSV with the columns clip,group (corpora that take one).
    """

    res: Path
    data_dir: Path | None = None
    groups: Path | None = None


@dataclass(frozen=True)
class Delivery:
    """What `download` brought. root: the corpus's folder. remarks: sentences for the user."""

    root: Path
    remarks: tuple[str, ...] = ()


class Loader(Protocol):
    """A corpus. name: as in `--dataset`. takes_groups: whether `--groups` applies."""

    name: str
    takes_groups: bool

    def index(self, source: Source) -> Corpus:
        """List the clips without decoding any. Raises GenreclsError where the corpus is not there."""
        ...

    def download(self, source: Source, progress: Progress) -> Delivery:
        """Bring the corpus below `source.res` (or data_dir) and check it.

        Safe to repeat (work done is not done again) and to interrupt. Raises GenreclsError with what
        to do by hand where it cannot.
        """
        ...


# Adding a corpus: write its module with a LOADER, and name it here.
_MODULES = {
    "gtzan": "genrecls.datasets.gtzan",
    "folder": "genrecls.datasets.folder",
    "synth": "genrecls.datasets.synth.corpus",
    "fma-small": "genrecls.datasets.fma.small",
    "fma-medium": "genrecls.datasets.fma.medium",
    "fma-large": "genrecls.datasets.fma.large",
}
DATASETS = tuple(_MODULES)


def loader(name: str) -> Loader:
    """The loader of that name. Raises ConfigError for an unknown one, naming those there are."""
    if name not in _MODULES:
        raise ConfigError(f"Unknown dataset {name!r}: choose one of {', '.join(DATASETS)}.")
    found: Loader = import_module(_MODULES[name]).LOADER
    return found
