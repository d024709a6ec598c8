"""A run as an ONNX file: every model, feature, normalisation and padding, at any length, beside `predict`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import Desk
from numpy.typing import NDArray
from small import SMALL

import genrecls
from genrecls import export
from genrecls.errors import GenreclsError
from genrecls.models.registry import entries
from genrecls.run import Run

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# Between them every input, feature, normalisation, padding, and transforms of all kinds of lengths.
VARIED: dict[str, tuple[str, ...]] = {
    "se-resnet": ("--n-mels", "24"),
    "se-cnn": ("--feature", "mfcc", "--n-mfcc", "16", "--normalisation", "clip"),
    "cnn1d": ("--normalisation", "clip", "--padding", "zero"),
    "cnn2d": ("--normalisation", "clip-minmax", "--padding", "edge", "--overlap", "0.7"),
    "mixnet": ("--n-fft", "1000", "--hop-length", "300", "--padding", "zero"),
    "mlp": ("--input", "wave", "--normalisation", "none", "--sample-rate", "8000", "--padding", "edge"),
    "mlp2": ("--feature", "spectrogram", "--scale", "power", "--n-fft", "512", "--overlap", "0"),
    "cel": ("--feature", "spectrogram", "--n-fft", "1024", "--padding", "zero"),
    "cel2": ("--input", "wave", "--sample-rate", "8000", "--overlap", "0.99"),
    "cel3": ("--n-fft", "1023", "--hop-length", "512", "--normalisation", "none"),
    "cnn1d-gru": ("--n-fft", "256", "--hop-length", "256", "--n-mels", "16"),
    "cnn1d-lstm": ("--rnn-layers", "1", "--normalisation", "clip-minmax"),
    "cnn2d-gru": ("--scale", "power", "--normalisation", "clip"),
    "cnn2d-lstm": ("--feature", "mfcc", "--padding", "edge"),
}


@pytest.fixture
def switches() -> Iterator[None]:
    """What making a Predictor sets is set back."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def session(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def sound(count: int, rate: int) -> NDArray[np.float32]:
    time = np.arange(count) / rate
    beat = np.sin(2 * np.pi * 3 * time) > -0.5
    made: NDArray[np.float32] = (0.4 * beat * np.sin(2 * np.pi * (300 + 900 * time) * time)).astype(np.float32)
    made[0] = 0.5  # However short: no silence.
    return made


def agree(content: bytes, run: Path, lengths: dict[int, int]) -> None:
    """The file says what `predict` says of sounds of these lengths, which give so many fragments."""
    ours, theirs = genrecls.load(run), session(content)
    for count, fragments in lengths.items():
        samples = sound(count, ours.sample_rate)
        mean, each = theirs.run(None, {"samples": samples})
        expected = ours.predict_samples(samples, ours.sample_rate)
        assert expected.probabilities.shape == (fragments, len(ours.genres))
        np.testing.assert_allclose(each, expected.probabilities, rtol=0, atol=1e-4)
        np.testing.assert_allclose(mean, expected.mean, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_export_from_the_command_line(trained: Desk, tmp_path: Path) -> None:
    run = next(trained.runs.iterdir())
    made = trained.cli.json("export", run, "--out", tmp_path / "genres.onnx")
    assert set(made) == {"run", "out", "bytes", "opset", "difference", "checks"}
    assert [check["fragments"] for check in made["checks"]] == [1, 6, 42]
    assert made["difference"] == max(check["difference"] for check in made["checks"]) < 1e-4
    content = (tmp_path / "genres.onnx").read_bytes()
    assert len(content) == made["bytes"]
    assert str(Path(genrecls.__file__).parent).encode() not in content

    # Real files, which nothing but the file, its metadata and their samples is needed for.
    theirs = session(content)
    about = theirs.get_modelmeta().custom_metadata_map
    genres, rate = json.loads(about["genrecls.genres"]), int(about["genrecls.sample_rate"])
    record = Run(run).record
    assert about["genrecls.run"] == record["id"]
    assert (genres, about["genrecls.genrecls_version"]) == (record["genres"], genrecls.__version__)
    assert {name: about[f"genrecls.{name}"] for name in ("hop_length", "fragment_seconds", "fragment_frames")} == {
        "hop_length": "512",
        "fragment_seconds": "1.0",
        "fragment_frames": "43",
    }
    clips = sorted(trained.corpus.rglob("*.wav"))[::9]
    for clip, file in zip(clips, trained.cli.json("predict", run, *clips)["files"], strict=True):
        samples, found = soundfile.read(clip, dtype="float32")
        assert found == rate
        mean, _ = theirs.run(["probabilities", "fragments"], {"samples": samples})
        assert dict(zip(genres, mean.tolist(), strict=True)) == pytest.approx(file["probabilities"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("name", list(entries()))
def test_every_model_at_every_length(name: str, trained: Desk, tmp_path: Path) -> None:
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path)
    small = [f"--set=model.{key}={json.dumps(value)}" for key, value in SMALL[name].items()]
    plain = ("--fragment", "1", "--crops-per-clip", "1", "--batch-size", "8", "--epochs", "1", "--threads", "1")
    made = desk.train("--model", name, *small, *plain, *VARIED[name], tiny=False)
    run = Path(made["run"])
    exported = export.export(Run(run))
    assert exported.difference < 1e-4
    config = Run(run).config
    hop, step = config.features.hop_length, max(1, int(config.frames * (1 - config.batches.overlap)))
    fragment = config.frames * hop + config.features.n_fft % 2  # Windows of odd length reach a sample less far.
    # Of a few samples, at both sides of where a second fragment begins, and of half a minute.
    lengths = {2: 1, 300: 1, fragment // 2: 1, fragment - hop: 1, fragment: 2}
    lengths |= {fragment + (step * k - 1) * hop + 7: k + 1 for k in (1, 3, 20)}
    agree(exported.content, run, lengths)


def test_nothing_is_written_where_the_check_fails(
    trained: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(export, "_converted", lambda *_: (b"", 20))
    monkeypatch.setattr(export, "_checks", lambda *_: [export.Check(1.0, 1, 2e-4)])
    monkeypatch.setattr(export, "Predictor", lambda *_: None)
    with pytest.raises(GenreclsError, match=r"differ from those of `genrecls predict` by 2.0e-04, more than 1e-04"):
        export.export(Run(next(trained.runs.iterdir())))
    monkeypatch.setattr(export, "_checks", lambda *_: [export.Check(1.0, 1, float("nan"))])
    with pytest.raises(GenreclsError, match="by nan"):
        export.export(Run(next(trained.runs.iterdir())))


def test_what_cannot_be_exported_is_said(trained: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(next(trained.runs.iterdir()))
    monkeypatch.setattr(export, "LARGEST", 1000)
    monkeypatch.setattr(export, "Predictor", lambda *_: None)
    with pytest.raises(GenreclsError, match="more than the 2 GiB that an ONNX file can hold: train a model"):
        export.export(run)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(GenreclsError, match=r"needs onnxscript, not installed here: run `pip install -e '.\[export\]'"):
        export.export(run)


def test_a_run_that_was_not_trained(desk: Desk) -> None:
    made = desk.train("--epochs", "0")
    done = desk.cli("export", made["run"])
    assert done.status == 1
    assert "has only initial weights: train one with more than 0 --epochs." in done.stderr
    assert not (Path(made["run"]) / "model.onnx").exists()
