"""What models take, from the command line: waveform, MFCC, spectrogram, both at once, with every normalisation."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from conftest import Desk

PLAIN = ("--crops-per-clip", "1", "--batch-size", "8", "--epochs", "2", "--threads", "1", "--fragment", "1")
SMALL_WAVE = ("--model", "cnn1d", "--channels", "8-8-8-16", "--dense", "16")
SMALL_BOTH = ("--model", "mixnet", "--channels", "8-8-8-16", "--filters", "8", "--window", "16", "--dense", "16")
SMALL_CEL = ("--model", "cel", "--nodes", "4-4", "--n-fft", "512")

KINDS: dict[str, tuple[str, ...]] = {
    "waveform": SMALL_WAVE,
    "waveform, of a model for either": ("--model", "mlp2", "--input", "wave", "--nodes", "8"),
    "waveform, standardised by fragment": (*SMALL_WAVE, "--normalisation", "clip", "--padding", "zero"),
    "both": (*SMALL_BOTH, "--n-mels", "16"),
    "both, with MFCC": (*SMALL_BOTH, "--feature", "mfcc", "--n-mfcc", "12", "--normalisation", "clip"),
    "log spectrogram": (*SMALL_CEL, "--feature", "spectrogram"),
    "power": (*SMALL_CEL, "--feature", "spectrogram", "--scale", "power", "--overlap", "0"),
    "mel from 0 to 1": (*SMALL_CEL, "--n-mels", "16", "--normalisation", "clip-minmax", "--padding", "edge"),
}


QUICK = ("waveform", "both, with MFCC", "power", "mel from 0 to 1")


@pytest.fixture(
    scope="module",
    params=[kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def made(request: pytest.FixtureRequest, trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, Any]:
    """A run of each kind, on a desk of its own."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("inputs"))
    return desk, desk.train(*PLAIN, *KINDS[request.param], tiny=False)


def test_predict_and_evaluate_agree(made: tuple[Desk, Any]) -> None:
    """To the bit, but for a dense layer on thousands of samples, whose sums depend on the row of the batch."""
    desk, run = made
    desk.cli.json("evaluate", run["run"], *desk.places)
    header, *lines = (Path(run["run"]) / "evaluation" / "predictions.csv").read_text().splitlines()
    for line in lines[:3]:
        clip, _, genre, _, *probabilities = line.split(",")
        (file,) = desk.cli.json("predict", run["run"], desk.corpus / clip)["files"]
        found = [file["probabilities"][each] for each in header.split(",")[4:]]
        if "mlp2" in run["run"]:
            assert found == pytest.approx([float(each) for each in probabilities], rel=1e-5)
        else:
            assert [repr(each) for each in found] == probabilities
        assert file["genre"] == genre


def test_its_config_is_a_recipe_for_the_same_run(made: tuple[Desk, Any], tmp_path: Path) -> None:
    desk, run = made
    again = Desk(desk.cli, desk.corpus, desk.res, tmp_path)
    repeated = again.train("--recipe", Path(run["run"]) / "config.toml", tiny=False)
    for name in ("id", "weights_sha256", "history_sha256"):
        assert repeated[name] == run[name]


def test_what_has_no_meaning_is_not_in_the_config(desk: Desk) -> None:
    run = desk.train(*SMALL_WAVE, *PLAIN, "--epochs", 0, tiny=False)
    config = tomllib.loads((Path(run["run"]) / "config.toml").read_text())
    assert set(config["features"]) == {"sample_rate", "hop_length"}
    assert not {"frequency_masks", "equaliser_db", "mask_probability"} & set(config["augment"])
    same = desk.train(*SMALL_WAVE, *PLAIN, "--epochs", 0, "--set", "augment.mask_probability=0", tiny=False)
    assert same["id"] == run["id"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--model", "cnn1d", "--n-mels", "64"), "features.n_mels (--n-mels) applies only to models that take a 2-D"),
        (("--model", "cnn1d", "--feature", "mfcc"), "features.kind (--feature) applies only to models that take a 2-D"),
        (
            ("--model", "cel", "--input", "wave", "--equaliser", "3"),
            "augment.equaliser_db (--equaliser) applies only",
        ),
        (("--feature", "mfcc", "--equaliser", "3"), "augment.equaliser_db (--equaliser) applies only"),
        (("--n-mfcc", "13"), "features.n_mfcc (--n-mfcc) applies only where features.kind is mfcc, not mel"),
        (("--feature", "mfcc", "--n-mfcc", "200"), "features.n_mfcc (--n-mfcc) must be at most features.n_mels"),
        (("--feature", "mfcc", "--scale", "power"), "features.scale (--scale) applies only where features.kind is mel"),
        (("--overlap", "1"), "batches.overlap (--overlap) must be from 0 to 0.99, not 1.0"),
    ],
)
def test_what_has_no_meaning_is_refused(desk: Desk, given: tuple[str, ...], sentence: str) -> None:
    refused = desk.cli("train", *desk.on_corpus, *given, *desk.places)
    assert refused.status == 2
    assert sentence in refused.stderr


def test_the_waveform_is_normalised_by_the_training_clips(desk: Desk) -> None:
    run = Path(desk.train(*SMALL_WAVE, *PLAIN, tiny=False)["run"])
    scale = safetensors.numpy.load_file(run / "normalisation.safetensors")
    clips = [line.split(",")[0] for line in (run / "spans.csv").read_text().splitlines() if line.endswith("train")]
    given = ("--data-dir", desk.corpus, "--model", "cnn1d", "--res", desk.res)
    cache = Path(desk.cli.json("preprocess", "folder", *given)["cache"])
    wave = np.load(cache / "wave.npy", mmap_mode="r")
    rows = [line.split(",") for line in (cache / "index.csv").read_text().splitlines()]
    place, length = rows[0].index("first_sample"), rows[0].index("samples")
    trained = [wave[int(row[place]) : int(row[place]) + int(row[length])] for row in rows[1:] if row[0] in clips]
    assert len(trained) == len(clips)
    values = np.concatenate(trained).astype(np.float64) / 32768
    assert float(scale["wave.mean"][0]) == pytest.approx(values.mean(), abs=1e-7)
    assert float(scale["wave.deviation"][0]) == pytest.approx(values.std(), rel=1e-6)


def test_both_inputs_have_a_cache_each_and_share_it_with_others(desk: Desk) -> None:
    given = ("preprocess", "folder", "--data-dir", desk.corpus, "--n-mels", 16, "--res", desk.res)
    both = desk.cli.json(*given, "--model", "mixnet")
    mel = desk.cli.json(*given)
    wave = desk.cli.json("preprocess", "folder", "--data-dir", desk.corpus, "--res", desk.res, "--model", "cnn1d")
    assert both["caches"] == [wave["cache"], mel["cache"]]
    assert both["key"] == f"{wave['key']}+{mel['key']}"
    assert [list(json.loads((Path(each) / "cache.json").read_text())["arrays"]) for each in both["caches"]] == [
        ["wave.npy"],
        ["mel.npy"],
    ]
