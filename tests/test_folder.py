import os
import unicodedata
from pathlib import Path

import pytest

from genrecls.datasets.folder import LOADER
from genrecls.datasets.index import Corpus
from genrecls.datasets.loader import Source, loader
from genrecls.errors import ConfigError, GenreclsError


def touched(root: Path, *files: str) -> Path:
    """A folder of empty files: indexing decodes nothing."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def index(root: Path, groups: Path | None = None) -> Corpus:
    return LOADER.index(Source(res=root.parent / "res", data_dir=root, groups=groups))


def ids(corpus: Corpus) -> list[str]:
    return [clip.id for clip in corpus.clips]


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return touched(tmp_path / "music", "rock/a.wav", "rock/album/b.flac", "jazz/a.wav", "jazz/c.mp3")


def test_the_name_folder_means_this_loader() -> None:
    assert loader("folder") is LOADER


def test_clips_are_named_by_their_path_and_labelled_by_its_first_folder(music: Path) -> None:
    corpus = index(music)
    assert [(clip.id, clip.genre, clip.path) for clip in corpus.clips] == [
        ("jazz/a.wav", "jazz", music / "jazz/a.wav"),
        ("jazz/c.mp3", "jazz", music / "jazz/c.mp3"),
        ("rock/a.wav", "rock", music / "rock/a.wav"),
        ("rock/album/b.flac", "rock", music / "rock/album/b.flac"),
    ]
    assert corpus.default_split == "random"
    assert all(clip.group is None and clip.official_split is None for clip in corpus.clips)


def test_every_audio_suffix_in_either_case_and_nothing_else(tmp_path: Path) -> None:
    names = ["1.wav", "2.flac", "3.mp3", "4.ogg", "5.au", "6.aiff", "7.aif", "8.WAV", "9.Mp3"]
    root = touched(tmp_path / "music", "jazz/a.wav", *(f"rock/{name}" for name in names), "rock/a.txt", "rock/a.png")
    assert ids(index(root)) == ["jazz/a.wav", *(f"rock/{name}" for name in names)]


def test_hidden_files_and_stray_audio_are_passed_over(music: Path) -> None:
    touched(
        music, ".x/a.wav", "__MACOSX/rock/a.wav", "rock/._a.wav", "rock/.trash/a.wav", "rock/__MACOSX/a.wav", "s.wav"
    )
    assert len(index(music).clips) == 4


def test_a_label_without_audio_is_no_genre(music: Path) -> None:
    touched(music, "covers/a.jpg")
    assert index(music).genres == ("jazz", "rock")


def test_names_agree_between_systems_that_spell_accents_differently(tmp_path: Path) -> None:
    name = "bossa nóva/João.wav"
    composed, decomposed = unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)
    assert composed != decomposed
    first = index(touched(tmp_path / "linux", "rock/a.wav", composed))
    second = index(touched(tmp_path / "mac", "rock/a.wav", decomposed))
    assert ids(first) == ids(second) == [composed, "rock/a.wav"]
    assert first.genres == second.genres
    assert all(clip.path.exists() for clip in second.clips)


def test_a_name_that_is_not_utf8_is_an_error(music: Path) -> None:
    try:
        touched(music, "rock/" + os.fsdecode(b"caf\xe9.wav"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(GenreclsError, match="not valid UTF-8: rename it"):
        index(music)


@pytest.mark.parametrize("target", ["..", ".", "../..", "loop"])
def test_circles_of_links_end_and_add_nothing(music: Path, target: str) -> None:
    (music / "rock" / "loop").symlink_to(target, target_is_directory=True)
    assert len(index(music).clips) == 4


def test_linked_labels_and_files_are_followed(music: Path, tmp_path: Path) -> None:
    touched(tmp_path / "elsewhere", "x.wav")
    (music / "pop").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (music / "rock" / "y.wav").symlink_to(tmp_path / "elsewhere" / "x.wav")
    assert {"pop/x.wav", "rock/y.wav"} < set(ids(index(music)))


def test_groups_come_from_the_csv(music: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text(
        "\ufeffclip,year,group\njazz/a.wav,1959,Miles\n\nrock/a.wav,1970,  Queen \nrock/a.wav,,Queen\njazz/c.mp3,,\n",
        encoding="utf-8",
    )
    corpus = index(music, groups)
    assert LOADER.takes_groups
    assert corpus.default_split == "grouped"
    assert {clip.id: clip.group for clip in corpus.clips} == {
        "jazz/a.wav": "Miles",
        "jazz/c.mp3": None,
        "rock/a.wav": "Queen",
        "rock/album/b.flac": None,
    }


def test_the_csv_may_spell_accents_either_way(tmp_path: Path) -> None:
    root = touched(tmp_path / "music", "rock/a.wav", unicodedata.normalize("NFC", "jazz/João.wav"))
    groups = tmp_path / "groups.csv"
    groups.write_text(unicodedata.normalize("NFD", "clip,group\njazz/João.wav,João\n"), encoding="utf-8")
    assert index(root, groups).clips[0].group == unicodedata.normalize("NFC", "João")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", r"lacks the column clip and group: its first line must be clip,group\.$"),
        ("clip,artist\nrock/a.wav,Queen\n", "lacks the column group"),
        ("clip;group\nrock/a.wav;Queen\n", "lacks the column clip and group"),
        ("clip,group\nrock/a.wav,Queen\nrock/zzz.wav,Queen\n", "line 3: there is no clip 'rock/zzz.wav'"),
        ("clip,group\nrock/a,Queen\n", "line 2: there is no clip 'rock/a'; .* with its suffix"),
        ("clip,group\nrock/a.wav,Queen\nrock/a.wav,ABBA\n", "line 3: 'rock/a.wav' is in the groups 'Queen' and 'ABBA'"),
        ("clip,group\nrock/a.wav,Queen\nrock/a.wav,\n", "line 3: 'rock/a.wav' is in the groups 'Queen' and ''"),
        ("clip,group\nrock/a.wav,\n", "names no group"),
    ],
)
def test_a_wrong_csv_is_an_error_that_says_where(music: Path, tmp_path: Path, content: str, sentence: str) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text(content)
    with pytest.raises(GenreclsError, match=sentence) as raised:
        index(music, groups)
    assert str(groups) in str(raised.value)


def test_a_csv_that_cannot_be_read_is_an_error(music: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--groups .*none\.csv: no such file"):
        index(music, tmp_path / "none.csv")
    with pytest.raises(ConfigError, match=r"--groups .*: cannot be read"):
        index(music, tmp_path)
    (tmp_path / "latin.csv").write_bytes("clip,group\nrock/a.wav,Björk\n".encode("latin-1"))
    with pytest.raises(GenreclsError, match="is not a CSV file in UTF-8"):
        index(music, tmp_path / "latin.csv")


def test_a_folder_must_be_given_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs --data-dir DIR"):
        LOADER.index(Source(res=tmp_path))
    with pytest.raises(ConfigError, match=r"--data-dir .*nowhere: no such folder"):
        index(tmp_path / "nowhere")
    touched(tmp_path, "file.wav")
    with pytest.raises(ConfigError, match=r"--data-dir .*file\.wav: is not a folder"):
        index(tmp_path / "file.wav")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "holds no audio files"),
        (["rock/a.txt"], "holds no audio files"),
        (["a.wav", "b.wav"], "lies directly in it: put each genre's files in a folder of its own"),
        (["rock/a.wav", "rock/b.wav"], "only the genre 'rock', and a classifier needs at least two"),
    ],
    ids=["empty", "no audio", "no labels", "one label"],
)
def test_a_folder_that_is_no_corpus_says_what_is_wrong(tmp_path: Path, files: list[str], sentence: str) -> None:
    (tmp_path / "music").mkdir()
    with pytest.raises(GenreclsError, match=sentence):
        index(touched(tmp_path / "music", *files))


def test_there_is_nothing_to_download(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to download"):
        LOADER.download(Source(res=tmp_path), lambda *_: None)
