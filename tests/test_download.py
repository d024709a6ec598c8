"""GTZAN's download, with stand-ins for Kaggle's client, and with the real client and a stand-in for its server."""

import io
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile

from genrecls.datasets import archive, gtzan, kaggle
from genrecls.datasets.gtzan import KAGGLE_DATASET, LOADER, NAMES
from genrecls.datasets.loader import Source
from genrecls.errors import GenreclsError

PAGE = "https://www.kaggle.com/datasets/achgls/gtzan-music-genre"
ETAG = '"one"'
MODIFIED = "Tue, 07 Mar 2023 10:00:00 GMT"
BALLAST = 3 * 2**20


def quiet(what: str, done: int, total: int) -> None:
    pass


def _wav() -> bytes:
    content = io.BytesIO()
    soundfile.write(content, [0.1, -0.1] * 10, 22050, format="WAV")
    return content.getvalue()


WAV = _wav()


def zipped(path: Path, files: dict[str, bytes], ballast: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("about/ballast.bin", bytes(ballast))
        for name, content in files.items():
            file.writestr(name, content)
    return path


def clips(damaged: tuple[str, ...] = ("jazz.00054",), absent: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The files of GTZAN by their path in an archive, a few samples each."""
    return {
        f"audio_data/{name.split('.')[0]}/{name}.wav": b"no music here" if name in damaged else WAV
        for name in sorted(NAMES - set(absent))
    }


@pytest.fixture(scope="module")
def good_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zipped(tmp_path_factory.mktemp("server") / "good.zip", clips(), BALLAST)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, no settings and no proxy of the machine's user; any free disk will do."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(gtzan, "_ROOM", 0)


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a package kaggle, whose command line runs the given program, before the real one."""
    package = tmp_path / "standin" / "kaggle"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]))

    def install(program: str) -> None:
        start = "import os, sys, time, shutil, signal; path = sys.argv[sys.argv.index('-p') + 1]\n"
        (package / "__main__.py").write_text(start + program)

    return install


def delivering(source: Path) -> str:
    """A client that delivers `source` and says so as the real one does."""
    return (
        "print('Authentication required to call the Kaggle API.\\n\\n    Save the token to ~/.kaggle/access_token')\n"
        "print('Dataset URL: https://www.kaggle.com/datasets/achgls/gtzan-music-genre')\n"
        "for done in (0, 50, 100):\n"
        "    print(f'\\r{done:3d}%|####  | 1/2 [00:00<00:00, 9MB/s]', end='', file=sys.stderr, flush=True)\n"
        f"shutil.copy({str(source)!r}, os.path.join(path, 'gtzan-music-genre.zip'))\n"
    )


def left(folder: Path) -> list[str]:
    """What a download left behind besides the corpus and its lock."""
    return sorted(p.name for p in folder.iterdir() if p.name not in {"gtzan-music-genre", ".download.lock"})


class TestWithAStandInForTheClient:
    def test_downloads_unpacks_checks_and_removes_the_archive(
        self, tmp_path: Path, standin: Callable[[str], None], good_zip: Path
    ) -> None:
        standin(delivering(good_zip))
        source = Source(res=tmp_path / "res")
        seen: list[tuple[str, int, int]] = []
        made = LOADER.download(source, lambda *step: seen.append(step))
        root = made.root
        assert made.remarks == ("jazz.00054 cannot be decoded (Format not recognised.) and will be left out.",)
        assert root == tmp_path / "res/gtzan/gtzan-music-genre/audio_data"
        corpus = LOADER.index(source)
        assert corpus.root == root
        assert len(corpus.clips) == 1000
        assert corpus.clips[0].path.read_bytes() == WAV
        assert left(tmp_path / "res/gtzan") == []
        assert [step for step in seen if step[0] == "downloading"] == [
            ("downloading", done, 100) for done in (0, 0, 50, 100)
        ]
        assert seen[-1] == ("checking", 1000, 1000)
        assert ("unpacking", 1001, 1001) in seen
        assert [found.clip for found in gtzan.unreadable(corpus, quiet)] == ["jazz.00054"]

    def test_is_run_with_the_public_data_set_and_the_folder(
        self, tmp_path: Path, standin: Callable[[str], None], good_zip: Path
    ) -> None:
        standin(f"open({str(tmp_path / 'arguments')!r}, 'w').write(repr(sys.argv[1:]))\n" + delivering(good_zip))
        LOADER.download(Source(res=tmp_path / "res"), quiet)
        expected = ["datasets", "download", "achgls/gtzan-music-genre", "-p", str(tmp_path / "res/gtzan")]
        assert (tmp_path / "arguments").read_text() == repr(expected)

    def test_to_another_folder(self, tmp_path: Path, standin: Callable[[str], None], good_zip: Path) -> None:
        standin(delivering(good_zip))
        source = Source(res=tmp_path / "res", data_dir=tmp_path / "big disk" / "sets")
        assert LOADER.download(source, quiet).root == tmp_path / "big disk/sets/gtzan-music-genre/audio_data"
        assert not (tmp_path / "res").exists()

    def test_a_second_time_fetches_nothing(
        self, tmp_path: Path, standin: Callable[[str], None], good_zip: Path
    ) -> None:
        standin(delivering(good_zip))
        source = Source(res=tmp_path / "res")
        root = LOADER.download(source, quiet).root
        standin("sys.exit('must not be run')")
        again = LOADER.download(source, quiet)
        assert again.root == root
        assert again.remarks[0] == "All clips were there: nothing was fetched."

    def test_an_archive_without_the_unreadable_clip_will_do(
        self, tmp_path: Path, standin: Callable[[str], None]
    ) -> None:
        standin(delivering(zipped(tmp_path / "999.zip", clips(absent=("jazz.00054",)))))
        LOADER.download(Source(res=tmp_path / "res"), quiet)
        assert len(LOADER.index(Source(res=tmp_path / "res")).clips) == 999

    def test_an_archive_that_lies_there_whole_is_unpacked_without_the_network(
        self, tmp_path: Path, standin: Callable[[str], None], good_zip: Path
    ) -> None:
        standin("sys.exit('must not be run')")
        folder = tmp_path / "res/gtzan"
        folder.mkdir(parents=True)
        (folder / "gtzan-music-genre.zip").write_bytes(good_zip.read_bytes())
        LOADER.download(Source(res=tmp_path / "res"), quiet)
        assert left(folder) == []

    def test_what_a_killed_download_left_is_overcome(
        self, tmp_path: Path, standin: Callable[[str], None], good_zip: Path
    ) -> None:
        folder = tmp_path / "res/gtzan"
        (folder / ".gtzan-music-genre.part" / "audio_data" / "blues").mkdir(parents=True)
        (folder / "gtzan-music-genre.zip").write_bytes(good_zip.read_bytes()[:-1000])
        standin(delivering(good_zip))
        LOADER.download(Source(res=tmp_path / "res"), quiet)
        assert left(folder) == []

    @pytest.mark.parametrize(
        ("program", "reason"),
        [
            ("print('404 Client Error: Not Found for url: x', file=sys.stderr); sys.exit(1)", "404 Client Error"),
            ("sys.exit(3)", "it ended with status 3 and no file"),
            ("print('Dataset URL: x'); print('User cancelled operation')", "User cancelled operation"),
            ("import six_is_missing", "kaggle package is not installed as it should be: .*No module named"),
            ("raise OSError(28, 'No space left on device')", "No space left on device"),
            ("print('x' * 5000); sys.exit(1)", r"\(x{300}…\)"),
            (
                "for _ in range(2): print('Authentication required.\\n\\n Save it to ~/.kaggle/access_token')\n"
                "sys.exit(1)",
                "Kaggle wants a login",
            ),
        ],
    )
    def test_a_failure_says_why_and_what_to_do_by_hand(
        self, tmp_path: Path, standin: Callable[[str], None], program: str, reason: str
    ) -> None:
        standin(program)
        with pytest.raises(GenreclsError, match=reason) as raised:
            LOADER.download(Source(res=tmp_path / "res"), quiet)
        message = str(raised.value)
        assert message.startswith("Kaggle's client could not download achgls/gtzan-music-genre (")
        assert message.endswith(f"or unpack the archive from {PAGE} into {tmp_path / 'res/gtzan'} by hand.")
        assert "\n" not in message
        assert left(tmp_path / "res/gtzan") == []

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (None, r"it is damaged or no ZIP file \(File is not a zip file\)"),
            ({}, "it holds no folders of GTZAN's genres"),
            ({"Data/images_original/blues/blues.00000.png": b"x"}, "it holds no folders of GTZAN's genres"),
            (clips(absent=("pop.00001", "rock.00099")), "it lacks 2 of GTZAN's 1000 clips, pop.00001 for one"),
            (clips() | {"../evil.wav": b"x"}, r"it holds the unsafe path '\.\./evil\.wav'"),
        ],
        ids=["no zip", "empty", "pictures", "clips missing", "unsafe"],
    )
    def test_a_wrong_archive_is_removed_and_nothing_of_it_stays(
        self, tmp_path: Path, standin: Callable[[str], None], content: dict[str, bytes] | None, reason: str
    ) -> None:
        wrong = tmp_path / "wrong.zip"
        if content is None:
            wrong.write_text("<html>Too many requests</html>")
        else:
            zipped(wrong, content)
        standin(delivering(wrong))
        with pytest.raises(GenreclsError, match=f"is removed, since {reason}: .* from {re.escape(PAGE)} into"):
            LOADER.download(Source(res=tmp_path / "res"), quiet)
        assert left(tmp_path / "res/gtzan") == []
        assert not (tmp_path / "res/gtzan/gtzan-music-genre").exists()
        assert not list(tmp_path.rglob("evil.wav"))

    def test_more_damaged_clips_than_the_known_one_are_an_error_each_time(
        self, tmp_path: Path, standin: Callable[[str], None]
    ) -> None:
        standin(delivering(zipped(tmp_path / "bad.zip", clips(damaged=("jazz.00054", "pop.00003", "rock.00001")))))
        for _ in range(2):
            with pytest.raises(GenreclsError, match=r"2 of the 1000 clips in .* cannot be read, pop\.00003 for one"):
                LOADER.download(Source(res=tmp_path / "res"), quiet)

    def test_an_incomplete_corpus_in_its_place_is_not_overwritten(
        self, tmp_path: Path, standin: Callable[[str], None], good_zip: Path
    ) -> None:
        standin(delivering(good_zip))
        source = Source(res=tmp_path / "res")
        root = LOADER.download(source, quiet).root
        (root / "rock" / "rock.00001.wav").unlink()
        standin("sys.exit('must not be run')")
        with pytest.raises(GenreclsError, match="does not hold all of GTZAN: move it away"):
            LOADER.download(source, quiet)
        assert len(LOADER.index(source).clips) == 999

    def test_no_room_is_found_before_downloading(
        self, tmp_path: Path, standin: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        standin("sys.exit('must not be run')")
        monkeypatch.setattr(gtzan, "_ROOM", 1e18)
        with pytest.raises(GenreclsError, match=r"take 1000000000\.0 GB and .* GB left: make room"):
            LOADER.download(Source(res=tmp_path / "res"), quiet)

    def test_a_folder_that_cannot_be_made_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "res").write_text("a file")
        with pytest.raises(GenreclsError, match=r"GTZAN could not be written to .*res/gtzan"):
            LOADER.download(Source(res=tmp_path / "res"), quiet)

    def test_two_at_once_do_not_meet(self, tmp_path: Path, standin: Callable[[str], None], good_zip: Path) -> None:
        standin(delivering(good_zip))
        source = Source(res=tmp_path / "res")

        def second(what: str, done: int, total: int) -> None:
            if what == "downloading":
                with pytest.raises(GenreclsError, match=r"Another download to .* is under way"):
                    LOADER.download(source, quiet)

        LOADER.download(source, second)

    @pytest.mark.parametrize("deaf", [False, True], ids=["obedient", "deaf to SIGTERM"])
    def test_an_interruption_ends_the_client(
        self, tmp_path: Path, standin: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, deaf: bool
    ) -> None:
        monkeypatch.setattr(kaggle, "_GRACE_SECONDS", 0.2)
        standin(
            ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else "")
            + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
            + "print('\\r 12%|#  |', file=sys.stderr, flush=True)\ntime.sleep(100)\n"
        )

        def interrupt(what: str, done: int, total: int) -> None:
            if done == 12:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            LOADER.download(Source(res=tmp_path / "res"), interrupt)
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
        standin("print('next'); sys.exit(1)")
        with pytest.raises(GenreclsError, match="next"):
            LOADER.download(Source(res=tmp_path / "res"), quiet)

    def test_ctrl_c_that_reaches_only_this_process_ends_the_client(
        self, tmp_path: Path, standin: Callable[[str], None]
    ) -> None:
        standin(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(100)")
        program = (
            "import signal, sys; from pathlib import Path\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from genrecls.datasets import gtzan; from genrecls.datasets.loader import Source\n"
            "gtzan._ROOM = 0\n"
            "gtzan.LOADER.download(Source(res=Path(sys.argv[1])), lambda *_: None)"
        )
        process = subprocess.Popen([sys.executable, "-c", program, tmp_path / "res"], stderr=subprocess.PIPE)
        client = int(_content_of(tmp_path / "pid"))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert b"KeyboardInterrupt" in said
        with pytest.raises(ProcessLookupError):
            os.kill(client, 0)


def _content_of(path: Path) -> str:
    """The content of a file that another process is about to write."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.02)
    return path.read_text()


class TestUnpacking:
    def unpack(self, source: Path) -> Path:
        folder = source.parent / "unpacked"
        with archive.unpacked(source, folder, quiet):
            pass
        return folder

    def test_writes_the_files_and_passes_over_clutter(self, tmp_path: Path) -> None:
        files = {"a/b/c.txt": b"1", "d.txt": b"2", "__MACOSX/a/b/._c.txt": b"x", "a/.DS_Store": b"x", "e/": b""}
        folder = self.unpack(zipped(tmp_path / "a.zip", files))
        found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert found == {"about/ballast.bin": b"", "a/b/c.txt": b"1", "d.txt": b"2"}

    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "/../evil"])
    def test_unsafe_paths_are_refused_before_anything_is_written(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(archive.BadArchive, match="unsafe path"):
            self.unpack(zipped(tmp_path / "a.zip", {"good": b"x", name: b"x"}))
        assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]

    def test_links_are_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            link = zipfile.ZipInfo("link")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(link, "/etc")
            file.writestr("link/evil", "x")
        with pytest.raises(archive.BadArchive, match="it holds the link 'link'"):
            self.unpack(tmp_path / "a.zip")

    def test_passwords_are_refused(self, tmp_path: Path) -> None:
        content = bytearray(zipped(tmp_path / "a.zip", {"secret": b"x"}).read_bytes())
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.rindex(signature) + offset] |= 1
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(archive.BadArchive, match="'secret' in it needs a password"):
            self.unpack(tmp_path / "a.zip")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_a_name_used_twice_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("a.txt", "1")
            file.writestr("a.txt", "2")
        with pytest.raises(archive.BadArchive, match=r"two files in it are called 'a\.txt'"):
            self.unpack(tmp_path / "a.zip")

    @pytest.mark.parametrize("fault", ["flipped", "cut off", "no zip", "empty"])
    def test_damage_is_found_and_nothing_stays(self, tmp_path: Path, fault: str) -> None:
        path = zipped(tmp_path / "a.zip", {"a.txt": b"hello" * 1000})
        content = bytearray(path.read_bytes())
        if fault == "flipped":
            content[content.index(b"hellohello") + 500] ^= 1
        elif fault == "cut off":
            del content[-200:]
        else:
            content[:] = b"<html>" if fault == "no zip" else b""
        path.write_bytes(content)
        with pytest.raises(archive.BadArchive, match="damaged or no ZIP file"):
            self.unpack(path)
        assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]

    def test_more_than_the_disk_holds_is_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "a.zip", {"bomb": b"x"})
        content = bytearray(path.read_bytes())
        start = content.rindex(b"PK\x01\x02")
        content[start + 24 : start + 28] = (2**32 - 2).to_bytes(4, "little")
        path.write_bytes(content)
        free = archive.shutil.disk_usage(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(archive.shutil, "disk_usage", lambda _: free._replace(free=2**31))
            with pytest.raises(GenreclsError, match=r"take 4\.3 GB and .* has 2\.1 GB left: make room"):
                self.unpack(path)
        assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]

    def test_the_folder_appears_only_when_the_block_is_content(self, tmp_path: Path) -> None:
        source, folder = zipped(tmp_path / "a.zip", {"a.txt": b"1"}), tmp_path / "unpacked"

        def discontent() -> None:
            with archive.unpacked(source, folder, quiet) as part:
                assert (part / "a.txt").read_bytes() == b"1"
                assert not folder.exists()
                raise RuntimeError

        with pytest.raises(RuntimeError):
            discontent()
        assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


class Server(NamedTuple):
    """A stand-in for Kaggle's. requests: (what, Range header). stall: hold back the second half until it is set."""

    url: str
    requests: list[tuple[str, str | None]]
    stall: threading.Event


@pytest.fixture
def server(good_zip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The two calls that the real client makes, answered here: it is told to talk to localhost, by way of a proxy."""
    content = good_zip.read_bytes()
    requests: list[tuple[str, str | None]] = []
    stall = threading.Event()
    stall.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = self.path.rsplit("/", 1)[1]
            requests.append((call, None))
            if call == "GetDatasetMetadata":
                self._answer(200, b'{"info": {"licenses": [{"name": "other"}]}}', {"Content-Type": "application/json"})
            else:
                self._answer(302, b"", {"Location": "http://localhost/storage"})

        def do_GET(self) -> None:
            span = self.headers.get("Range")
            requests.append(("storage", span))
            start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
            body = content[start:]
            headers = {"Accept-Ranges": "bytes", "ETag": ETAG, "Last-Modified": MODIFIED}
            self._answer(206 if span else 200, body[: len(body) // 2], headers, length=len(body))
            stall.wait(60)
            with suppress(OSError):  # The client may have been ended while it waited.
                self.wfile.write(body[len(body) // 2 :])

        def _answer(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body) if length is None else length)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{served.server_port}"
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", url)
    yield Server(url, requests, stall)
    stall.set()
    served.shutdown()
    thread.join()
    served.server_close()


class TestWithTheRealClient:
    def test_it_has_the_arguments_we_use(self) -> None:
        command = [sys.executable, "-m", "kaggle", "datasets", "download", "--help"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        text = " ".join(result.stdout.split())
        assert "-p PATH, --path PATH Folder where file(s) will be downloaded" in text
        assert "dataset Dataset URL suffix in format <owner>/<dataset-name>" in text

    def test_downloads_without_an_account(self, tmp_path: Path, server: Server) -> None:
        seen: list[tuple[str, int, int]] = []
        LOADER.download(Source(res=tmp_path / "res"), lambda *step: seen.append(step))
        assert server.requests == [("GetDatasetMetadata", None), ("DownloadDataset", None), ("storage", None)]
        assert ("downloading", 100, 100) in seen
        assert len(LOADER.index(Source(res=tmp_path / "res")).clips) == 1000
        assert left(tmp_path / "res/gtzan") == []

    def test_an_interrupted_download_goes_on_where_it_was(self, tmp_path: Path, server: Server, good_zip: Path) -> None:
        folder = tmp_path / "res/gtzan"
        partial = kaggle.archive(KAGGLE_DATASET, folder)
        server.stall.clear()
        with pytest.raises(KeyboardInterrupt), _ctrl_c_when(lambda: partial.exists() and partial.stat().st_size > 0):
            LOADER.download(Source(res=tmp_path / "res"), quiet)
        have = partial.stat().st_size
        assert 0 < have < good_zip.stat().st_size
        assert kaggle.partial(KAGGLE_DATASET, folder)

        server.stall.set()
        LOADER.download(Source(res=tmp_path / "res"), quiet)
        assert server.requests[-1] == ("storage", f"bytes={have}-")
        assert len(LOADER.index(Source(res=tmp_path / "res")).clips) == 1000
        assert left(folder) == []

    def test_no_connection_is_said_in_words(
        self, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        with pytest.raises(GenreclsError, match=r"\(no connection to Kaggle, \w+\): run .*, or unpack the"):
            LOADER.download(Source(res=tmp_path / "res"), quiet)
        assert server.requests == []


@contextmanager
def _ctrl_c_when(ready: Callable[[], bool]) -> Iterator[None]:
    """Send SIGINT to this process once `ready()` holds, if that is within the block."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if ready():
                os.kill(os.getpid(), signal.SIGINT)
                return

    # A shell may have started the tests with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGINT, before)
