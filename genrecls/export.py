"""A run as one ONNX file: from a waveform of any length to the probability of each genre, without PyTorch.

The graph does what `predict` does: features, rounded to float16 as caches hold them, fragments on their grid,
normalisation, the network, and the mean over fragments. Fragments keep the run's length, which recurrent layers are
exported for. What it computes differs from `predict` by the order of sums, and, where a feature lies between two
float16 numbers, by which of the two it is rounded to.
"""

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from genrecls import __version__, exact
from genrecls.config import Config, Input
from genrecls.errors import GenreclsError
from genrecls.features import FULL_SCALE, LOG_OFFSET, Spectral, restored
from genrecls.inference import trained_model
from genrecls.models.building import parameters
from genrecls.normalisation import Normalisation
from genrecls.predict import Predictor
from genrecls.run import Run
from genrecls.seeding import name_key, uniform
from genrecls.weights import read_normalisation

TOLERANCE = 1e-4
"""How far a probability may be from `predict`'s."""
LENGTHS = (0.4, 3.3, 20.6)
"""Of the signals that an export is checked with, in fragments: shorter than one, a few, many."""
LARGEST = 2**31 - 2**20
"""Bytes of weights in one file: protobuf, which ONNX files are written in, ends at 2 GiB."""
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Check:
    """One comparison with `predict`. seconds: of the signal. difference: the largest of a probability."""

    seconds: float
    fragments: int
    difference: float


@dataclass(frozen=True)
class Exported:
    """content: the file. opset: version of the operators that it uses. checks: of LENGTHS, in their order."""

    content: bytes
    opset: int
    checks: tuple[Check, ...]

    @property
    def difference(self) -> float:
        """The largest of all checks."""
        return max(check.difference for check in self.checks)


class FromWaveform(nn.Module):
    """What is exported: a trained model with all that comes before and after it.

    model: on the CPU. scales: the run's normalisation of each input that the model takes.
    """

    def __init__(self, model: nn.Module, scales: Mapping[Input, Normalisation], config: Config) -> None:
        super().__init__()
        self.model = model.eval()
        self._scales, self._config = scales, config
        if "feature" in config.model.inputs:
            spectral = Spectral(config.features)
            self._filterbank, self._dct = spectral.filterbank, spectral.dct
            self._silence = torch.from_numpy(spectral.silence())
            self._window = torch.hann_window(config.features.n_fft)
            self._waves = _waves(config.features.n_fft)

    def forward(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (n,) in [-1, 1] -> probabilities (genres,), their values by fragment (fragments, genres)."""
        config, hop, count = self._config, self._config.features.hop_length, samples.shape[0]
        seen, frames = count, count // hop + 1
        if "feature" in config.model.inputs:
            # As `Spectral` has it: a clip shorter than half a window is extended with silence.
            seen = torch.sym_max(count, config.features.n_fft // 2 + 1)
            frames = (seen - config.features.n_fft % 2) // hop + 1
        last = torch.sym_max(frames - config.frames, 0)
        step = max(1, int(config.frames * (1 - config.batches.overlap)))
        starts = torch.minimum(torch.arange((last + step - 1) // step + 1) * step, _scalar(last))
        taken = []
        for kind in config.model.inputs:
            if kind == "wave":
                rows = (samples * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)[:, None]
                begin = torch.minimum(starts * hop, _scalar(torch.sym_max(count - config.samples, 0)))
                cut = self._cut(rows, count, begin, config.samples, torch.zeros(1))
                taken.append(self._scales[kind](restored(cut, kind, config.features)).transpose(1, 2))
            else:
                cut = self._cut(self._rows(samples, seen, frames), frames, starts, config.frames, self._silence)
                taken.append(self._scales[kind](restored(cut, kind, config.features)).transpose(1, 2)[:, None])
        probabilities = torch.softmax(self.model(*taken), dim=1)
        return probabilities.mean(dim=0), probabilities

    def _rows(self, samples: torch.Tensor, seen: int, frames: int) -> torch.Tensor:
        """The feature, float16 (frames, bins). By indices, because `torch.stft` asks for lengths known beforehand."""
        settings = self._config.features
        half = settings.n_fft // 2
        at = torch.arange(frames)[:, None] * settings.hop_length + torch.arange(-half, settings.n_fft - half)
        # Reflected at both ends.
        at = _scalar(seen - 1) - (_scalar(seen - 1) - at.abs()).abs()
        count = samples.shape[0]
        windows = samples.index_select(0, torch.minimum(at, _scalar(count - 1)).reshape(-1))
        windows = torch.where(at < _scalar(count), windows.reshape(-1, settings.n_fft), 0.0)
        windows = windows * self._window
        if self._waves is None:
            power = torch.view_as_real(torch.fft.rfft(windows)).square().sum(dim=2)
        else:
            cosines, sines = self._waves
            power = (windows @ cosines).square() + (windows @ sines).square()
        if self._filterbank is not None:
            power = power @ self._filterbank
        rows = (power + LOG_OFFSET).log()
        if self._dct is not None:
            rows = rows @ self._dct
        return rows.to(torch.float16)

    def _cut(
        self,
        rows: torch.Tensor,
        extent: int,
        start: torch.Tensor,
        length: int,
        silence: torch.Tensor,
    ) -> torch.Tensor:
        """Fragments (n, length, width) of (extent, width), as `fragments.Flat` takes them."""
        padding = self._config.batches.padding
        offset = start[:, None] + torch.arange(length)
        within = offset % _scalar(extent) if padding == "repeat" else torch.minimum(offset, _scalar(extent - 1))
        taken = rows.index_select(0, within.reshape(-1)).reshape(-1, length, rows.shape[1])
        if padding == "zero":
            taken = torch.where((offset >= _scalar(extent))[:, :, None], silence, taken)
        return taken


def _waves(n_fft: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The Fourier transform as two matrices, float32 (n_fft, n_fft // 2 + 1); None for powers of two.

    For other lengths ONNX Runtime's own is imprecise: log power is off by up to 1.4 at 1000, where a product with
    these is off by 0.0025 and PyTorch's transform by 0.0030.
    """
    if n_fft & (n_fft - 1) == 0:
        return None
    turns = np.outer(np.arange(n_fft), np.arange(n_fft // 2 + 1)) % n_fft / n_fft
    cosines, sines = (torch.from_numpy(made.astype(np.float32)) for made in (exact.cosine(turns), exact.sine(turns)))
    return cosines, sines


def _scalar(value: int) -> torch.Tensor:
    """A length, symbolic in an export, as a tensor: the exporter knows no arithmetic between the two."""
    return torch.scalar_tensor(value, dtype=torch.int64)


def export(found: Run) -> Exported:
    """The best weights of a run as an ONNX file, checked by ONNX Runtime against `predict` at three lengths.

    Input `samples`: float32 (n,), one channel at the model's rate, n at least 2. Outputs: `probabilities` float32
    (genres,), and `fragments` float32 (fragments, genres), which they are the mean of. All fragments are computed at
    once, so that memory grows with n. The metadata names the genres in their order.
    Raises GenreclsError where the extra is not installed, the run was not trained, or the check fails.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise GenreclsError(
            f"An export needs {' and '.join(missing)}, not installed here: run `pip install -e '.[export]'` in the "
            "checkout."
        )
    config, predictor = found.config, Predictor(found, "cpu")
    model = trained_model(found, torch.device("cpu"))
    n_fft = config.features.n_fft
    transform = 0 if n_fft & (n_fft - 1) == 0 or "feature" not in config.model.inputs else 4 * n_fft * (n_fft + 2)
    if 4 * parameters(model) + transform > LARGEST:
        raise GenreclsError(
            f"The weights of the run {found.path} and its Fourier transform take more than the 2 GiB that an ONNX file "
            "can hold: train a model with fewer parameters, or with a power of two as --n-fft."
        )
    content, opset = _converted(FromWaveform(model, read_normalisation(found), config), config, _metadata(found))
    checks = tuple(_checks(content, predictor, config))
    made = Exported(content, opset, checks)
    if not made.difference <= TOLERANCE:  # NaN, too
        raise GenreclsError(
            f"The exported model's probabilities differ from those of `genrecls predict` by {made.difference:.1e}, "
            f"more than {TOLERANCE:.0e}, so that it was not written: install the versions of requirements-dev.txt."
        )
    return made


def _metadata(found: Run) -> dict[str, str]:
    config = found.config
    features = config.features
    values = {
        "genres": json.dumps(found.record["genres"]),
        "sample_rate": features.sample_rate,
        "run": found.record["id"],
        "model": config.model.name,
        "genrecls_version": __version__,
        "hop_length": features.hop_length,
        "fragment_frames": config.frames,
        "fragment_seconds": config.batches.fragment,
        "overlap": config.batches.overlap,
    }
    return {f"genrecls.{name}": str(value) for name, value in values.items()}


def _converted(graph: FromWaveform, config: Config, metadata: Mapping[str, str]) -> tuple[bytes, int]:
    example = torch.from_numpy(_signal(3 * config.samples, config.features.sample_rate))
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n", min=2)},),
            input_names=["samples"],
            output_names=["probabilities", "fragments"],
            verbose=False,
        )
    assert program is not None
    model = program.model
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    model.producer_name, model.producer_version = "genrecls", __version__
    for node in model.graph:  # They name files of this machine.
        node.metadata_props.clear()
    return program.model_proto.SerializeToString(deterministic=True), model.opset_imports[""]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what the exporter remarks about itself: of libraries it does not need, of recurrent layers' weights."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _checks(content: bytes, predictor: Predictor, config: Config) -> Iterator[Check]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.compute.threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    rate = config.features.sample_rate
    for length in LENGTHS:
        samples = _signal(max(2, round(length * config.samples)), rate)
        probabilities, fragments = session.run(None, {"samples": samples})
        ours = predictor.predict_samples(samples, rate)
        if fragments.shape != ours.probabilities.shape:
            raise GenreclsError(
                f"The exported model cuts {len(samples)} samples into {len(fragments)} fragments, `genrecls predict` "
                f"into {len(ours.probabilities)}: install the versions of requirements-dev.txt."
            )
        either = np.abs(probabilities - ours.mean).max(), np.abs(fragments - ours.probabilities).max()
        yield Check(len(samples) / rate, len(fragments), float(max(either)))


def _signal(count: int, rate: int) -> NDArray[np.float32]:
    """Something with tones, noise and pauses, the same each time: float32 (count,)."""
    time = np.arange(count) / rate
    tone = exact.sine((220 + 60 * exact.sine(0.7 * time)) * time)
    noise = 2 * uniform(0, "export", 0, name_key("signal"), np.arange(count)) - 1
    loudness = np.clip(exact.sine(1.3 * time + 0.16), 0, 1)
    signal: NDArray[np.float32] = (loudness * (0.5 * tone + 0.2 * noise)).astype(np.float32)
    return signal
