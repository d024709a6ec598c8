from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import soundfile

from genrecls.datasets.gtzan import GENRES, LOADER, NAMES, unreadable
from genrecls.datasets.index import AUDIO_SUFFIXES, Corpus
from genrecls.datasets.loader import Source, loader
from genrecls.errors import ConfigError, GenreclsError

FIRST_OF_EACH = [f"{genre}.00000" for genre in GENRES]


def touched(root: Path, clips: Iterable[str], suffix: str = ".wav") -> Path:
    """A folder of empty files: indexing decodes nothing."""
    for clip in clips:
        path = root / clip.split(".")[0] / f"{clip}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def index(tmp_path: Path, data_dir: Path | None = None) -> Corpus:
    return LOADER.index(Source(res=tmp_path / "res", data_dir=data_dir))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = touched(tmp_path_factory.mktemp("gtzan"), NAMES)
    return LOADER.index(Source(res=root / "res", data_dir=root))


def test_the_name_gtzan_means_this_loader() -> None:
    assert loader("gtzan") is LOADER


def test_the_whole_corpus_has_a_thousand_clips_of_ten_genres(whole: Corpus) -> None:
    assert [clip.id for clip in whole.clips] == sorted(NAMES)
    assert Counter(clip.genre for clip in whole.clips) == dict.fromkeys(GENRES, 100)
    assert whole.genres == GENRES
    assert whole.default_split == "filtered"
    assert all(clip.path.name == f"{clip.id}.wav" for clip in whole.clips)


def test_the_filtered_split_has_its_published_counts(whole: Corpus) -> None:
    roles = Counter(clip.official_split for clip in whole.clips)
    assert roles == {"train": 443, "valid": 197, "test": 290, None: 70}
    known = {clip.id: clip.official_split for clip in whole.clips}
    assert (known["blues.00029"], known["blues.00000"], known["blues.00012"]) == ("train", "valid", "test")
    # The unreadable clip is in a published list: it is a clip of the corpus, and the cache says why it has no frames.
    assert known["jazz.00054"] == "train"


def test_artists_are_sturms_and_81_are_unknown(whole: Corpus) -> None:
    artists = {clip.id: clip.group for clip in whole.clips}
    assert sum(artist is None for artist in artists.values()) == 81
    assert len(set(artists.values()) - {None}) == 242
    assert artists["blues.00000"] == "John Lee Hooker"
    assert artists["pop.00012"] == "Aretha Franklin, Celine Dion, Mariah Carey, Shania Twain & Gloria Estefan"


def test_one_artist_has_one_spelling(whole: Corpus) -> None:
    artists = {clip.group for clip in whole.clips if clip.group is not None}
    plain = Counter("".join(c for c in artist.lower().replace(" and ", "&") if c.isalnum()) for artist in artists)
    assert [name for name, count in plain.items() if count > 1] == []
    assert all(artist == " ".join(artist.split()) for artist in artists)
    same = {clip.group for clip in whole.clips if clip.id in {"disco.00016", "disco.00056", "disco.00059"}}
    assert len(same) == 1


def test_the_filtered_split_parts_artists(whole: Corpus) -> None:
    roles: dict[str, set[str]] = {}
    for clip in whole.clips:
        if clip.group is not None and clip.official_split is not None:
            roles.setdefault(clip.group, set()).add(clip.official_split)
    assert {artist: found for artist, found in roles.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    "place", ["", "genres", "gtzan/genres", "gtzan/audio_data", "gtzan/gtzan-music-genre/Data/genres_original"]
)
@pytest.mark.parametrize("suffix", [".wav", ".au", ".mp3", ".WAV"])
def test_finds_the_genre_folders_below_res(tmp_path: Path, place: str, suffix: str) -> None:
    touched(tmp_path / "res" / place, FIRST_OF_EACH, suffix)
    corpus = index(tmp_path)
    assert [clip.id for clip in corpus.clips] == FIRST_OF_EACH
    assert corpus.root == tmp_path / "res" / place
    assert corpus.clips[0].path == tmp_path / "res" / place / "blues" / f"blues.00000{suffix}"


def test_data_dir_is_searched_instead_of_res(tmp_path: Path) -> None:
    touched(tmp_path / "res", NAMES)
    touched(tmp_path / "mine" / "audio_data", FIRST_OF_EACH)
    assert len(index(tmp_path, tmp_path / "mine").clips) == 10
    assert len(index(tmp_path).clips) == 1000


def test_caches_hidden_folders_and_pictures_are_no_corpora(tmp_path: Path) -> None:
    res = tmp_path / "res"
    touched(res / "cache", NAMES)
    touched(res / ".gtzan.part", NAMES)
    touched(res / "Data" / "images_original", NAMES, ".png")
    touched(res / "Data" / "genres_original", FIRST_OF_EACH)
    assert index(tmp_path).root == res / "Data" / "genres_original"


def test_of_two_folders_the_fuller_is_taken_and_of_equals_the_first(tmp_path: Path) -> None:
    touched(tmp_path / "res" / "a", FIRST_OF_EACH)
    touched(tmp_path / "res" / "c", [*FIRST_OF_EACH, "rock.00001"])
    touched(tmp_path / "res" / "b", [*FIRST_OF_EACH, "pop.00001"])
    assert index(tmp_path).root == tmp_path / "res" / "b"


def test_a_complete_folder_goes_before_a_fuller_one_that_lacks_a_genre(tmp_path: Path) -> None:
    touched(tmp_path / "res" / "a", [name for name in NAMES if not name.startswith("rock")])
    touched(tmp_path / "res" / "b", FIRST_OF_EACH)
    assert index(tmp_path).root == tmp_path / "res" / "b"


def test_a_clip_in_two_formats_is_one_clip(tmp_path: Path) -> None:
    root = touched(tmp_path / "res", FIRST_OF_EACH, ".au")
    touched(root, ["blues.00000", "rock.00000"], ".wav")
    touched(root, ["blues.00000", "jazz.00000"], ".mp3")
    suffixes = {clip.id: clip.path.suffix for clip in index(tmp_path).clips}
    assert len(suffixes) == 10
    assert (suffixes["blues.00000"], suffixes["rock.00000"], suffixes["jazz.00000"]) == (".wav", ".wav", ".au")


def test_every_kind_of_audio_file_is_taken(tmp_path: Path) -> None:
    root = touched(tmp_path / "res", FIRST_OF_EACH)
    more = [f"rock.{number:05d}" for number in range(1, 1 + len(AUDIO_SUFFIXES))]
    for clip, suffix in zip(more, sorted(AUDIO_SUFFIXES), strict=True):
        touched(root, [clip], suffix)
    assert set(more) < {clip.id for clip in index(tmp_path).clips}


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    root = touched(tmp_path / "res", FIRST_OF_EACH)
    (root / "blues" / "._blues.00000.wav").touch()
    (root / "blues" / "notes.txt").touch()
    (root / "blues" / "old.wav").mkdir()
    assert len(index(tmp_path).clips) == 10


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    root = touched(tmp_path / "res" / "genres", FIRST_OF_EACH)
    (root / "again").symlink_to(tmp_path / "res", target_is_directory=True)
    assert index(tmp_path).root == root


def test_a_linked_corpus_is_found(tmp_path: Path) -> None:
    touched(tmp_path / "elsewhere" / "genres", FIRST_OF_EACH)
    (tmp_path / "res").mkdir()
    (tmp_path / "res" / "gtzan").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert index(tmp_path).root == tmp_path / "res" / "gtzan" / "genres"


@pytest.mark.parametrize("name", ["song.wav", "blues.00100.wav", "blues.0001.wav", "rock.00001.wav", "song.ogg"])
def test_audio_that_is_not_gtzans_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    root = touched(tmp_path / "res", FIRST_OF_EACH)
    (root / "blues" / name).touch()
    with pytest.raises(GenreclsError, match=f"blues/{name} in GTZAN's folders"):
        index(tmp_path)


def test_missing_genres_are_named(tmp_path: Path) -> None:
    root = touched(tmp_path / "res", [clip for clip in FIRST_OF_EACH if clip[:4] not in {"jazz", "rock"}])
    (root / "rock").mkdir()
    with pytest.raises(GenreclsError, match="lacks GTZAN's genre folders jazz, rock or any clip in them"):
        index(tmp_path)


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_found_says_how_to_get_it(tmp_path: Path, exists: bool) -> None:
    if exists:
        touched(tmp_path / "res" / "my own", ["rock.song"])
    with pytest.raises(GenreclsError, match=r"not below .*res .*`genrecls download gtzan`.*--data-dir"):
        index(tmp_path)


def test_a_data_dir_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    touched(tmp_path / "res", FIRST_OF_EACH)
    with pytest.raises(ConfigError, match=r"--data-dir .*nowhere: no such folder"):
        index(tmp_path, tmp_path / "nowhere")


def test_unreadable_clips_are_told_with_a_reason(tmp_path: Path) -> None:
    root = touched(tmp_path / "res", FIRST_OF_EACH)
    for clip in FIRST_OF_EACH:
        soundfile.write(root / clip.split(".")[0] / f"{clip}.wav", [0.1] * 100, 22050)
    (root / "jazz" / "jazz.00000.wav").write_bytes(b"no music here")
    (root / "pop" / "pop.00000.wav").unlink()
    (root / "pop" / "pop.00000.au").write_bytes(b"no music here")
    seen: list[tuple[int, int]] = []
    found = unreadable(index(tmp_path), lambda what, done, total: seen.append((done, total)))
    assert [clip.clip for clip in found] == ["jazz.00000", "pop.00000"]
    assert all(clip.reason for clip in found)
    assert seen == [(done, 10) for done in range(1, 11)]
