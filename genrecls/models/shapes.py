"""The fragment that a model is built for, and the smallest that it takes."""

from dataclasses import dataclass

from genrecls.config import Config


@dataclass(frozen=True)
class InputShape:
    """What a model is built for: the fragment it sees and the genres it tells apart.

    bins: rows of the 2-D feature. frames: its columns in a fragment. genres: number of logits. samples: of the
    fragment's waveform.
    """

    bins: int
    frames: int
    genres: int
    samples: int

    @classmethod
    def of(cls, config: Config, genres: int) -> "InputShape":
        """The fragment that these settings describe."""
        return cls(config.features.bins, config.frames, genres, config.samples)


@dataclass(frozen=True)
class Smallest:
    """The smallest fragment that an architecture takes."""

    bins: int = 1
    frames: int = 1
    samples: int = 1
