"""Any folder of folders: `DIR/<label>/**/*.{wav,flac,mp3,ogg,au,aiff,aif}`."""

import io
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from genrecls import reading
from genrecls.datasets.index import AUDIO_SUFFIXES, Clip, Corpus
from genrecls.datasets.loader import Delivery, Progress, Source
from genrecls.errors import ConfigError, GenreclsError
from genrecls.reading import Damaged


class Folder:
    """The loader. A clip's id is its path relative to DIR, with "/" and its suffix, in Unicode's form NFC.

    So ids agree between systems that store "é" in different ways. Its label is the first folder of that path.
    Passed over: hidden files and folders, `__MACOSX`, files that are not audio by their suffix (upper or lower case),
    and audio directly in DIR, which has no label. Links are followed, each folder once below a label.
    """

    name = "folder"
    takes_groups = True

    def index(self, source: Source) -> Corpus:
        """Clips with their group where `source.groups` names one; no clip has an official split.

        `source.groups` is a CSV with the columns clip and group: clip ids, and an artist or recording each. Clips
        it does not name, or with an empty group, are groups of one.
        Raises ConfigError where no folder is given or it, or the CSV, is not there; GenreclsError where the folder
        has no audio below a label, or the CSV lacks a column, names an unknown clip or one clip in two groups.
        """
        root = _root(source)
        clips = list(_clips(root))
        if not clips:
            raise GenreclsError(_why_nothing(root))
        groups = _groups(source.groups, {clip.id for clip in clips}) if source.groups is not None else {}
        return Corpus(
            self.name,
            root,
            tuple(Clip(clip.id, clip.path, clip.genre, groups.get(clip.id)) for clip in clips),
            default_split="grouped" if groups else "random",
        )

    def download(self, source: Source, progress: Progress) -> Delivery:
        """Always raises ConfigError: the audio is the user's own."""
        raise ConfigError("The dataset folder is audio of your own, so there is nothing to download.")


LOADER = Folder()


def _root(source: Source) -> Path:
    if source.data_dir is None:
        raise ConfigError("The dataset folder needs --data-dir DIR, the folder with a folder for each genre.")
    if not source.data_dir.is_dir():
        what = "is not a folder" if source.data_dir.exists() else "no such folder"
        raise ConfigError(f"--data-dir {source.data_dir}: {what}.")
    return source.data_dir


def _clips(root: Path) -> Iterator[Clip]:
    for label in _visible(root):
        if label.is_dir():
            for path in _audio(label, {root.resolve()}):
                yield Clip(_id(path, root), path, _nfc(label.name))


def _audio(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Audio files below `folder`; folders in `seen`, to which those visited are added, are left out."""
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    for path in _visible(folder):
        if path.is_dir():
            yield from _audio(path, seen)
        elif _is_audio(path):
            yield path


def _visible(folder: Path) -> list[Path]:
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise GenreclsError(
            f"The folder {folder} cannot be read ({error.strerror}): mend that or move it away."
        ) from error
    return [path for path in children if not path.name.startswith(".") and path.name != "__MACOSX"]


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES


def _id(path: Path, root: Path) -> str:
    relative = path.relative_to(root).as_posix()
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError as error:
        raise GenreclsError(f"The name of {relative!r} in {root} is not valid UTF-8: rename it.") from error
    return _nfc(relative)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _why_nothing(root: Path) -> str:
    kinds = ", ".join(sorted(suffix[1:] for suffix in AUDIO_SUFFIXES))
    if any(_is_audio(path) for path in _visible(root)):
        return f"The audio of {root} lies directly in it: put each genre's files in a folder of its own below it."
    return f"{root} holds no audio files ({kinds}) in folders below it: put each genre's files in a folder of its own."


def _groups(file: Path, clips: set[str]) -> dict[str, str]:
    """Group by clip id, from the CSV `file`."""
    try:
        content = reading.read_bytes(file, reading.LONGEST_TABLE)
    except FileNotFoundError as error:
        raise ConfigError(f"--groups {file}: no such file.") from error
    except (OSError, Damaged) as error:
        raise ConfigError(f"--groups {file}: cannot be read ({getattr(error, 'strerror', error)}).") from error
    try:
        lines = reading.csv_lines(io.StringIO(reading.text(content), newline=""))
        (_, columns), *rows = [*lines] or [(1, [])]
    except Damaged as error:
        raise GenreclsError(f"--groups {file} is not a CSV file in UTF-8 ({error}): save it as one.") from error
    if missing := [column for column in ("clip", "group") if column not in columns]:
        raise GenreclsError(
            f"--groups {file} lacks the column {' and '.join(missing)}: its first line must be clip,group."
        )
    if torn := [line for line, cells in rows if len(cells) > len(columns)]:
        raise GenreclsError(
            f"--groups {file}, line {torn[0]} has more values than there are columns: put a name with a comma in "
            "double quotes."
        )
    groups: dict[str, str] = {}
    named: dict[str, str] = {}
    for line, cells in rows:
        row = dict(zip(columns, cells, strict=False))  # What a short line lacks is empty.
        clip, group = _nfc(row.get("clip", "")), _nfc(row.get("group", "")).strip()
        if clip not in clips:
            raise GenreclsError(
                f"--groups {file}, line {line}: there is no clip {clip!r}; a clip is named by its path below the "
                "folder, with its suffix, such as rock/song.wav."
            )
        if named.setdefault(clip, group) != group:
            raise GenreclsError(
                f"--groups {file}, line {line}: {clip!r} is in the groups {named[clip]!r} and {group!r}; name it once."
            )
        if group:
            groups[clip] = group
    if not groups:
        raise GenreclsError(f"--groups {file} names no group: fill it, or leave --groups out.")
    return groups
