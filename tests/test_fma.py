"""FMA: its list of tracks, its faults, its download from a stand-in for its server, and a run on it."""

import csv
import hashlib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY, CommandLine
from fma_tree import SYNTH, Line, lines, mp3, table, write_audio, write_table
from web import Server, serving, without_proxies

from genrecls.cli.main import status
from genrecls.datasets import transfer
from genrecls.datasets.fma import delivery
from genrecls.datasets.fma.corpus import KNOWN_FAULTS
from genrecls.datasets.fma.tracks import read
from genrecls.datasets.loader import Source, loader
from genrecls.errors import GenreclsError
from genrecls.lock import exclusive

SMALL = loader("fma-small")
LISTED = (*lines(), *(Line(number, "Rock", "900") for number in (98565, 133297)))
"""What the small corpus lists, two tracks of no use among them."""


def quiet(what: str, done: int, total: int) -> None:
    pass


class TestTheListOfTracks:
    def written(self, folder: Path, text: str) -> Path:
        path = folder / "tracks.csv"
        path.write_text(text, encoding="utf-8", newline="")
        return path

    def test_is_read_through_texts_with_commas_quotes_and_line_ends(self, tmp_path: Path) -> None:
        listed = [
            Line(2, "Hip-Hop", "1"),
            Line(10, "Old-Time / Historic", "6", "validation", "medium"),
            Line(155320, "", "24357", "test", "large"),
        ]
        read_back = [
            (track.id, track.genre, track.artist, track.split, track.subset)
            for track in read(self.written(tmp_path, table(listed)))
        ]
        assert read_back == [
            (2, "Hip-Hop", "1", "train", "small"),
            (10, "Old-Time / Historic", "6", "valid", "medium"),
            (155320, None, "24357", "test", "large"),
        ]

    def test_the_limit_of_the_csv_module_is_left_as_it_was(self, tmp_path: Path) -> None:
        before = csv.field_size_limit()
        read(self.written(tmp_path, table([Line(10, "Rock", "1")])))
        assert csv.field_size_limit() == before == 2**17

    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            (lambda text: "", r"is not FMA's list of tracks \(it lacks the row of track_id"),
            (lambda text: text.split("\n", 1)[1], r"it lacks the row of track_id below two rows of names"),
            (lambda text: text.replace("genre_top", "genre"), "it lacks the column track, genre_top"),
            (lambda text: text[: text.index("\ntrack_id")] + "\ntrack_id\n", "names no track"),
            (lambda text: text.replace(",training,small", ",training,tiny"), "the subset 'tiny' is none of small"),
            (lambda text: text.replace(",training,small", ",train,small"), "the split 'train' is none of training"),
            (
                lambda text: text[: text.rindex("1970")],
                r"is damaged \(line \d+ is not valid CSV: unexpected end",
            ),
            (lambda text: text[: text.rindex(",small")], r"is damaged \(line \d+: it is cut short"),
        ],
    )
    def test_what_is_no_such_list_is_said(self, tmp_path: Path, edit: Callable[[str], str], words: str) -> None:
        path = self.written(tmp_path, edit(table([Line(2, "Rock", "1"), Line(3, "Rock", "1")])))
        with pytest.raises(GenreclsError, match=words) as raised:
            read(path)
        assert str(raised.value).endswith("remove it and run `genrecls download` again.")
        assert "\n" not in str(raised.value)

    def test_another_encoding_is_said(self, tmp_path: Path) -> None:
        path = tmp_path / "tracks.csv"
        path.write_bytes(table([Line(2, "Rock", "1")]).encode("utf-16"))
        with pytest.raises(GenreclsError, match=r"tracks\.csv is damaged \(it is not UTF-8"):
            read(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """All three subsets of one list of tracks, their files empty: small in medium in large."""
    root = tmp_path / "fma"
    small, medium = list(lines()), [Line(5000, "Jazz", "500", subset="medium"), Line(5001, "", "501", subset="medium")]
    large = [Line(100000 + i, "Rock" if i < 2 else "", "600", "test", "large") for i in range(5)]
    write_table(root, [*large, *medium, *small])
    write_audio(root, "small", small, b"x")
    write_audio(root, "medium", [*small, *medium], b"x")
    write_audio(root, "large", [*small, *medium, *large], b"x")
    return root


class TestIndexing:
    def test_a_larger_corpus_holds_the_smaller(self, tree: Path) -> None:
        ids = {}
        for name in ("small", "medium", "large"):
            corpus = loader(f"fma-{name}").index(Source(tree.parent))
            assert corpus.name == f"fma-{name}"
            assert corpus.root == tree
            assert all(clip.path == tree / f"fma_{name}" / clip.id[:3] / f"{clip.id}.mp3" for clip in corpus.clips)
            ids[name] = {clip.id for clip in corpus.clips}
        assert ids["medium"] - ids["small"] == {"005000"}
        assert ids["large"] - ids["medium"] == {"100000", "100001"}

    def test_tracks_without_a_top_genre_are_dropped_and_counted(self, tree: Path) -> None:
        remarks = {name: loader(f"fma-{name}").index(Source(tree.parent)).remarks for name in ("small", "large")}
        assert remarks == {
            "small": (),
            "large": ("4 of the 71 tracks of fma-large have no top genre and are left out.",),
        }

    def test_artist_split_and_genre(self, tree: Path) -> None:
        corpus = SMALL.index(Source(Path("/nowhere"), data_dir=tree))
        first = corpus.clips[0]
        assert (first.id, first.genre, first.group, first.official_split) == ("001991", "Electronic", "0", "train")
        assert corpus.genres == tuple(sorted(SYNTH))
        assert corpus.default_split == "official"
        assert Counter(clip.official_split for clip in corpus.clips) == {"train": 32, "valid": 16, "test": 16}

    def test_a_corpus_that_is_not_there(self, tree: Path) -> None:
        with pytest.raises(
            GenreclsError, match=r"fma-small is not in .*nowhere/fma \(no fma_metadata/tracks\.csv\): run"
        ):
            SMALL.index(Source(tree / "nowhere"))
        (tree / "fma_small").rename(tree / "other")
        with pytest.raises(GenreclsError, match=r"\(no fma_small\): run `genrecls download fma-small`, or name by"):
            SMALL.index(Source(tree.parent))

    def test_a_file_that_is_absent_moves_no_other_track(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = SMALL.index(Source(tree.parent))
        (tree / "fma_small/001/001995.mp3").unlink()
        with pytest.raises(GenreclsError) as raised:
            SMALL.index(Source(tree.parent))
        assert str(raised.value) == (
            f"1 of the 64 tracks of fma-small have no file in {tree}/fma_small (001/001995.mp3 for one): move that "
            "folder away and run `genrecls download fma-small`, or use --dataset folder for a choice of tracks."
        )
        # One of 64 is more than 1 %; of more tracks it would be a hole.
        monkeypatch.setattr("genrecls.datasets.fma.corpus.MOST_ABSENT", 1 / 64)
        after = SMALL.index(Source(tree.parent))
        assert after.clips == before.clips
        assert after.remarks == (
            f"1 of the 64 tracks of fma-small have no file in {tree}/fma_small and are left out (001/001995.mp3 for "
            "one).",
        )

    def test_known_faults_are_said_and_need_no_file(self, tree: Path) -> None:
        write_table(tree, [*lines(), *(Line(number, "Rock", "1") for number in KNOWN_FAULTS)])
        corpus = SMALL.index(Source(tree.parent))
        found = {clip.id: clip.known_fault for clip in corpus.clips if clip.known_fault is not None}
        assert {clip: fault[0] for clip, fault in found.items()} == {
            **dict.fromkeys(("099134", "108925", "133297"), "unreadable"),
            **dict.fromkeys(("098565", "098567", "098569"), "short"),
        }
        assert corpus.remarks == ()


def packed(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_BZIP2) -> bytes:
    """A ZIP file as FMA's are: bzip2, all below one folder."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(f"{path.stem}/{name}", content)
    return path.read_bytes()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The two archives by name: music, and the list of tracks among what nobody needs."""
    folder = tmp_path_factory.mktemp("published")
    metadata = {"tracks.csv": table(LISTED).encode(), "features.csv": b"0" * 10_000, "not_found.pickle": b"x"}
    sounds = {line.path: mp3(line) if line.id not in KNOWN_FAULTS else b"" for line in LISTED}
    return {
        "fma_metadata.zip": packed(folder / "fma_metadata.zip", metadata),
        "fma_small.zip": packed(folder / "fma_small.zip", {"README.txt": b"FMA", "checksums": b"x", **sounds}),
    }


@pytest.fixture
def server(published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the archives, whose sums and sizes take the place of the published ones."""
    without_proxies(monkeypatch)
    monkeypatch.setattr(transfer, "_PAUSE_SECONDS", 0.0)
    for key in ("metadata", "small"):
        archive = delivery.ARCHIVES[key]
        content = published[archive.name]
        here = replace(archive, sha1=hashlib.sha1(content).hexdigest(), size=len(content), unpacked=len(content))
        monkeypatch.setitem(delivery.ARCHIVES, key, here)
    with serving() as plan:
        plan.files.update(published)
        monkeypatch.setenv("GENRECLS_FMA_URL", plan.url.rstrip("/"))
        yield plan


def fetched(server: Server) -> list[str]:
    return [name for name, _ in server.requests]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".download.lock")


class TestDownloading:
    def test_fetches_verifies_unpacks_and_removes_the_archives(self, tmp_path: Path, server: Server) -> None:
        steps: list[tuple[str, int, int]] = []
        made = SMALL.download(Source(tmp_path), lambda *step: steps.append(step))
        root = tmp_path / "fma"
        assert made.root == root
        assert made.remarks == ()
        assert fetched(server) == ["fma_metadata.zip", "fma_small.zip"]
        assert left(root) == ["fma_metadata", "fma_small"]
        assert left(root / "fma_metadata") == ["tracks.csv"]
        assert (root / "fma_small" / LISTED[0].path).read_bytes() == mp3(LISTED[0])
        size = len(server.files["fma_small.zip"])
        assert {("downloading fma_small.zip", size, size), ("verifying fma_small.zip", size, size)} <= set(steps)
        assert steps[-1] == ("unpacking", len(LISTED) + 2, len(LISTED) + 2)
        assert len(SMALL.index(Source(tmp_path)).clips) == len(LISTED)

    def test_what_is_there_is_not_fetched_again(self, tmp_path: Path, server: Server) -> None:
        SMALL.download(Source(tmp_path), quiet)
        server.files.clear()
        server.requests.clear()
        assert SMALL.download(Source(tmp_path), quiet).remarks == ("All was there: nothing was fetched.",)
        assert server.requests == []

    def test_to_another_folder(self, tmp_path: Path, server: Server) -> None:
        source = Source(tmp_path / "res", data_dir=tmp_path / "big disk")
        assert SMALL.download(source, quiet).root == tmp_path / "big disk"
        assert left(tmp_path) == ["big disk"]
        assert len(SMALL.index(source).clips) == len(LISTED)

    def test_archives_that_lie_there_whole_need_no_network(
        self, tmp_path: Path, server: Server, published: dict[str, bytes]
    ) -> None:
        (tmp_path / "fma").mkdir()
        for name, content in published.items():
            (tmp_path / "fma" / name).write_bytes(content)
        SMALL.download(Source(tmp_path), quiet)
        assert server.requests == []
        assert left(tmp_path / "fma") == ["fma_metadata", "fma_small"]

    def test_an_archive_cut_short_is_gone_on_with(
        self, tmp_path: Path, server: Server, published: dict[str, bytes]
    ) -> None:
        (tmp_path / "fma").mkdir()
        (tmp_path / "fma" / "fma_metadata.zip").write_bytes(published["fma_metadata.zip"][:1000])
        server.cuts = [10]
        SMALL.download(Source(tmp_path), quiet)
        assert server.requests == [
            ("fma_metadata.zip", "bytes=1000-"),
            ("fma_metadata.zip", "bytes=1010-"),
            ("fma_small.zip", None),
        ]
        assert left(tmp_path / "fma") == ["fma_metadata", "fma_small"]

    def test_a_transfer_that_is_given_up_goes_on_by_the_same_command(self, tmp_path: Path, server: Server) -> None:
        SMALL.download(Source(tmp_path), quiet)
        (tmp_path / "fma" / "fma_small").rename(tmp_path / "elsewhere")
        server.requests.clear()
        server.cuts = [100] * 5
        with pytest.raises(GenreclsError) as raised:
            SMALL.download(Source(tmp_path), quiet)
        total = len(server.files["fma_small.zip"])
        assert str(raised.value) == (
            f"{server.url}fma_small.zip could not be downloaded (the transfer was cut off after 500 of {total:,} "
            f"bytes): run the same command again, which goes on where it was, or put the file into {tmp_path}/fma by "
            "hand."
        )
        assert left(tmp_path / "fma") == ["fma_metadata", "fma_small.zip.part"]
        SMALL.download(Source(tmp_path), quiet)
        assert server.requests[-1] == ("fma_small.zip", "bytes=500-")
        assert left(tmp_path / "fma") == ["fma_metadata", "fma_small"]

    @pytest.mark.parametrize("by_hand", [False, True])
    def test_wrong_bytes_are_removed_and_said(self, tmp_path: Path, server: Server, by_hand: bool) -> None:
        wrong = bytearray(server.files["fma_metadata.zip"])
        wrong[100] ^= 1
        if by_hand:
            (tmp_path / "fma").mkdir()
            (tmp_path / "fma" / "fma_metadata.zip").write_bytes(wrong)
        server.files["fma_metadata.zip"] = bytes(wrong)
        with pytest.raises(
            GenreclsError, match=r"fma_metadata\.zip was not the published archive and is removed \(its S"
        ):
            SMALL.download(Source(tmp_path), quiet)
        assert left(tmp_path / "fma") == []

    def test_damaged_bzip2_data_are_said_whatever_the_sum(
        self, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = bytearray(server.files["fma_metadata.zip"])
        wrong[wrong.index(b"BZh") + 4] ^= 1
        server.files["fma_metadata.zip"] = bytes(wrong)
        archive = delivery.ARCHIVES["metadata"]
        sha1 = hashlib.sha1(wrong).hexdigest()
        monkeypatch.setitem(delivery.ARCHIVES, "metadata", replace(archive, sha1=sha1))
        with pytest.raises(
            GenreclsError, match=r"was of no use and is removed, since it is damaged or no ZIP file \(Inv"
        ):
            SMALL.download(Source(tmp_path), quiet)
        assert left(tmp_path / "fma") == []

    @pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
    def test_other_ways_of_packing_are_unpacked_too(
        self, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, method: int
    ) -> None:
        content = packed(tmp_path / "fma_metadata.zip", {"tracks.csv": table(LISTED).encode()}, method)
        server.files["fma_metadata.zip"] = content
        sha1 = hashlib.sha1(content).hexdigest()
        monkeypatch.setitem(delivery.ARCHIVES, "metadata", replace(delivery.ARCHIVES["metadata"], sha1=sha1))
        SMALL.download(Source(tmp_path / "res"), quiet)
        assert len(SMALL.index(Source(tmp_path / "res")).clips) == len(LISTED)

    def test_what_is_in_the_way_is_not_overwritten(self, tmp_path: Path, server: Server) -> None:
        (tmp_path / "fma" / "fma_metadata").mkdir(parents=True)
        with pytest.raises(
            GenreclsError, match=r"fma_metadata is in the way of the files of fma_metadata\.zip: move it"
        ):
            SMALL.download(Source(tmp_path), quiet)
        assert server.requests == []

    def test_no_room_is_found_before_downloading(
        self, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(delivery.ARCHIVES, "small", replace(delivery.ARCHIVES["small"], unpacked=1e18))
        with pytest.raises(GenreclsError, match=r"take 1000000000\.0 GB more and .*/fma has .* GB left: make room"):
            SMALL.download(Source(tmp_path), quiet)
        assert server.requests == []

    def test_two_at_once_do_not_meet(self, tmp_path: Path, server: Server) -> None:
        with (
            exclusive(tmp_path / "fma" / ".download.lock"),
            pytest.raises(GenreclsError, match=r"Another download to .*fma is under way"),
        ):
            SMALL.download(Source(tmp_path), quiet)
        assert server.requests == []

    def test_a_folder_that_cannot_be_made_is_one_sentence(self, tmp_path: Path, server: Server) -> None:
        (tmp_path / "fma").write_text("a file")
        with pytest.raises(GenreclsError, match=r"FMA could not be written to .*/fma \(File exists\): mend that"):
            SMALL.download(Source(tmp_path), quiet)

    @pytest.mark.parametrize(
        ("address", "code", "words"),
        [
            ("ftp://mirror/fma", 2, "GENRECLS_FMA_URL must be an address such as https://os.unil.cloud.switch.ch/fma/"),
            (
                "http://127.0.0.1:9/fma",
                1,
                "http://127.0.0.1:9/fma/fma_metadata.zip could not be downloaded (no connection",
            ),
        ],
    )
    def test_by_the_command_line_a_failure_is_one_sentence(
        self, cli: CommandLine, tmp_path: Path, address: str, code: int, words: str
    ) -> None:
        done = cli("download", "fma-small", "--res", tmp_path, "--json", GENRECLS_FMA_URL=address, no_proxy="*")
        assert (done.status, done.stdout) == (code, "")
        assert done.stderr.startswith(f"Error: {words}")
        assert done.stderr.count("\n") == 1


def test_the_published_addresses_and_sums() -> None:
    """As in the README of github.com/mdeff/fma."""
    assert delivery.PUBLISHED == "https://os.unil.cloud.switch.ch/fma/"
    assert {archive.name: archive.sha1 for archive in delivery.ARCHIVES.values()} == {
        "fma_metadata.zip": "f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
        "fma_small.zip": "ade154f733639d52e35e32f5593efe5be76c6d70",
        "fma_medium.zip": "c67b69ea232021025fca9231fc1c7c1a063ab50b",
        "fma_large.zip": "497109f4dd721066b5ce5e5f250ec604dc78939e",
    }


@pytest.mark.slow
def test_from_the_server_to_a_score(
    cli: CommandLine, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Download, preprocess, train, evaluate, predict; by the official split, with two genres excluded, and without."""
    places = ("--res", tmp_path / "res")
    # In this process, where the stand-in's sums are in the place of the published ones.
    assert status(["download", "fma-small", *map(str, places)]) == 0
    assert capsys.readouterr().out == f"fma-small is in {tmp_path}/res/fma\n"

    features = ("--n-mels", "32")
    made = cli.json("preprocess", "fma-small", *features, *places, "--jobs", "1")
    assert made["clips"] == len(LISTED) - 2
    assert made["failed"] == [
        {"clip": "098565", "reason": "short: known fault of FMA: 1.6 s long"},
        {"clip": "133297", "reason": "unreadable: known fault of FMA: no audio"},
    ]

    runs = ("--runs", tmp_path / "runs")
    some = ("--exclude-genres", " Rock,Hip-Hop ,, Rock")
    trained = cli("train", "--dataset", "fma-small", *TINY, *some, *places, *runs, "--json")
    assert trained.status == 0, trained.stderr
    run = Path(trained.value["run"])
    assert 'exclude_genres = "Hip-Hop,Rock"' in (run / "config.toml").read_text()
    listed = {f"{line.id:06d}": line for line in LISTED}
    roles = {"training": "train", "validation": "valid", "test": "test"}
    with open(run / "spans.csv", newline="") as file:
        spans = {row["clip"]: row["role"] for row in csv.DictReader(file)}
    assert spans == {clip: roles[line.split] for clip, line in listed.items() if line.genre not in ("Rock", "Hip-Hop")}

    scored = cli.json("evaluate", run, *places, *runs)
    assert (scored["split"], scored["clips"]) == ("official", 8)
    assert set(scored["per_genre"]) == {"Electronic", "Old-Time / Historic"}
    guessed = cli.json("predict", run, tmp_path / "res/fma/fma_small" / LISTED[0].path, *runs)
    assert set(guessed["files"][0]["probabilities"]) == {"Electronic", "Old-Time / Historic"}

    other_order = ("--exclude-genres", "Hip-Hop,Rock")
    again = cli.json("train", "--dataset", "fma-small", *TINY, *other_order, *places, *runs)
    assert (again["id"], again["status"]) == (trained.value["id"], "found")
    whole = cli("train", "--dataset", "fma-small", *TINY, *places, *runs, "--json")
    assert whole.value["id"] != trained.value["id"]
    assert "2 of 66 clips cannot be used and are left out, 098565 for one" in whole.stderr


def test_what_an_index_left_out_is_said_once(cli: CommandLine, tmp_path: Path) -> None:
    listed = [*lines(), Line(2, "", "7"), Line(3, "", "7")]
    write_table(tmp_path, listed)
    write_audio(tmp_path, "small", listed, b"no music")
    given = ("--dataset", "fma-small", "--data-dir", tmp_path, *TINY, "--epochs", "0")
    done = cli("train", *given, "--res", tmp_path / "res", "--runs", tmp_path / "runs")
    assert done.status == 0
    assert done.stderr == "2 of the 66 tracks of fma-small have no top genre and are left out.\n"
    hushed = cli("train", *given, "--res", tmp_path / "res", "--runs", tmp_path / "runs", "--quiet")
    assert hushed.stderr == ""
