"""What `genrecls audit` finds in corpora that have it planted, and what it says of them."""

import csv
import html.parser
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import CommandLine, write_clip

from genrecls.audit.findings import Audit, NearCopy
from genrecls.audit.page import page
from genrecls.datasets.synth.corpus import render

RATE = 22050


def tone(seconds: float = 2.0, level: float = 0.4, pitch: float = 330.0) -> Any:
    return level * np.sin(2 * np.pi * pitch * np.arange(int(seconds * RATE)) / RATE)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 24 good clips and one of each fault."""
    root = tmp_path_factory.mktemp("faulty")
    for genre, pitch in (("high", 2000.0), ("low", 200.0)):
        for number in range(12):
            write_clip(root / genre / f"good{number:02d}.wav", pitch + 10 * number, seconds=2.0)
    low = root / "low"
    soundfile.write(low / "silent.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(low / "clipped.wav", np.clip(tone(level=3.0), -1, 1), RATE)
    # Clipped in one channel and then turned down.
    turned = 0.6 * np.stack([np.clip(tone(level=2.0), -1, 1), tone(pitch=500)], axis=1)
    soundfile.write(low / "stereo.wav", turned, RATE)
    soundfile.write(low / "nan.wav", np.where(np.arange(2 * RATE) == 5, np.nan, tone(pitch=410)), RATE, subtype="FLOAT")
    soundfile.write(low / "rate.wav", tone(pitch=700)[: 2 * 16000], 16000)
    soundfile.write(low / "half.wav", np.concatenate([tone(0.9, pitch=810), np.zeros(int(1.1 * RATE))]), RATE)
    soundfile.write(low / "brief.wav", tone(1.0, pitch=290), RATE)
    soundfile.write(low / "instant.wav", tone(0.2, pitch=290), RATE)
    (low / "text.wav").write_text("no audio")
    for ending in ("wav", "flac", "mp3", "au", "aiff"):
        write_clip(low / f"cut-{ending}.{ending}", 600.0, seconds=2.0)
        content = (low / f"cut-{ending}.{ending}").read_bytes()
        (low / f"cut-{ending}.{ending}").write_bytes(content[: len(content) * 49 // 50])
    return root


def audit(cli: CommandLine, root: Path, res: Path, *arguments: object) -> Any:
    return cli.json("audit", "folder", "--data-dir", root, "--res", res, "--jobs", "1", *arguments)


def test_each_fault_is_named_and_nothing_else(cli: CommandLine, faulty: Path, tmp_path: Path) -> None:
    found = audit(cli, faulty, tmp_path)
    kinds = {(each["clip"], each["kind"]) for each in found["problems"]}
    assert kinds == {
        *((f"low/cut-{ending}.{ending}", "truncated") for ending in ("wav", "flac", "mp3", "au", "aiff")),
        *(
            ("low/silent.wav", "silent"),
            ("low/clipped.wav", "clipped"),
            ("low/nan.wav", "non-finite"),
            ("low/rate.wav", "rate"),
        ),
        *(("low/stereo.wav", "channels"), ("low/stereo.wav", "clipped"), ("low/half.wav", "half-silent")),
        *(("low/brief.wav", "length"), ("low/instant.wav", "short")),
    }
    assert [each["clip"] for each in found["unreadable"]] == ["low/text.wav"]
    assert [each["kind"] for each in found["problems"][-3:]] == ["length", "rate", "channels"]
    reasons = {each["clip"]: each["reason"] for each in found["problems"]}
    assert reasons["low/rate.wav"] == "16000 Hz, where most clips have 22050 Hz"
    assert reasons["low/cut-wav.wav"].endswith("bytes shorter than its header announces")
    assert (found["clips"], found["class_counts"]) == (38, {"high": 12, "low": 26})
    assert found["rates"] == {"22050": 36, "16000": 1}
    assert (found["exact_copies"], found["near_copies"], found["leaks"]) == ([], [], False)
    # What cannot be used is in no part.
    assert sum(found["class_counts_by_part"]["low"].values()) == 26 - 4


def test_a_second_audit_decodes_nothing_and_says_the_same(cli: CommandLine, faulty: Path, tmp_path: Path) -> None:
    root, res = shutil.copytree(faulty, tmp_path / "corpus"), tmp_path / "res"
    first = audit(cli, root, res)
    kept = {path: path.stat().st_mtime_ns for path in (res / "audit").iterdir()}
    assert audit(cli, root, res) == first
    assert {path: path.stat().st_mtime_ns for path in (res / "audit").iterdir()} == kept
    write_clip(root / "high" / "good00.wav", 900.0, seconds=3.0)
    assert audit(cli, root, res)["audio_seconds"] == pytest.approx(first["audio_seconds"] + 1)
    assert len(list((res / "audit").iterdir())) == len(kept) + 1
    for path in (res / "audit").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    failure = cli("audit", "folder", "--data-dir", root, "--res", res)
    assert failure.status == 1
    assert "is damaged (it is not what was written): remove it and run the same command again." in failure.stderr


@pytest.mark.slow
def test_processes_find_the_same(cli: CommandLine, tmp_path: Path) -> None:
    for number in range(70):
        write_clip(tmp_path / "music" / "ab"[number % 2] / f"{number:02d}.wav", 300.0 + number, seconds=0.6)
    alone, together = (
        cli.json("audit", "folder", "--data-dir", tmp_path / "music", "--res", tmp_path / jobs, "--jobs", jobs)
        for jobs in ("1", "2")
    )
    assert alone == together
    assert alone["class_counts"] == {"a": 35, "b": 35}
    made = [{path.name: path.read_bytes() for path in (tmp_path / jobs / "audit").iterdir()} for jobs in ("1", "2")]
    assert made[0] == made[1]


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Music of three genres with copies: exact ones in each genre and across, near ones as MP3 from a later start."""
    root = tmp_path_factory.mktemp("leaky")
    render(root, genres=("dub", "march", "swing"), artists=2, clips=5, jobs=1)
    (root / "corpus.json").unlink()
    for number in range(3):
        original = next((root / "dub").rglob(f"*a01-0{number}.*"))
        samples, rate = soundfile.read(original, dtype="float32")
        soundfile.write(root / "dub" / f"same{number}.flac", samples, rate)
        soundfile.write(root / "march" / f"later{number}.mp3", 0.5 * samples[rate:], rate, compression_level=0.7)
    shutil.copy(next((root / "swing").rglob("*a00-00.*")), root / "swing" / "bytes.wav")
    return root


def named(root: Path, pattern: str) -> str:
    """The id of the clip that fits the pattern."""
    return next(root.rglob(pattern)).relative_to(root).as_posix()


def test_copies_are_told_apart_and_a_split_that_leaks_fails(cli: CommandLine, leaky: Path, tmp_path: Path) -> None:
    given = ("audit", "folder", "--data-dir", leaky, "--res", tmp_path, "--strict", "--json", "--split-seed", "1")
    done = cli(*given)
    found = done.value
    originals = [named(leaky, f"dub-a01-0{number}.*") for number in range(3)]
    assert sorted(found["exact_copies"]) == [
        *([original, f"dub/same{number}.flac"] for number, original in enumerate(originals)),
        ["swing/bytes.wav", named(leaky, "swing-a00-00.*")],
    ]
    assert [(each["a"], each["b"]) for each in found["near_copies"]] == [
        (original, f"march/later{number}.mp3") for number, original in enumerate(originals)
    ]
    assert all(each["score"] > 0.8 and each["shift"] == pytest.approx(1.0, abs=0.06) for each in found["near_copies"])
    assert found["copies_across_genres"] == [
        [original, f"dub/same{number}.flac", f"march/later{number}.mp3"] for number, original in enumerate(originals)
    ]
    assert (done.status, found["leaks"], found["split"]) == (1, True, "random")
    assert found["copies_across_splits"]
    assert cli(*given[:-4], "--split-seed", "1").status == 0  # without --strict


def test_a_split_by_recording_does_not_leak(cli: CommandLine, leaky: Path, tmp_path: Path) -> None:
    """Groups that hold all copies of a recording together, and an artist who is torn apart by another split."""
    groups = {"swing/bytes.wav": "swing 0", named(leaky, "swing-a00-00.*"): "swing 0"}
    for number in range(3):
        for clip in (named(leaky, f"dub-a01-0{number}.*"), f"dub/same{number}.flac", f"march/later{number}.mp3"):
            groups[clip] = f"dub {number}"
    with open(tmp_path / "groups.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([("clip", "group"), *groups.items()])
    given = ("--groups", tmp_path / "groups.csv", "--strict")
    kept = audit(cli, leaky, tmp_path / "res", *given)
    assert (kept["split"], kept["leaks"], kept["copies_across_splits"]) == ("grouped", False, [])
    torn = cli("audit", "folder", "--data-dir", leaky, "--res", tmp_path / "res", *given, "--split", "random")
    assert torn.status == 1
    assert "The split 'random' LEAKS" in torn.stdout
    assert "  dub 0  " in torn.stdout.partition("artists or groups in several parts")[2]


def test_what_cannot_be_split_is_said_and_strict_about(cli: CommandLine, tmp_path: Path) -> None:
    for genre in ("a", "b"):
        write_clip(tmp_path / "music" / genre / "one.wav", 300.0)
    given = ("audit", "folder", "--data-dir", tmp_path / "music", "--res", tmp_path / "res")
    loose, strict = cli(*given, "--json"), cli(*given, "--strict")
    assert (loose.status, loose.value["unsplit"][:27], loose.value["leaks"]) == (
        0,
        "The genre 'a' has 1 clip, a",
        False,
    )
    assert strict.status == 1
    assert "The split 'random' cannot be made: The genre 'a' has 1 clip" in strict.stdout


@pytest.mark.parametrize(
    ("emptied", "words"),
    [
        ("*/*", "No usable clip is left for train and valid and test: replace those that are named as problems."),
        ("a/*", "No usable clip is left to train a with: replace"),
    ],
)
def test_a_split_without_usable_clips_is_none(cli: CommandLine, tmp_path: Path, emptied: str, words: str) -> None:
    music = tmp_path / "music"
    for genre in ("a", "b"):
        for number in range(10):
            write_clip(music / genre / f"{number}.wav", 300.0 + 40 * number)
    for path in music.glob(emptied):
        path.write_bytes(b"")
    done = cli("audit", "folder", "--data-dir", music, "--res", tmp_path / "res", "--strict")
    assert done.status == 1
    assert words in done.stdout


def test_a_pipe_in_a_corpus_is_not_waited_for(cli: CommandLine, tmp_path: Path) -> None:
    for genre in ("a", "b"):
        for number in range(3):
            write_clip(tmp_path / "music" / genre / f"{number}.wav", 300.0 + 40 * number)
    os.mkfifo(tmp_path / "music" / "a" / "pipe.wav")
    given = ("audit", "folder", "--data-dir", tmp_path / "music", "--res", tmp_path / "res", "--json")
    found = cli.start(*given).wait(60).value
    assert found["unreadable"] == [{"clip": "a/pipe.wav", "reason": "is not a regular file"}]


def test_a_page_that_cannot_be_written_is_said_before_the_work(cli: CommandLine, faulty: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = ("audit", "folder", "--data-dir", faulty, "--res", tmp_path / "res")
    done = cli(*given, "--out", tmp_path / "file" / "page.html")
    assert (done.status, done.stdout) == (1, "")
    assert f"{tmp_path / 'file'}" in done.stderr
    assert not (tmp_path / "res" / "audit").exists()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (("--split", "contaminated"), "The split 'contaminated' (--split) puts fragments of every clip on both sides"),
        (("--split", "filtered"), "has no split 'filtered'"),
        (("--out", "."), "--out . is a folder: name the file to write."),
    ],
)
def test_wrong_usage(cli: CommandLine, faulty: Path, tmp_path: Path, wrong: tuple[str, ...], complaint: str) -> None:
    done = cli("audit", "folder", "--data-dir", faulty, "--res", tmp_path, *wrong)
    assert done.status == 2
    assert complaint in done.stderr


class Elements(html.parser.HTMLParser):
    """The tags of a page, what it loads and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [name for name, _ in attrs if name in ("src", "href", "action") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_all_and_needs_nothing_else(cli: CommandLine, leaky: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "audit.html"
    found = audit(cli, leaky, tmp_path / "res", "--out", out, "--split-seed", "1")
    read = Elements()
    read.feed(out.read_text(encoding="utf-8"))
    assert not read.loaded
    assert not read.tags & {"script", "link", "img", "iframe"}
    for clips in (*found["exact_copies"], *found["copies_across_splits"]):
        assert all(clip in read.text for clip in clips)
    assert "The split 'random' LEAKS" in read.text


def test_names_from_outside_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    found = Audit(
        dataset=evil,
        split="random",
        genres={evil: evil, "b": "b&b"},
        groups={evil: evil, "b": evil},
        sounds={},
        findings=(),
        exact_copies=((evil, "b"),),
        near_copies=(NearCopy(evil, "b", 0.9, 5.0, 0.0),),
        families=((evil, "b"),),
        roles={evil: "train", "b": "test"},
    )
    made = page(found)
    assert "<script" not in made
    assert made.count("&lt;script&gt;") > 8
    assert "b&amp;b" in made


def test_terminal_lists_are_cut_and_say_so(cli: CommandLine, tmp_path: Path, make_clip: Callable[..., None]) -> None:
    for number in range(24):
        (tmp_path / "music" / "bad").mkdir(parents=True, exist_ok=True)
        (tmp_path / "music" / "bad" / f"{number:02d}.wav").write_text("no audio")
    make_clip(tmp_path / "music" / "good" / "one.wav", 300.0)
    done = cli("audit", "folder", "--data-dir", tmp_path / "music", "--res", tmp_path / "res")
    assert done.status == 0
    assert "problems of single clips: 24\n" in done.stdout
    assert "bad/19.wav  unreadable: " in done.stdout
    assert "bad/20.wav" not in done.stdout
    assert "  and 4 more (--out and --json have all)\n" in done.stdout
