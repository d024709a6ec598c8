"""Prediction from the run directory alone: any length, any rate, and files that are no audio."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import PITCHES, RATE, Desk, write_clip


@pytest.fixture
def run(trained: Desk) -> Path:
    return next(path for path in trained.runs.iterdir())


def test_predict_and_evaluate_agree_to_the_bit(trained: Desk, run: Path) -> None:
    trained.cli.json("evaluate", run, *trained.places)
    lines = (run / "evaluation" / "predictions.csv").read_text().splitlines()
    genres = lines[0].split(",")[4:]
    for line in lines[1:]:
        cells = line.split(",")
        (made,) = trained.cli.json("predict", run, trained.corpus / cells[0])["files"]
        assert {genre: repr(made["probabilities"][genre]) for genre in genres} == dict(
            zip(genres, cells[4:], strict=True)
        )
        assert made["genre"] == cells[2]


def test_nothing_but_the_run_is_needed(trained: Desk, run: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "high.wav", PITCHES["high"], seconds=3)
    made = trained.cli.json("predict", run, "high.wav", "--runs", tmp_path / "none", cwd=tmp_path)
    assert made["files"][0]["path"] == "high.wav"
    assert not (tmp_path / "res").exists()


@pytest.mark.parametrize(("seconds", "rate"), [(0.1, RATE), (0.7, 8000), (2.5, 44100), (30, 48000)])
def test_any_length_and_rate(trained: Desk, run: Path, tmp_path: Path, seconds: float, rate: int) -> None:
    write_clip(tmp_path / "clip.wav", PITCHES["middle"], seconds, rate)
    (made,) = trained.cli.json("predict", run, tmp_path / "clip.wav", "--timeline")["files"]
    assert made["status"] == "ok"
    assert set(made["probabilities"]) == set(PITCHES)
    assert sum(made["probabilities"].values()) == pytest.approx(1)
    assert made["genre"] == max(made["probabilities"], key=made["probabilities"].get)
    assert made["timeline"][0]["begin"] == 0
    assert made["timeline"][-1]["end"] == pytest.approx(seconds, abs=0.05)
    means = {genre: np.mean([each["probabilities"][genre] for each in made["timeline"]]) for genre in PITCHES}
    assert means == pytest.approx(made["probabilities"])


def test_formats_and_channels(trained: Desk, run: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.wav", 700, 2)
    tone, _ = soundfile.read(tmp_path / "clip.wav")
    for suffix in ("wav", "flac", "ogg", "mp3", "aiff", "au"):
        soundfile.write(tmp_path / f"clip.{suffix}", np.stack([tone, tone], axis=1), RATE)
    (tmp_path / "notes.txt").write_text("not audio, not looked at")
    files = trained.cli.json("predict", run, tmp_path)["files"]
    assert [Path(each["path"]).suffix for each in files] == [".aiff", ".au", ".flac", ".mp3", ".ogg", ".wav"]
    assert len({each["genre"] for each in files}) == 1


def test_a_bad_file_does_not_stop_the_rest(trained: Desk, run: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "b.wav", 700)
    (tmp_path / "a.wav").write_text("no audio")
    soundfile.write(tmp_path / "c.wav", np.zeros(RATE), RATE)
    done = trained.cli("predict", run, tmp_path, tmp_path / "missing.mp3", "--json")
    assert done.status == 1
    found = {Path(each["path"]).name: each for each in json.loads(done.stdout)["files"]}
    assert {name: each["status"] for name, each in found.items()} == {
        "a.wav": "unreadable",
        "b.wav": "ok",
        "c.wav": "silent",
        "missing.mp3": "unreadable",
    }
    assert all((each["genre"] is None) == (each["status"] != "ok") for each in found.values())
    assert all(each["reason"] for each in found.values() if each["status"] != "ok")


def test_the_table(trained: Desk, run: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "song.wav", 700, seconds=2)
    done = trained.cli("predict", run, tmp_path / "song.wav", "--top", "2", "--timeline")
    lines = done.stdout.splitlines()
    assert lines[0] == str(tmp_path / "song.wav")
    shown = [line.split() for line in lines[1:3]]
    assert float(shown[0][1]) >= float(shown[1][1])
    assert lines[3].startswith("  0:00.0 to 0:01.0  ")
    assert all(line.startswith("  0:0") for line in lines[3:])


def test_a_folder_without_audio(trained: Desk, run: Path, tmp_path: Path) -> None:
    done = trained.cli("predict", run, tmp_path)
    assert done.status == 1
    assert f"The folder {tmp_path} holds no audio" in done.stderr
