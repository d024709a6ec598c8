"""GTZAN (Tzanetakis and Cook 2002): 1000 clips of 30 s, ten genres, with its fault-filtered split and its artists."""

import csv
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import get_args

import soundfile

from genrecls.datasets import kaggle
from genrecls.datasets.archive import BadArchive, is_zip, unpacked
from genrecls.datasets.index import AUDIO_SUFFIXES, Clip, Corpus, Role
from genrecls.datasets.loader import Delivery, Progress, Source
from genrecls.errors import ConfigError, GenreclsError
from genrecls.lock import Taken, exclusive

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
CLIPS_PER_GENRE = 100
NAMES = frozenset(f"{genre}.{number:05d}" for genre in GENRES for number in range(CLIPS_PER_GENRE))
KNOWN_UNREADABLE = frozenset({"jazz.00054"})
"""Damaged in the public archives."""
KAGGLE_DATASET = "achgls/gtzan-music-genre"

_DEPTH = 5
"""How far below the starting folder the genre folders may lie: res/gtzan/gtzan-music-genre/Data/genres_original."""
_SUFFIXES = (".wav", ".au", ".flac", ".aiff", ".aif", ".ogg", ".mp3")
"""Which file is taken where one tree has a clip in several formats: the first of these. Lossy ones come last."""
_ROOM = 2.7e9
"""Bytes: 1.3 GB of 16-bit samples, which a ZIP file hardly shrinks, once packed and once unpacked."""


@dataclass(frozen=True)
class Unreadable:
    """A clip whose header cannot be read, and why."""

    clip: str
    reason: str


class Gtzan:
    """The loader. The corpus is any folder with ten genre folders of files called `<genre>.<NNNNN>.<suffix>`.

    It is searched up to five folders deep below `--data-dir`, or below `res/` without its caches; hidden folders are
    passed over. Of several such folders the one with the most clips is taken, and of equals the one whose path
    comes first. A subset of the 1000 clips is a corpus, too, as long as every genre has one. Other audio in a genre
    folder is an error, since no list says in which subset it belongs; other files and folders there are left alone.
    Of a clip in several formats one file is taken: .wav, .au, .flac, .aiff, .aif, .ogg, .mp3, in this order.
    """

    name = "gtzan"
    takes_groups = False

    def index(self, source: Source) -> Corpus:
        """Clips with their role in the fault-filtered split (443/197/290) and, as group, their artist.

        None of the 1000 clips has to have either: 70 are in no list, 81 have no known artist.
        Raises ConfigError for a `data_dir` that is no folder; GenreclsError where the genre folders are not found,
        some are missing, or hold audio that is not GTZAN's.
        """
        trees = _trees(source)
        if not trees:
            where = source.data_dir or source.res
            raise GenreclsError(
                f"GTZAN is not below {where} (ten folders {GENRES[0]} to {GENRES[-1]} with files such as "
                "blues.00000.wav): run `genrecls download gtzan`, name its folder with --data-dir, or use --dataset "
                "folder for audio of your own."
            )
        best = trees[0]
        if best.missing:
            raise GenreclsError(
                f"{best.root} lacks GTZAN's genre folders {', '.join(best.missing)} or any clip in them: add them, or "
                "use --dataset folder for a choice of genres."
            )
        return _corpus(best)

    def download(self, source: Source, progress: Progress) -> Delivery:
        """Bring the 1000 clips from Kaggle to `res/gtzan/gtzan-music-genre` (or below data_dir) and check them.

        Where they are already found, they are checked and nothing is fetched. An archive that lies in the folder
        whole is unpacked without the network. Raises GenreclsError with what to do by hand.
        """
        found = _trees(source) if source.data_dir is None or source.data_dir.exists() else []
        if found and not found[0].absent:
            delivery = _checked(found[0], progress)
            return replace(delivery, remarks=("All clips were there: nothing was fetched.", *delivery.remarks))
        folder = source.data_dir or source.res / "gtzan"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with exclusive(folder / ".download.lock"):
                return _fetch(folder, progress)
        except Taken as error:
            raise GenreclsError(f"Another download to {folder} is under way: wait until it has ended.") from error
        except OSError as error:
            raise GenreclsError(
                f"GTZAN could not be written to {folder} ({error.strerror or error}): mend that, or choose another "
                "place with --res or --data-dir."
            ) from error


LOADER = Gtzan()


def unreadable(corpus: Corpus, progress: Progress) -> list[Unreadable]:
    """The clips whose header libsndfile cannot read, or that have no samples. Reads headers only."""
    found = []
    for done, clip in enumerate(corpus.clips, 1):
        try:
            header = soundfile.info(os.fsencode(clip.path))
            # A file called .au without a header is "RAW" to libsndfile: any bytes are.
            if header.format == "RAW" or header.frames == 0:
                found.append(Unreadable(clip.id, "holds no audio"))
        except soundfile.LibsndfileError as error:
            found.append(Unreadable(clip.id, error.error_string))
        progress("checking", done, len(corpus.clips))
    return found


@dataclass(frozen=True)
class _Tree:
    """A folder with genre folders. files: the file of each clip by its id. foreign: other audio there."""

    root: Path
    files: dict[str, Path]
    foreign: tuple[Path, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Genres without a clip."""
        held = {clip.split(".")[0] for clip in self.files}
        return tuple(genre for genre in GENRES if genre not in held)

    @property
    def absent(self) -> list[str]:
        """Clips of GTZAN that are not there and should be."""
        return sorted(NAMES - KNOWN_UNREADABLE - self.files.keys())


def _trees(source: Source) -> list[_Tree]:
    """Every folder that has clips of GTZAN in genre folders, the best first."""
    start = source.data_dir if source.data_dir is not None else source.res
    if source.data_dir is not None and not start.is_dir():
        raise ConfigError(f"--data-dir {start}: no such folder.")
    skipped = source.res / "cache"
    found = [_tree(folder) for folder in _folders(start, skipped, _DEPTH, frozenset())]
    # Not by str(root): "a/b" comes before "a-b" as a path does.
    return sorted(
        (tree for tree in found if tree.files), key=lambda tree: (len(tree.missing), -len(tree.files), tree.root.parts)
    )


def _folders(folder: Path, skipped: Path, depth: int, above: frozenset[Path]) -> Iterator[Path]:
    """`folder` and the folders below it that may hold genre folders. `above` breaks circles of links."""
    real = folder.resolve()
    if real in above or folder == skipped or not folder.is_dir():
        return
    yield folder
    if depth == 0:
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except PermissionError:
        return
    for name in names:
        if not (name.startswith(".") or name in GENRES):
            yield from _folders(folder / name, skipped, depth - 1, above | {real})


def _tree(root: Path) -> _Tree:
    chosen: dict[str, Path] = {}
    foreign = []
    for genre in GENRES:
        if not (root / genre).is_dir():
            continue
        for path in _children(root / genre):
            suffix = path.suffix.lower()
            if path.name.startswith(".") or suffix not in AUDIO_SUFFIXES or path.is_dir():
                continue
            if path.stem not in NAMES or not path.stem.startswith(f"{genre}."):
                foreign.append(path)
            elif path.stem not in chosen or _rank(path) < _rank(chosen[path.stem]):
                chosen[path.stem] = path
    return _Tree(root, chosen, tuple(foreign))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise GenreclsError(f"The folder {folder} cannot be read ({error.strerror}): mend that or move it.") from error


def _rank(path: Path) -> int:
    return _SUFFIXES.index(path.suffix.lower())


def _corpus(tree: _Tree) -> Corpus:
    if tree.foreign:
        more = f" and {len(tree.foreign) - 1} more files" if len(tree.foreign) > 1 else ""
        raise GenreclsError(
            f"{tree.foreign[0]}{more} in GTZAN's folders: GTZAN's clips are called blues.00000 to rock.00099 and lie "
            "in their genre's folder, so move it away, or use --dataset folder."
        )
    roles, artists = _roles(), _artists()
    clips = tuple(
        Clip(id=clip, path=path, genre=clip.split(".")[0], group=artists.get(clip), official_split=roles.get(clip))
        for clip, path in tree.files.items()
    )
    return Corpus("gtzan", tree.root, clips, default_split="filtered")


def _data(name: str) -> list[str]:
    """The lines of a file of package data, without the comments that name its source."""
    text = files("genrecls.datasets").joinpath("data", name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


@cache
def _roles() -> dict[str, Role]:
    """The fault-filtered split: role by clip id."""
    roles: tuple[Role, ...] = get_args(Role)
    return {clip: role for role in roles for clip in _data(f"gtzan_{role}.txt")}


@cache
def _artists() -> dict[str, str]:
    """Sturm's index: artist by clip id, where known."""
    return {row["clip"]: row["artist"] for row in csv.DictReader(_data("gtzan_artists.csv"))}


def _fetch(folder: Path, progress: Progress) -> Delivery:
    target = folder / KAGGLE_DATASET.split("/")[1]
    by_hand = f"or unpack the archive from {kaggle.page(KAGGLE_DATASET)} into {folder} by hand"
    if target.exists():
        raise GenreclsError(
            f"{target} is there and does not hold all of GTZAN: move it away and run `genrecls download gtzan` again."
        )
    archive = kaggle.archive(KAGGLE_DATASET, folder)
    if kaggle.partial(KAGGLE_DATASET, folder) or not is_zip(archive):
        have = archive.stat().st_size if archive.is_file() else 0
        free = shutil.disk_usage(folder).free
        if free < _ROOM - have:
            raise GenreclsError(
                f"GTZAN and its archive take {(_ROOM - have) / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB left: "
                "make room, or choose another place with --res or --data-dir."
            )
        try:
            archive = kaggle.download(KAGGLE_DATASET, folder, progress)
        except kaggle.KaggleError as error:
            raise GenreclsError(
                f"Kaggle's client could not download {KAGGLE_DATASET} ({error}): run `genrecls download gtzan` again, "
                f"{by_hand}."
            ) from error
    try:
        with unpacked(archive, target, progress) as fresh:
            _check_content(fresh)
    except BadArchive as error:
        archive.unlink()
        raise GenreclsError(
            f"The archive {archive} was of no use and is removed, since {error}: run `genrecls download gtzan` again, "
            f"{by_hand}."
        ) from error
    archive.unlink()
    tree = _trees(Source(res=folder, data_dir=target))[0]
    return _checked(tree, progress)


def _check_content(folder: Path) -> None:
    trees = _trees(Source(res=folder, data_dir=folder))
    if not trees:
        raise BadArchive("it holds no folders of GTZAN's genres")
    if absent := trees[0].absent:
        raise BadArchive(f"it lacks {len(absent)} of GTZAN's 1000 clips, {absent[0]} for one")


def _checked(tree: _Tree, progress: Progress) -> Delivery:
    """Raises GenreclsError where a clip cannot be read that others can read."""
    corpus = _corpus(tree)
    found = unreadable(corpus, progress)
    damaged = [each for each in found if each.clip not in KNOWN_UNREADABLE]
    if damaged:
        raise GenreclsError(
            f"{len(damaged)} of the {len(corpus.clips)} clips in {corpus.root} cannot be read, {damaged[0].clip} for "
            f"one ({damaged[0].reason}): move that folder away and run `genrecls download gtzan` again, or go on "
            "without them."
        )
    return Delivery(
        tree.root, tuple(f"{each.clip} cannot be decoded ({each.reason}) and will be left out." for each in found)
    )
