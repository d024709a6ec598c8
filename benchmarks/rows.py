"""What is measured: for each row the work, the reference, the least ratio, and how to measure both sides."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from genrecls.config import DEFAULT_MODEL
from genrecls.models.registry import entries
from measures import ROOT, Speed, command, genrecls, preprocess, reference, train

Measure = Callable[[], Speed]
FIXED = 1e9
"""Amount of a reference that is a figure and no measurement, so that its rate is exact."""


@dataclass(frozen=True)
class Row:
    """ours, reference: measure one side once. floor: least ratio of the rates, None where one is only reported.

    skipped: why the row cannot be measured here, "" where it can.
    """

    work: str
    against: str
    floor: float | None
    unit: str
    ours: Measure
    reference: Measure
    skipped: str = ""


@dataclass(frozen=True)
class Scale:
    """How much is done. clips: of preprocessing. trained: clips of the training rows. crops: of each, for mlp2.

    model: settings of the SE-ResNet-18. recipes: whether the ancestors' recipes and all models are among the
    rows.
    sizes: numbers of clips at which costs are measured. step_seconds: how long steps of a model are made.
    """

    clips: int = 1000
    trained: int = 320
    crops: int = 16
    seconds: int = 30
    batch: int = 64
    width: int = 64
    recipes: bool = True
    sizes: tuple[int, ...] = (100, 1000, 3000, 10000)
    threads: int = 2
    step_seconds: float = 4.0
    mlp: dict[str, Any] = field(default_factory=lambda: {"name": "mlp2"})


FULL = Scale()
QUICK = Scale(
    clips=20, trained=40, crops=2, seconds=4, batch=16, width=4, recipes=False, sizes=(40, 80), step_seconds=0.1
)
_PLAIN = (
    *("--set", "augment.mask_probability=0", "--set", "augment.equaliser_db=0", "--set", "augment.mixup=0"),
    *("--set", "training.label_smoothing=0", "--split", "random", "--epochs", "3"),
)
"""The references do not augment."""
_TRAINING_SHARE = 0.8
ANCESTORS = (
    ("se-resnet-18 of SENets", "senets/se-resnet-18.toml", 7.6, "fragments/s"),
    ("cnn2d-gru of the CRNNs, 30-s mels", "fma-crnns/cnn2d-gru.toml", 1.5, "clips/s"),
    ("cnn1d of FMA", "fma-cnns/cnn1d.toml", 31.0, "clips/s"),
    ("cnn2d of FMA", "fma-cnns/cnn2d.toml", 27.0, "clips/s"),
    ("mixnet of FMA", "fma-cnns/mixnet.toml", 12.0, "clips/s"),
)
"""Recipe, and the figure of the issue for the ancestor's own program on a machine of two cores."""


def rows(corpus: Path, few: Path, scale: Scale) -> list[Row]:
    """Every row. corpus: for preprocessing. few: for training, with room for caches beside it."""
    threads = scale.threads
    arrays = few.parent / "npy"
    no_gpu = "" if torch.cuda.is_available() else "no CUDA device"
    se_resnet = {"name": "se-resnet", "depth": 18, "width": scale.width, "se_ratio": min(16, scale.width)}

    def ours(model: dict[str, Any], *more: str, crops: int = 1, device: str = "cpu") -> Measure:
        flags = ["--model", model["name"], "--batch-size", str(scale.batch), "--crops-per-clip", str(crops)]
        for name, value in model.items():
            flags += ["--set", f"model.{name}={value}"] if name != "name" else []
        flags += ["--kernels", "native", "--threads", str(threads), "--device", device, "--fragment", "3"]
        return lambda: train(few, *flags, *_PLAIN, *more)

    def loader(name: str, model: dict[str, Any], workers: int, crops: int = 1, **more: Any) -> Measure:
        given = {"share": _TRAINING_SHARE, "crops": crops, "batch_size": scale.batch, "threads": threads}
        return lambda: reference(name, corpus=str(few), model=model, workers=workers, **given, **more)

    def recipe(name: str) -> Measure:
        path = ROOT / "experiments" / name
        # FMA's settings for its own files do not apply to the corpus at hand.
        more = ["--split", "random", "--epochs", "2", "--threads", str(threads), "--device", "cpu"]
        more += ["--kernels", "native"]
        more += ["--crops-per-clip", "1"]
        more += ["--set", "dataset.exclude_genres="] if name.startswith("fma-crnns") else []
        return lambda: train(few, "--recipe", str(path), *more)

    preprocessing = f"{scale.clips} {scale.seconds}-s WAV clips to a 128-mel cache, {threads} processes"
    librosa = "" if find_spec("librosa") else "librosa is not installed (the extra `bench`)"
    epoch = f"an epoch of SE-ResNet-18 of width {scale.width}, 3-s fragments, batch {scale.batch}, from the cache"
    mlp = "an epoch of mlp2 on mel, 3-s fragments, from the cache"
    fixed = {"precision": "fp32", "batch_size": scale.batch, "threads": threads}
    small = {**scale.mlp, "input": "feature"}
    out = str(corpus.parent / "features.npy")
    made = [
        Row(
            preprocessing,
            "librosa loop",
            3.5,
            "clips/s",
            lambda: preprocess(corpus, threads),
            lambda: reference("librosa_loop", corpus=str(corpus), out=out),
            librosa,
        ),
        Row(
            preprocessing,
            f"torchaudio one clip at a time, {threads} threads",
            2.5,
            "clips/s",
            lambda: preprocess(corpus, threads),
            lambda: reference("torchaudio_loop", corpus=str(corpus), out=out, threads=threads),
        ),
        Row(
            f"{epoch}, precision auto",
            "DataLoader decoding on the fly, 0 workers, fp32",
            2.5,
            "fragments/s",
            ours(se_resnet),
            loader("decoded_on_the_fly", se_resnet, 0),
        ),
        Row(
            f"{epoch}, fp32",
            "DataLoader over .npy files, 2 workers, fp32",
            1.2,
            "fragments/s",
            ours(se_resnet, "--precision", "fp32"),
            loader("npy_clips", se_resnet, 2, folder=str(arrays)),
        ),
        Row(
            mlp,
            "DataLoader over .npy files, 2 workers, fp32",
            5.0,
            "fragments/s",
            ours(small, "--precision", "fp32", crops=scale.crops),
            loader("npy_clips", small, 2, scale.crops, folder=str(arrays)),
        ),
        Row(
            f"{epoch}, --deterministic error",
            "the same with off",
            0.95,
            "fragments/s",
            ours(se_resnet, "--deterministic", "error"),
            ours(se_resnet, "--deterministic", "off"),
        ),
        Row(
            f"{epoch}, on a GPU, bfloat16",
            "DataLoader over .npy files, 8 workers, bfloat16",
            10.0,
            "fragments/s",
            ours(se_resnet, "--precision", "bf16", crops=scale.crops, device="cuda"),
            loader("npy_clips", se_resnet, 8, scale.crops, folder=str(arrays), precision="bf16"),
            no_gpu,
        ),
        Row(
            preprocessing,
            "its limit: decoding and the Fourier transforms alone",
            None,
            "clips/s",
            lambda: preprocess(corpus, threads),
            lambda: reference("decode_and_fft", corpus=str(corpus), processes=threads),
        ),
        Row(
            f"{epoch}, fp32",
            "its limit: the same step on one fixed batch",
            None,
            "fragments/s",
            ours(se_resnet, "--precision", "fp32"),
            lambda: reference("fixed_batch", model=se_resnet, steps=6, **fixed),
        ),
        Row(
            mlp,
            "its limit: the same step on one fixed batch",
            None,
            "fragments/s",
            ours(small, "--precision", "fp32", crops=scale.crops),
            lambda: reference("fixed_batch", model=small, steps=60, **fixed),
        ),
    ]
    if scale.recipes:
        made += [
            Row(
                f"training of {name}",
                "figure of the issue",
                None,
                unit,
                recipe(path),
                partial(Speed, rate * FIXED, FIXED),
            )
            for name, path, rate, unit in ANCESTORS
        ]
    return [*made, *_steps(scale), *_starting(few, scale)]


PORTABLE_COST = 1.25
"""What a training step of the default model may take with portable kernels, in steps with native ones."""


def _steps(scale: Scale) -> list[Row]:
    """A training step of every model at its defaults, with either kind of kernels."""

    def steps(model: str, kind: str) -> Measure:
        given = {"model": model, "kind": kind, "threads": scale.threads, "seconds": scale.step_seconds}
        return lambda: reference("training_step", **given)

    return [
        Row(
            f"a training step of {model}, batch 32, portable kernels",
            "the same with native kernels, fp32",
            1 / PORTABLE_COST if model == DEFAULT_MODEL else None,
            "steps/s",
            steps(model, "portable"),
            steps(model, "native"),
        )
        for model in (entries() if scale.recipes else [DEFAULT_MODEL])
    ]


def _starting(few: Path, scale: Scale) -> list[Row]:
    clip = next(iter(sorted(few.rglob("*.wav"))))
    runs = few.parent / "predicting"

    def trained() -> str:
        """The run that predicts, trained where it is not there."""
        given = ("--dataset", "folder", "--data-dir", few, "--res", few.parent / "res", "--runs", runs)
        small = f"--batch-size {scale.batch} --crops-per-clip 1 --epochs 1 --width {scale.width}".split()
        small += ["--se-ratio", str(min(16, scale.width)), "--kernels", "native"]
        return str(genrecls("train", *given, *small, "--split", "random", "--precision", "fp32")["run"])

    return [
        Row(
            "genrecls --help",
            "0.3 s",
            1.0,
            "calls/s",
            lambda: command("-m", "genrecls", "--help"),
            lambda: Speed(FIXED, 0.3 * FIXED),
        ),
        Row(
            f"genrecls predict on a {scale.seconds}-s file",
            "import torch, torchaudio and the forward pass, alone",
            1 / 1.5,
            "calls/s",
            lambda: command("-m", "genrecls", "predict", trained(), clip, "--json"),
            lambda: command(
                ROOT / "benchmarks" / "references" / "forward_alone.py", str(scale.width), str(scale.seconds)
            ),
        ),
    ]
