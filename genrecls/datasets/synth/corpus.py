"""The corpus `synth` as files: rendering them, and listing them as clips."""

import io
import json
import os
import re
from collections.abc import Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile

from genrecls import atomic, reading
from genrecls.datasets.index import Clip, Corpus
from genrecls.datasets.loader import Delivery, Progress, Source
from genrecls.datasets.synth.artists import artist_name
from genrecls.datasets.synth.draws import Draws
from genrecls.datasets.synth.genres import GENRES
from genrecls.datasets.synth.mix import CORPUS_VERSION, record
from genrecls.errors import GenreclsError
from genrecls.lock import Taken, exclusive
from genrecls.reading import Damaged, field
from genrecls.workers import in_processes

ARTISTS = 20
"""Artists of a genre."""
CLIPS = 8
"""Clips of an artist."""

_FLAC, _MP3 = 0.08, 0.06  # shares of the clips that are not WAV
_RECORD = "corpus.json"
_PATH = re.compile(r"[a-z0-9-]+/[a-z0-9-]+/[a-z0-9-]+\.(?:wav|flac|mp3)")
_MEND = "run `genrecls download synth` (with the same --res or --data-dir) first"


@dataclass(frozen=True)
class _File:
    """A clip of the corpus and where it lies below the corpus's folder."""

    genre: str
    artist: int
    number: int

    @property
    def group(self) -> str:
        return artist_name(self.genre, self.artist)

    @property
    def id(self) -> str:
        return f"{self.genre}/{self.group}/{self.group}-{self.number:02d}"

    @property
    def path(self) -> str:
        drawn = Draws(self.id).one("format")
        return self.id + (".flac" if drawn < _FLAC else ".mp3" if drawn < _FLAC + _MP3 else ".wav")


def encoded(file: _File) -> bytes:
    """The bytes of a clip's file: 16-bit WAV or FLAC, or MP3."""
    recording = record(file.genre, file.artist, file.number)
    buffer = io.BytesIO()
    soundfile.write(buffer, recording.pcm, recording.rate, format=Path(file.path).suffix[1:].upper())
    return buffer.getvalue()


def _render_all(root: Path, files: Sequence[_File]) -> dict[str, int]:
    """Write these files below `root`; returns the size in bytes of each path."""
    sizes = {}
    for file in files:
        content = encoded(file)
        atomic.write_bytes(root / file.path, content, sync=False)  # The record tells if it got there.
        sizes[file.path] = len(content)
    return sizes


@dataclass(frozen=True)
class _Record:
    """What `corpus.json` says of a folder. files: path of each clip below it and its size in bytes.

    complete: whether all of them were there when it was written.
    """

    version: int
    complete: bool
    files: dict[str, int]

    @classmethod
    def read(cls, root: Path) -> "_Record | None":
        """The record of a folder; None where there is none or it is not one of ours."""
        try:
            found = reading.json_object(reading.read_bytes(root / _RECORD))
            files = {path: field(found["files"], path, int, low=0) for path in field(found, "files", dict)}
            if wrong := [path for path in files if not _PATH.fullmatch(path)]:
                raise Damaged(f"{wrong[0]!r} is none of its files")
            return cls(field(found, "version", int), field(found, "complete", bool), files)
        except (OSError, Damaged):
            return None

    def write(self, root: Path) -> None:
        """Put the record into the folder."""
        fields = {"version": self.version, "complete": self.complete, "files": self.files}
        atomic.write_text(root / _RECORD, json.dumps(fields, indent=1, sort_keys=True) + "\n")


def _size(path: Path) -> int | None:
    """The size of a file in bytes, None where there is none."""
    return path.stat().st_size if path.is_file() else None


def _quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def render(
    root: Path,
    *,
    genres: Sequence[str] = tuple(GENRES),
    artists: int = ARTISTS,
    clips: int = CLIPS,
    jobs: int | None = None,
    progress: Progress = _quiet,
) -> None:
    """Make `root` hold these clips: those that are there already, whole and of this version, are kept.

    artists: of each genre, 1 to 100. clips: of each artist, 1 to 100. jobs: processes, as many as there are
    processors where None; 1 renders in this one. Raises GenreclsError where the files cannot be written, or another
    process is writing them.
    """
    plan = [
        _File(genre, number, clip) for genre in sorted(genres) for number in range(artists) for clip in range(clips)
    ]
    if "MP3" not in soundfile.available_formats():
        raise GenreclsError(
            f"The libsndfile on this machine ({soundfile.__libsndfile_version__}) cannot write MP3, which the synth "
            "corpus needs: install 1.1 or later, or the soundfile package from PyPI, which brings it."
        )
    try:
        with exclusive(root / ".download.lock"):
            _render_missing(root, plan, jobs or len(os.sched_getaffinity(0)), progress)
    except Taken as error:
        raise GenreclsError(f"Another download to {root} is under way: wait until it has ended.") from error
    except OSError as error:
        raise GenreclsError(
            f"The synth corpus could not be written to {root} ({error.strerror or error}): see that the folder can "
            "be written and has 0.6 GB free, or name another by --res or --data-dir, and run the command again."
        ) from error
    except BrokenProcessPool as error:
        raise GenreclsError(
            "A process that rendered the synth corpus was ended from outside, most likely for want of memory: run "
            "the command again, and it goes on where it was."
        ) from error


def _render_missing(root: Path, plan: Sequence[_File], jobs: int, progress: Progress) -> None:
    """Render what of `plan` is not there. A file counts as there if the record has it, in the size it has."""
    for folder in (root, *root.glob("*/*-a[0-9][0-9]")):
        atomic.remove_leftovers(folder)
    known = _Record.read(root)
    if known is None or known.version != CORPUS_VERSION:
        # Whatever is there is of another version, or of one nobody knows.
        for path in root.glob("*/*-a[0-9][0-9]/*-a[0-9][0-9]-[0-9][0-9].*"):
            path.unlink()
        known = _Record(CORPUS_VERSION, False, {})
    sizes = {file.path: known.files.get(file.path, -1) for file in plan}
    sizes = {path: size for path, size in sizes.items() if _size(root / path) == size}
    missing = [file for file in plan if file.path not in sizes]
    if missing:
        _Record(CORPUS_VERSION, False, sizes).write(root)
    progress("rendering synth", len(sizes), len(plan))
    with closing(_rendered(root, missing, jobs)) as made:  # On any exception its processes end before the lock does.
        for rendered in made:
            sizes |= rendered
            _Record(CORPUS_VERSION, False, sizes).write(root)
            progress("rendering synth", len(sizes), len(plan))
    if missing or not known.complete or known.files != sizes:
        _Record(CORPUS_VERSION, True, sizes).write(root)


def _rendered(root: Path, files: Sequence[_File], jobs: int) -> Generator[dict[str, int], None, None]:
    """Render the files, an artist at a time; yields path and size of those done."""
    batches: dict[str, list[_File]] = {}
    for file in files:
        batches.setdefault(file.group, []).append(file)
    if jobs == 1 or len(batches) < 2:
        for batch in batches.values():
            yield _render_all(root, batch)
        return
    yield from in_processes(partial(_render_all, root), list(batches.values()), jobs, preload=[__name__])


def _root(source: Source) -> Path:
    return source.data_dir if source.data_dir is not None else source.res / "synth"


class _Synth:
    """The loader of the embedded corpus."""

    name = "synth"
    takes_groups = False

    def index(self, source: Source) -> Corpus:
        """List what was rendered. Raises GenreclsError where that is nothing, or not all is there any more."""
        root = _root(source)
        known = _Record.read(root)
        if known is None:
            raise GenreclsError(f"The synth corpus is not in {root}: {_MEND}.")
        if known.version != CORPUS_VERSION:
            raise GenreclsError(
                f"{root} holds version {known.version} of the synth corpus, and this genrecls works with version "
                f"{CORPUS_VERSION}: {_MEND}."
            )
        lost = sum(_size(root / path) != size for path, size in known.files.items())
        if lost or not known.complete:
            what = (
                f"{lost} of its {len(known.files)} files are missing or cut short" if lost else "rendering was cut off"
            )
            raise GenreclsError(f"The synth corpus in {root} is incomplete ({what}): {_MEND}.")
        clips = []
        for path in known.files:
            genre, group, _ = path.split("/")
            clips.append(Clip(id=path.rsplit(".", 1)[0], path=root / path, genre=genre, group=group))
        return Corpus(name=self.name, root=root, clips=tuple(clips), default_split="grouped")

    def download(self, source: Source, progress: Progress) -> Delivery:
        """Render the corpus (nothing is fetched). Raises GenreclsError as `render` does."""
        root = _root(source)
        render(root, progress=progress)
        return Delivery(root)


LOADER = _Synth()
