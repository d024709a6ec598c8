"""What tests/portable.py computes on each processor, a SHA-256 for each thing: every model, features, a whole run.

Inputs are made by exact arithmetic. This module imports PyTorch, so that kernels have to be chosen before it.
"""

import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden
import numpy as np
import soundfile
import torch
import torch._inductor  # Which deterministic algorithms import when they are switched on: once for all parts.

from genrecls import audio, config, normalisation
from genrecls.augment.mixing import mixup_weights
from genrecls.augment.variants import Variation, vary
from genrecls.cli.main import status
from genrecls.features import extractor, restored
from genrecls.metrics import softmax
from genrecls.models.registry import settings_class
from genrecls.seeding import uniform

Digests = dict[str, str]

STEPS = 2
RATE = 22050
GENRES, CLIPS = ("high", "low", "middle"), 5
TINY = (
    *("--n-mels", "32", "--fragment", "1", "--width", "4", "--se-ratio", "4", "--crops-per-clip", "1"),
    *("--batch-size", "8", "--epochs", "2", "--split", "random"),
)


def digest(*values: Any) -> str:
    """A SHA-256 over arrays, tensors and JSON values, to the last bit."""
    made = hashlib.sha256()
    for value in values:
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        if isinstance(array, np.ndarray):
            made.update(f"{array.dtype} {array.shape} ".encode())
            made.update(np.ascontiguousarray(array).tobytes())
        else:
            made.update(json.dumps(array, sort_keys=True).encode())
    return made.hexdigest()


def model(name: str) -> Digests:
    """Losses, updated weights and validation of two steps."""
    return {name: digest(golden.steps(golden.settings(name), STEPS))}


def features() -> Digests:
    """What is made of samples and of probabilities, without a model."""
    return dict(_features())


def _features() -> Iterator[tuple[str, str]]:
    wave = golden.signal(1, 3 * RATE)
    rows = {}
    for kind in ("mel", "mfcc", "spectrogram"):
        settings = config.read({"features": {"kind": kind}}, settings_class).features
        rows[kind] = extractor("feature", settings)(wave)
        yield kind, digest(rows[kind])
        if kind != "mfcc":
            power = replace(settings, scale="power")
            yield f"{kind}, power", digest(restored(torch.from_numpy(rows[kind]), "feature", power))
    as_wave = extractor("wave", config.read({}, settings_class).features)
    for rate in (44100, 32000):
        samples = audio.resample(golden.signal(2, 3 * rate), rate, RATE)
        yield f"wave, from {rate} Hz", digest(samples, as_wave(samples))
    for name, wanted in (
        ("stretch", Variation(stretch=1.07)),
        ("pitch", Variation(semitones=0.6)),
        ("speed", Variation(speed=0.98)),
        ("gain and noise", Variation(gain_db=-3.0, noise_snr_db=20.0, noise_key=7)),
    ):
        yield f"variant: {name}", digest(vary(wave, wanted))
    scale = normalisation.corpus([rows["mel"]], rows["mel"].shape[1])
    batch = torch.from_numpy(rows["mel"][:128]).unflatten(0, (4, 32))
    scaled = [replace(scale, method=method)(batch) for method in ("corpus", "clip", "clip-minmax")]
    yield "normalisation", digest(scale.mean, scale.deviation, *scaled)
    draws = uniform(0, "golden", 3, np.arange(1000))
    yield "draws", digest(draws, mixup_weights(draws, 0.2))
    logits = (draws.reshape(-1, 4) * 20 - 10).astype(np.float32)
    yield "figures", digest(golden.figures(), softmax(logits))


def run() -> Digests:
    """A tiny run by the command line: preprocess, train, evaluate, predict."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        corpus = root / "corpus"
        for i in range(len(GENRES) * CLIPS):
            path = corpus / GENRES[i % len(GENRES)] / f"{i:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = np.ldexp(golden.signal(i, int(1.6 * 44100)), 15).clip(-32768, 32767)
            soundfile.write(path, samples.astype(np.int16), 44100, subtype="PCM_16")
        places = ("--res", root / "res", "--runs", root / "runs")
        on_corpus = ("--dataset", "folder", "--data-dir", corpus)
        cache = _json("preprocess", "folder", "--data-dir", corpus, "--n-mels", 32, "--res", root / "res", "--jobs", 1)
        trained = _json("train", *on_corpus, *TINY, *places)
        arrays = json.loads(Path(cache["cache"], "cache.json").read_text())["arrays"]
        record = json.loads(Path(trained["run"], "run.json").read_text())
        scored = _json("evaluate", trained["run"], *places)
        predicted = _json("predict", trained["run"], corpus / "low" / "01.wav", *places[2:])
        for each in predicted if isinstance(predicted, list) else predicted["files"]:
            each.pop("path", None)
        return {
            "run: cache": digest(sorted(array["sha256"] for array in arrays.values())),
            "run: weights": record["weights_sha256"],
            "run: history": record["history_sha256"],
            "run: predictions": scored["predictions_sha256"],
            "run: predict": digest(predicted),
        }


def _json(*arguments: object) -> Any:
    """Run a command that must succeed, in this process, and read its JSON."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        left = status([*map(str, arguments), "--json"])
    if left:
        raise SystemExit(left)
    return json.loads(output.getvalue())


def compute(part: str) -> Digests:
    """The digests of a part: "features", "run" or a model's name."""
    if part == "run":
        return run()
    with golden.as_in_a_run():
        return features() if part == "features" else model(part)
