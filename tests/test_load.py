"""`genrecls.load`: the command's own predictions, from Python."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, Desk
from numpy.typing import NDArray

import genrecls
from genrecls.errors import ConfigError, GenreclsError
from genrecls.predict import Predictor


@pytest.fixture
def run(trained: Desk) -> Path:
    return next(trained.runs.iterdir())


@pytest.fixture
def predictor(run: Path) -> Iterator[Predictor]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield genrecls.load(run)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def test_importing_genrecls_is_light() -> None:
    code = "import genrecls, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules or not genrecls.load)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_and_folders_as_the_command_has_them(
    trained: Desk, run: Path, predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    (tmp_path / "empty").mkdir()
    given = [trained.corpus / "high", tmp_path / "bad.wav"]
    files = trained.cli("predict", run, *given, "--json").value["files"]
    made = predictor.predict([str(path) for path in given])
    assert len(made) == len(files) == 13
    for mine, theirs in zip(made, files, strict=True):
        assert (str(mine.path), mine.status, mine.genre) == (theirs["path"], theirs["status"], theirs["genre"])
        assert dict(mine.ranking) == (theirs["probabilities"] or {})
    (alone,) = predictor.predict(given[0] / "high00.wav")
    assert np.array_equal(predictor.predict_file(str(given[0] / "high00.wav")).probabilities, alone.probabilities)
    assert np.array_equal(alone.probabilities, made[0].probabilities)
    assert predictor.genres == alone.genres == ("high", "low", "middle")
    assert alone.probabilities.shape == (3, 3)
    assert alone.probabilities.dtype == np.dtype(np.float64)
    assert alone.seconds.shape == (3, 2)
    assert alone.mean == pytest.approx(alone.probabilities.mean(axis=0))
    assert np.isnan(made[-1].mean).all()
    with pytest.raises(GenreclsError, match="holds no audio"):
        predictor.predict(tmp_path / "empty")


def test_samples_are_a_file_that_held_them(predictor: Predictor, tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    stereo = np.stack([0.5 * np.sin(2 * np.pi * 700 * time), 0.1 * np.sin(2 * np.pi * 150 * time)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 2 * RATE, subtype="DOUBLE")
    (file,) = predictor.predict(tmp_path / "a.wav")
    made = predictor.predict_samples(stereo, 2 * RATE)
    assert np.array_equal(made.probabilities, file.probabilities)
    assert made.path is None
    assert predictor.predict_samples(np.zeros(RATE, np.float32), RATE).status == "silent"
    assert predictor.predict_samples(np.full(RATE, np.nan), RATE).status == "non-finite"


@pytest.mark.parametrize(
    ("samples", "rate", "named"),
    [
        (np.zeros(8, np.int16), RATE, "int16 and shape (8,)"),
        (np.zeros(0), RATE, "float64 and shape (0,)"),
        (np.zeros((2, 2, 2)), RATE, "shape (2, 2, 2)"),
        (np.zeros(8), 0, "at 0 Hz"),
        (np.zeros((2, RATE)), RATE, "shape (2, 22050)"),  # channels first
        (np.zeros(8), 44100.5, "at 44100.5 Hz"),
        (np.zeros(8), "x", "at x Hz"),
        (np.zeros(8), 10**9, "at 1000000000 Hz"),
    ],
)
def test_what_is_no_waveform(predictor: Predictor, samples: NDArray[Any], rate: Any, named: str) -> None:
    with pytest.raises(ConfigError, match="are no waveform: give floating-point numbers") as raised:
        predictor.predict_samples(samples, rate)
    assert named in str(raised.value)


def test_a_run_by_the_beginning_of_its_id(trained: Desk, run: Path, predictor: Predictor) -> None:
    found = genrecls.load(run.name.rpartition("-")[2][:6], runs=trained.runs)
    assert found.genres == predictor.genres
    with pytest.raises(GenreclsError, match="There is no run 'nothing'"):
        genrecls.load("nothing", runs=trained.runs)
