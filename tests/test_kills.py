"""Building that is killed, stopped and disturbed: the bytes of an undisturbed build, or one sentence that says why.

Moments are counted in what a process does to files (`watch` in conftest.py), so that none depends on a clock.
"""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import FORKS, Command, CommandLine, Result, watch, write_clip

from genrecls.datasets.synth.corpus import render
from genrecls.stamp import STAMP

INTERRUPTED = "Error: Interrupted: what was finished is kept, so run the same command again.\n"
MEL = ("--n-mels", "16", "--n-fft", "512", "--hop-length", "256")
EVERYTHING = (*MEL, "--model", "mixnet", "--variants", "1", "--pitch-probability", "1", "--speed-probability", "0.5")
"""The feature and the wave, and both of a variant: four caches."""


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder but locks."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.endswith((".lock", STAMP)))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def spread(count: int, among: int) -> list[int]:
    """Numbers from 1 to `among`, evenly, the ends left out by half a step."""
    return [1 + (2 * i + 1) * among // (2 * count) for i in range(count)]


@dataclass(frozen=True)
class Building:
    """`genrecls preprocess` with these options, watched."""

    cli: CommandLine
    corpus: Path
    given: tuple[str, ...] = MEL

    def start(self, res: Path, *given: str, at: int = 0, number: int = 0) -> Command:
        """at: the deed before which the process sends itself the signal `number`."""
        return self.cli.start(
            *("preprocess", "folder", "--data-dir", self.corpus, "--res", res, "--jobs", "1", "--json"),
            *(*self.given, *given),
            TEST_WATCHED=f"{self.corpus}/{os.pathsep}{res}/",
            TEST_SIGNAL_AT=f"{at} {int(number)}",
        )

    def run(self, res: Path, *given: str, at: int = 0, number: int = 0) -> Result:
        return self.start(res, *given, at=at, number=number).wait()

    def whole(self, res: Path) -> tuple[dict[str, bytes], list[str]]:
        """What an undisturbed build leaves, and its deeds."""
        command = self.start(res)
        assert command.wait().status == 0
        return tree(res), (command.output / "events").read_text().splitlines()

    def halted(self, res: Path, at: int) -> Command:
        """A build that stopped itself before that deed."""
        command = self.start(res, at=at, number=signal.SIGSTOP)
        until(lambda: state(command) == "T", command)
        return command


@dataclass(frozen=True)
class Undisturbed:
    """What a build of the small corpus leaves, and its deeds, the same number in the same order for each copy of it."""

    files: dict[str, bytes]
    deeds: list[str]

    @property
    def caches(self) -> dict[str, bytes]:
        return caches(self.files)

    def first(self, *words: str) -> int:
        return next(i for i, deed in enumerate(self.deeds, 1) if all(word in deed for word in words))

    def last(self, *words: str) -> int:
        return max(i for i, deed in enumerate(self.deeds, 1) if all(word in deed for word in words))


def caches(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name.startswith("cache/")}


@pytest.fixture(scope="module")
def undisturbed(cli: CommandLine, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(*Building(cli, corpus).whole(tmp_path_factory.mktemp("whole") / "res"))


def state(command: Command) -> str:
    return Path(f"/proc/{command.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(ready: Callable[[], bool], *commands: Command) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline
        assert all(command.process.is_alive() for command in commands)
        time.sleep(0.005)


def send(command: Command, number: signal.Signals) -> None:
    assert command.process.pid is not None
    os.kill(command.process.pid, number)


@pytest.fixture
def own(corpus: Path, tmp_path: Path) -> Path:
    """A copy of the small corpus."""
    return shutil.copytree(corpus, tmp_path / "corpus")


# Killed


@pytest.fixture(scope="module")
def few(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A third of the small corpus: two blocks."""
    root = tmp_path_factory.mktemp("few")
    for path in sorted(corpus.rglob("*0[0-3].wav")):
        (root / path.parent.name).mkdir(exist_ok=True)
        shutil.copy2(path, root / path.parent.name)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("what", ["mel", "wave, mel and variants"])
def test_ten_moments(
    cli: CommandLine, corpus: Path, few: Path, tmp_path: Path, what: str, number: signal.Signals
) -> None:
    building = Building(cli, corpus) if what == "mel" else Building(cli, few, EVERYTHING)
    whole, deeds = building.whole(tmp_path / "whole")
    assert len(caches(whole)) == (3 if what == "mel" else 12)
    end = max(i for i, line in enumerate(deeds, 1) if line.startswith("os.remove"))
    writing = [i for i, line in enumerate(deeds, 1) if ".part" in line]
    moments = sorted({*spread(9, len(deeds)), writing[len(writing) // 2], end})
    chosen = [deeds[at - 1] for at in moments]
    assert any(line.startswith("open ") and line.endswith(".wav") for line in chosen)
    assert len(moments) >= 10
    for at in moments:
        res = tmp_path / f"res{at}"
        killed = building.run(res, at=at, number=number)
        assert killed == (Result(-9, "", "") if number == signal.SIGKILL else Result(1, "", INTERRUPTED)), deeds[at - 1]
        if number == signal.SIGTERM:
            assert not list(res.rglob("*.part"))
        assert building.run(res).status == 0, deeds[at - 1]
        assert tree(res) == whole, deeds[at - 1]


@pytest.mark.slow
def test_killed_again_and_again(cli: CommandLine, few: Path, tmp_path: Path) -> None:
    """Each attempt does a quarter of all deeds, reading what is done among them, and gets further than the last."""
    building = Building(cli, few, EVERYTHING)
    whole, deeds = building.whole(tmp_path / "whole")
    attempts = 1
    while building.run(tmp_path / "res", at=len(deeds) // 4, number=signal.SIGKILL).status != 0:
        attempts += 1
        assert attempts < 20
    assert attempts > 4
    assert tree(tmp_path / "res") == whole


@pytest.mark.parametrize("moment", ["cache.json is not renamed", "all parts are there", "parts is there"])
def test_killed_at_the_end(
    cli: CommandLine, corpus: Path, tmp_path: Path, undisturbed: Undisturbed, moment: str
) -> None:
    building, res = Building(cli, corpus), tmp_path / "res"
    at = {
        "cache.json is not renamed": undisturbed.last("os.rename"),
        "all parts are there": undisturbed.first("os.remove"),
        "parts is there": undisturbed.last("os.rmdir"),
    }[moment]
    assert building.run(res, at=at, number=signal.SIGKILL).status == -signal.SIGKILL
    assert len(list(res.rglob("parts"))) == 1
    assert len(list(res.rglob("*.part"))) == (moment == "cache.json is not renamed")
    assert len(list(res.rglob("cache.json"))) == (moment != "cache.json is not renamed")
    assert building.run(res).status == 0
    assert tree(res) == undisturbed.files
    assert not list(res.rglob("parts"))


def test_sigterm_leaves_as_ctrl_c_does(
    cli: CommandLine, corpus: Path, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    building, res = Building(cli, corpus), tmp_path / "res"
    at = undisturbed.first("os.rename", "000002.json")
    assert building.run(res, at=at, number=signal.SIGTERM) == Result(1, "", INTERRUPTED)
    (parts,) = res.rglob("parts")
    assert {path.name for path in parts.iterdir()} == {"array", "000000.json", "000001.json"}
    assert building.run(res).status == 0
    assert tree(res) == undisturbed.files


def test_hashes_of_a_corpus_are_kept_while_it_is_read(cli: CommandLine, tmp_path: Path) -> None:
    for i in range(150):
        path = tmp_path / "corpus" / "ab"[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i]))
    building = Building(cli, tmp_path / "corpus")
    read = building.start(tmp_path / "whole")
    assert "None of the 150 clips" in read.wait().stderr
    deeds = (read.output / "events").read_text().splitlines()
    assert sum(".wav" in line for line in deeds) >= 300
    kept = [i for i, line in enumerate(deeds, 1) if re.match(r"os\.rename .*manifests/.*\.csv\.", line)]
    assert len(kept) == 3
    assert building.run(tmp_path / "res", at=kept[2], number=signal.SIGKILL).status == -signal.SIGKILL
    again = building.start(tmp_path / "res")
    again.wait()
    hashed = (again.output / "events").read_text().partition("os.rename")[0]
    assert hashed.count(".wav") == 150 - 128
    assert tree(tmp_path / "res") == tree(tmp_path / "whole")


# Two at once


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGCONT])
def test_who_waits_for_a_builder_takes_over_or_takes_its_cache(
    cli: CommandLine, corpus: Path, tmp_path: Path, undisturbed: Undisturbed, end: signal.Signals
) -> None:
    building = Building(cli, corpus)
    first = building.halted(tmp_path / "res", undisturbed.first("000002.json"))
    second = building.start(tmp_path / "res", "--jobs", "2")
    said = second.output / "stderr"
    until(lambda: said.is_file() and said.read_text().endswith("waiting for it.\n"), second)
    interrupted = building.start(tmp_path / "res")
    said = interrupted.output / "stderr"
    until(lambda: said.is_file() and said.read_text().endswith("waiting for it.\n"), interrupted)
    send(interrupted, signal.SIGTERM)
    done = interrupted.wait()
    assert (done.status, done.stderr.splitlines(keepends=True)[1:]) == (1, [INTERRUPTED])
    send(first, end)
    assert first.wait().status == (0 if end == signal.SIGCONT else -signal.SIGKILL)
    done = second.wait()
    assert (done.status, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("Another process builds folder-")
    assert tree(tmp_path / "res") == undisturbed.files


@pytest.mark.slow
def test_builders_with_different_jobs(cli: CommandLine, tmp_path: Path) -> None:
    for i in range(70):  # more than are done without workers
        write_clip(tmp_path / "corpus" / "ab"[i % 2] / f"{i}.wav", 200.0 + i, seconds=0.6)
    building = Building(cli, tmp_path / "corpus")
    whole, _ = building.whole(tmp_path / "whole")
    both = [building.start(tmp_path / "res", "--jobs", jobs) for jobs in ("1", "2")]
    assert [command.wait().status for command in both] == [0, 0]
    assert tree(tmp_path / "res") == whole


@pytest.mark.slow
@pytest.mark.parametrize("deed", ["open", "os.rename"])
@pytest.mark.parametrize("what", [".lock", "the folder"])
def test_a_lock_that_is_removed(
    cli: CommandLine, corpus: Path, tmp_path: Path, undisturbed: Undisturbed, what: str, deed: str
) -> None:
    building = Building(cli, corpus)
    first = building.halted(tmp_path / "res", undisturbed.first(deed, "000002.json"))
    (cache,) = (tmp_path / "res" / "cache").iterdir()
    if what == ".lock":
        (cache / ".lock").unlink()
    else:
        shutil.rmtree(cache)
    assert building.run(tmp_path / "res").status == 0
    send(first, signal.SIGCONT)
    done = first.wait()
    assert done.status == 1
    assert done.stderr.count("\n") == 1
    assert f"{cache.name}/.lock was removed while this process built the cache" in done.stderr
    assert building.run(tmp_path / "res").status == 0
    assert tree(tmp_path / "res") == undisturbed.files


# A corpus that changes, and one that is elsewhere


def edit(path: Path) -> None:
    """Another sample at the end, the same size and the same date."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [Path.unlink, Path.touch, edit])
def test_a_file_that_changes_while_the_cache_is_built(
    cli: CommandLine, own: Path, tmp_path: Path, undisturbed: Undisturbed, change: Callable[[Path], None]
) -> None:
    building = Building(cli, own)
    command = building.halted(tmp_path / "res", undisturbed.first("000001.json"))
    victim = own / "middle" / "middle07.wav"
    change(victim)
    send(command, signal.SIGCONT)
    done = command.wait()
    if change is Path.touch:  # A new date is no change.
        assert done.status == 0
        assert caches(tree(tmp_path / "res")) == undisturbed.caches
        return
    assert (done.status, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"{victim} is not the file that was read before" in done.stderr
    assert "`genrecls preprocess` on it with --verify" in done.stderr
    assert not list((tmp_path / "res").rglob("cache.json"))
    fresh = building.cli.json("preprocess", "folder", "--data-dir", own, "--res", tmp_path / "fresh", *MEL)
    made = building.run(tmp_path / "res", "--verify").value
    assert Path(made["cache"]).name == Path(fresh["cache"]).name
    assert tree(Path(made["cache"])) == tree(Path(fresh["cache"]))


def test_a_file_replaced_between_two_caches(cli: CommandLine, own: Path, tmp_path: Path) -> None:
    """The kept hash is of the former file: no cache may be called by it that has the later one's samples."""
    building = Building(cli, own)
    building.whole(tmp_path / "res")
    edit(own / "low" / "low00.wav")
    done = building.run(tmp_path / "res", "--n-mels", "24")
    assert done.status == 1
    assert f"{own}/low/low00.wav is not the file that was read before" in done.stderr
    assert len(list((tmp_path / "res").rglob("cache.json"))) == 1
    assert building.run(tmp_path / "res", "--n-mels", "24", "--verify").status == 0


def test_labels_that_change_before_a_build_goes_on(
    cli: CommandLine, corpus: Path, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text("clip,group\nhigh/high00.wav,one\n")
    building = Building(cli, corpus, (*MEL, "--groups", str(groups)))
    building.halted(tmp_path / "res", undisturbed.first("000003.json")).process.kill()
    groups.write_text("clip,group\nhigh/high00.wav,another\n")
    assert building.run(tmp_path / "res").status == 0
    whole, _ = building.whole(tmp_path / "whole")
    assert tree(tmp_path / "res") == whole


def test_a_corpus_behind_links(cli: CommandLine, corpus: Path, tmp_path: Path, undisturbed: Undisturbed) -> None:
    (tmp_path / "folder").symlink_to(corpus)
    (tmp_path / "files").mkdir()
    for path in corpus.rglob("*.wav"):
        link = tmp_path / "files" / path.relative_to(corpus)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
    for where in ("folder", "files"):
        made, _ = Building(cli, tmp_path / where).whole(tmp_path / f"res-{where}")
        assert caches(made) == undisturbed.caches


# The embedded corpus


def _rendering(root: str, output: str, signal_at: str) -> None:
    watch([f"{root}/"], Path(output), signal_at)
    render(Path(root), genres=("march", "techno"), artists=2, clips=2, jobs=1)


def rendering(root: Path, output: Path, at: int = 0) -> int | None:
    process = FORKS.Process(target=_rendering, args=(str(root), str(output), f"{at} {int(signal.SIGKILL)}"))
    process.start()
    process.join(120)
    return process.exitcode


@pytest.mark.slow
def test_rendering_killed_at_ten_moments(tmp_path: Path) -> None:
    assert rendering(tmp_path / "whole", tmp_path / "events") == 0
    whole, deeds = tree(tmp_path / "whole"), (tmp_path / "events").read_text().splitlines()
    for at in spread(10, len(deeds)):
        root = tmp_path / f"synth{at}"
        assert rendering(root, tmp_path / "log", at) == -signal.SIGKILL, deeds[at - 1]
        assert rendering(root, tmp_path / "log") == 0
        assert tree(root) == whole, deeds[at - 1]
