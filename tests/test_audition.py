"""`genrecls augment`: what is heard and seen is what training would do, with the numbers drawn."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, CommandLine, write_clip

from genrecls import config
from genrecls.batches import TrainingCrops
from genrecls.config import FeatureSettings
from genrecls.errors import GenreclsError
from genrecls.features import Spectral
from genrecls.fragments import Stretch
from genrecls.models.registry import settings_class
from genrecls.pictures import Panel, bin_of, hertz_of, mel_spectrograms

SMALL = ("--n-mels", "32", "--fragment", "1")
EVERYTHING = (
    *("--noise-probability", "1", "--gain-probability", "1", "--wave-mask-probability", "1"),
    *("--stretch-probability", "1", "--pitch-probability", "1", "--speed-probability", "1"),
    *("--amplitude-probability", "1", "--frequency-shift-probability", "1", "--time-shift-probability", "1"),
    *("--feature-noise-probability", "1"),
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audition") / "blues.wav"
    write_clip(path, 440.0, seconds=3.0)
    return path


def augment(cli: CommandLine, clip: Path, out: Path, *given: object) -> Any:
    return cli.json("augment", clip, "--out", out, *SMALL, *given)


def samples(path: str) -> np.ndarray:
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return np.asarray(found)


def test_by_default_it_is_what_train_does(cli: CommandLine, clip: Path, tmp_path: Path) -> None:
    made = augment(cli, clip, tmp_path / "out", "--seed", 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("blues-augmented.wav", "blues-feature.wav", "blues-original.wav", "blues.png")
    ]
    assert made["waveform"] == {}
    assert len(made["feature_changes"]["tone_db"]) == 6
    assert len(made["feature_changes"]["frequency_masks"] + made["feature_changes"]["time_masks"]) <= 4
    begin = round(made["excerpt"][0] * RATE)
    original = samples(made["original"])
    assert len(original) == RATE
    assert (original == samples(str(clip))[begin : begin + RATE]).all()
    assert Path(made["augmented"]).read_bytes() == Path(made["original"]).read_bytes()
    assert len(samples(made["feature"])) == RATE
    assert Path(made["picture"]).read_bytes().startswith(b"\x89PNG")

    given = config.read({"batches": {"fragment": 1.0, "batch_size": 2}, "training": {"seed": 3}}, settings_class)
    starts = TrainingCrops([Stretch("blues", 0, 0, 3 * RATE // 512 + 1)], given).plan(0).places.start
    assert begin in starts * 512


@pytest.mark.slow
def test_everything_switched_on_is_said_with_its_strength(cli: CommandLine, clip: Path, tmp_path: Path) -> None:
    made = augment(cli, clip, tmp_path / "one", *EVERYTHING)
    wave, feature = made["waveform"], made["feature_changes"]
    assert set(wave) == {"stretch", "semitones", "speed", "gain_db", "noise_snr_db", "silence"}
    assert 1 / 1.1 <= wave["stretch"] <= 1.1
    assert 20 <= wave["noise_snr_db"] <= 40
    assert 0.1 <= wave["silence"][1] - wave["silence"][0] <= 0.15
    assert feature["noise_deviation"] == 0.015
    assert 0.8 <= feature["amplitude"] <= 1.2
    heard = samples(made["augmented"])
    first, last = (round(second * RATE) for second in wave["silence"])
    assert not heard[first + 300 : last - 300].any()
    assert heard.any()
    again = augment(cli, clip, tmp_path / "two", *EVERYTHING)
    for name in ("original", "augmented", "feature"):
        assert Path(again[name]).read_bytes() == Path(made[name]).read_bytes()
    other = augment(cli, clip, tmp_path / "three", *EVERYTHING, "--variant", "2")
    assert other["waveform"]["stretch"] != wave["stretch"]
    assert other["waveform"]["gain_db"] == wave["gain_db"]
    seed = augment(cli, clip, tmp_path / "four", *EVERYTHING, "--seed", "1")
    assert seed["waveform"]["stretch"] == wave["stretch"]
    assert seed["waveform"]["gain_db"] != wave["gain_db"]


def test_an_unchanged_feature_sounds_as_the_excerpt_does(cli: CommandLine, clip: Path, tmp_path: Path) -> None:
    made = augment(cli, clip, tmp_path, "--mask-probability", "0", "--equaliser", "0")
    assert made["feature_changes"] == {}
    spectral = Spectral(FeatureSettings(n_mels=32))
    before, after = (spectral(samples(made[name])).astype(np.float64) for name in ("original", "feature"))
    assert abs(before - after).mean() < 0.4  # 1.7 dB, in a clip that is noise for the most part


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("none.wav",), "The file none.wav cannot be used (no such file): give another one."),
        (("short.wav",), "cannot be used (short: 0.100 s long"),
        (("short.wav", "--feature", "mfcc"), "`genrecls augment` shows mel on a log scale alone"),
        (("short.wav", "--set", "optimiser.lr=1"), "does not apply to augment, which uses features, augment (without"),
        (("short.wav", "--set", "augment.noise_snr_low=70"), "augment.noise_snr_low must be at most"),
        (("short.wav", "--set", "augment.variants=2"), "does not apply to augment"),
        (("short.wav", "--set", "batches.padding=zero"), "does not apply to augment"),
        (("short.wav", "--set", "augment.pitchh=2"), "Unknown setting augment.pitchh (did you mean 'pitch'?)"),
        (("short.wav", "--set", "batches.normalisation=clip"), "normalised by the corpus or not at all: leave out"),
        (("short.wav", "--set", "augment.gain_db=3"), "augment.gain_db applies only to models that take the waveform"),
        (("short.wav", "--set", "augment.pitch=3"), "with augment.pitch_probability above 0, which is not so for `gen"),
    ],
)
def test_what_cannot_be_shown_is_said(cli: CommandLine, tmp_path: Path, given: tuple[str, ...], sentence: str) -> None:
    write_clip(tmp_path / "short.wav", 440.0, seconds=0.1)
    done = cli("augment", *given, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.status in (1, 2)
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(GenreclsError, match=r"not installed: run `pip install -e '\.\[plots\]'` in the checkout\.$"):
        mel_spectrograms([Panel("a", "b", np.zeros((32, 10), np.float32))], FeatureSettings(n_mels=32))


def test_bins_and_frequencies() -> None:
    settings = FeatureSettings(n_mels=40)
    assert bin_of(hertz_of(7.0, settings), settings) == pytest.approx(7)
    assert hertz_of(-1, settings) == pytest.approx(0)
    assert hertz_of(40, settings) == pytest.approx(11025)
    tone = (np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)
    assert abs(float(Spectral(settings)(tone)[20].argmax()) - bin_of(1000, settings)) <= 0.5
