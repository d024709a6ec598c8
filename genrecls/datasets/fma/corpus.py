"""The corpora `fma-small`, `fma-medium` and `fma-large`: `fma_<subset>/NNN/NNNNNN.mp3` beside one list of tracks."""

import os
from dataclasses import replace
from pathlib import Path

from genrecls.datasets.fma import delivery
from genrecls.datasets.fma.tracks import SUBSETS, Track, read
from genrecls.datasets.index import Clip, Corpus
from genrecls.datasets.loader import Delivery, Progress, Source
from genrecls.errors import ConfigError, GenreclsError

KNOWN_FAULTS = {
    **dict.fromkeys((99134, 108925, 133297), ("unreadable", "known fault of FMA: no audio")),
    98565: ("short", "known fault of FMA: 1.6 s long"),
    98567: ("short", "known fault of FMA: 0.5 s long"),
    98569: ("short", "known fault of FMA: 1.5 s long"),
}
"""Status and reason of tracks that the data set's own errata name (github.com/mdeff/fma/wiki)."""

MOST_ABSENT = 0.01
"""Share of the tracks whose files may be absent: more is a corpus that was cut off, not one with holes."""


class Fma:
    """The loader of one subset, which holds the smaller ones. Its folder is `--data-dir`, else `res/fma`.

    It holds `fma_metadata/tracks.csv`, which all three corpora read, and the subset's own `fma_<subset>/`. A clip's
    id is the track's number in six digits, its group the number of the artist.
    """

    takes_groups = False

    def __init__(self, subset: str) -> None:
        self.name = f"fma-{subset}"
        self._subset = subset
        self._within = SUBSETS[: SUBSETS.index(subset) + 1]

    def index(self, source: Source) -> Corpus:
        """The tracks of the subset that have a top genre, with their role in the official split.

        Tracks without a top genre are left out, and a remark says how many. A track whose file is absent stays in
        the index, so that its absence moves no other track: it is left out as a clip that cannot be read, and a
        remark says so. Where more than 1 % are absent, known faults not counted, the corpus is not whole: a
        choice of tracks is a corpus of its own (`--dataset folder`).
        Raises ConfigError for a `data_dir` that is no folder; GenreclsError where the corpus is not there or not
        whole, or the list of tracks is damaged.
        """
        root = _root(source)
        if source.data_dir is not None and not root.is_dir():
            raise ConfigError(f"--data-dir {root}: no such folder.")
        table, audio = delivery.tracks(root), delivery.audio(root, self._subset)
        for place, there in ((table, table.is_file()), (audio, audio.is_dir())):
            if not there:
                raise GenreclsError(
                    f"The corpus {self.name} is not in {root} (no {place.relative_to(root)}): run `genrecls download "
                    f"{self.name}`, or name by --data-dir the folder that holds fma_metadata/ and {audio.name}/."
                )
        tracks = [track for track in read(table) if track.subset in self._within]
        clips = tuple(_clip(track, track.genre, audio) for track in tracks if track.genre is not None)
        if not clips:
            raise GenreclsError(f"{table} names no track of {self.name} with a top genre: check that it is FMA's own.")
        return Corpus(
            self.name,
            root,
            clips,
            default_split="official",
            remarks=(*self._without_genre(len(tracks), len(clips)), *self._absent(clips, audio)),
        )

    def download(self, source: Source, progress: Progress) -> Delivery:
        """Bring the list of tracks and the subset's audio to `res/fma` (or data_dir) and compare them.

        What is there already is not fetched again. Raises GenreclsError with what to do.
        """
        root = _root(source)
        brought = delivery.bring(root, self._subset, progress)
        remarks = self.index(replace(source, data_dir=root)).remarks
        return Delivery(root, remarks if brought else ("All was there: nothing was fetched.", *remarks))

    def _without_genre(self, tracks: int, clips: int) -> tuple[str, ...]:
        if clips == tracks:
            return ()
        return (f"{tracks - clips:,} of the {tracks:,} tracks of {self.name} have no top genre and are left out.",)

    def _absent(self, clips: tuple[Clip, ...], audio: Path) -> tuple[str, ...]:
        """A remark on the files that are absent, if any. Raises GenreclsError where they are too many."""
        there = _files(audio)
        absent = [clip for clip in clips if clip.known_fault is None and f"{clip.id[:3]}/{clip.id}.mp3" not in there]
        if not absent:
            return ()
        few = len(absent) <= MOST_ABSENT * len(clips)
        what = f"{len(absent):,} of the {len(clips):,} tracks of {self.name} have no file in {audio}"
        first = f"{absent[0].path.relative_to(audio)} for one"
        if not few:
            raise GenreclsError(
                f"{what} ({first}): move that folder away and run `genrecls download {self.name}`, or use --dataset "
                "folder for a choice of tracks."
            )
        return (f"{what} and are left out ({first}).",)


def _root(source: Source) -> Path:
    return source.data_dir if source.data_dir is not None else source.res / "fma"


def _clip(track: Track, genre: str, audio: Path) -> Clip:
    name = f"{track.id:06d}"
    return Clip(
        id=name,
        path=audio / name[:3] / f"{name}.mp3",
        genre=genre,
        group=track.artist,
        official_split=track.split,
        known_fault=KNOWN_FAULTS.get(track.id),
    )


def _files(audio: Path) -> set[str]:
    """Paths below `audio` of the files one folder down: 156 folders to list and no 106,574 files to ask for."""
    found: set[str] = set()
    try:
        with os.scandir(audio) as entries:
            folders = [entry for entry in entries if entry.is_dir()]
        for folder in folders:
            with os.scandir(folder) as entries:
                found.update(f"{folder.name}/{entry.name}" for entry in entries)
    except OSError as error:
        raise GenreclsError(f"The folder {error.filename} cannot be read ({error.strerror}): mend that.") from error
    return found
