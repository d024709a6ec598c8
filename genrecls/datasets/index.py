"""What a corpus is to the rest of the program: an index of clips, nothing decoded."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from genrecls.errors import GenreclsError

Role = Literal["train", "valid", "test"]
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".au", ".aiff", ".aif"})


@dataclass(frozen=True)
class Clip:
    """One recording of a corpus.

    id: unique in the corpus, the same on every machine (never an absolute path).
    path: where the audio lies here. genre: its label. group: who or what must not stand on both sides
    of a split (artist or recording); None where that is unknown, which makes the clip a group of one.
    official_split: the role a published split gives it, None where there is none or it is left out.
    known_fault: status and reason of a clip that is known to be of no use, so that it need not be decoded.
    """

    id: str
    path: Path
    genre: str
    group: str | None = None
    official_split: Role | None = None
    known_fault: tuple[str, str] | None = None


@dataclass(frozen=True)
class Corpus:
    """An indexed corpus: `clips` sorted by id, `genres` sorted (their order is that of the logits).

    name: of the loader ("gtzan", "folder", …). root: the folder the clips were found below.
    default_split: the policy that `--split` means where none is given. remarks: sentences for the user on what
    the index left out.
    Raises GenreclsError where ids repeat or fewer than two genres remain.
    """

    name: str
    root: Path
    clips: tuple[Clip, ...]
    default_split: str
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.clips, key=lambda clip: clip.id))
        object.__setattr__(self, "clips", ordered)
        for left, right in pairwise(ordered):
            if left.id == right.id:
                raise GenreclsError(
                    f"Two files of {self.root} share the clip id {left.id!r} ({left.path.name} and "
                    f"{right.path.name}): rename or remove one of them."
                )
        if len(self.genres) < 2:
            found = f"only the genre {self.genres[0]!r}" if self.genres else "no genre at all"
            raise GenreclsError(
                f"{self.root} holds {found}, and a classifier needs at least two: put each genre's audio in a "
                "folder of its own below it."
            )

    @property
    def genres(self) -> tuple[str, ...]:
        """The labels in use, sorted."""
        return tuple(sorted({clip.genre for clip in self.clips}))

    @property
    def has_groups(self) -> bool:
        """Whether any clip's artist or recording is known."""
        return any(clip.group is not None for clip in self.clips)
