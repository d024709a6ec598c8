"""C3: change one setting, and what it does not touch keeps its draws.

Every setting is classified below by what it may move. A run is trained with the setting at its usual and at
another value, and what each run recorded of its draws, its initial weights and its dropout is compared. A new
setting that nobody classified fails.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from conftest import CommandLine, Desk
from test_models import made

from genrecls import config, recipes
from genrecls.batches import TrainingCrops
from genrecls.fragments import Stretch
from genrecls.models.building import build
from genrecls.models.dropout import Dropout, begin_step
from genrecls.models.registry import entries, settings_class
from genrecls.models.shapes import InputShape
from genrecls.settings import described

Runs = Callable[..., Path]

ORDER, CROP, PLACE, MASK = "order", "crop", "place", "mask"
TONE, MIXUP, INIT, DROPOUT = "tone", "mixup", "init", "dropout"
ALTER, VARIANT = "alter", "variant"


@dataclass(frozen=True)
class Change:
    """A setting's other value, and what may differ with it. beside: settings it needs on both sides."""

    value: Any
    moves: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


EVERYTHING = (ORDER, CROP, PLACE, MASK, TONE, MIXUP, INIT, DROPOUT, ALTER, VARIANT)
CORPUS = (ORDER, CROP, PLACE, MASK, TONE, MIXUP, ALTER, VARIANT)
"""Another set of training clips: the draws are of other clips."""

VARIED = ("augment.variants=1", "augment.stretch_probability=0.5")

TABLE: dict[str, Change] = {
    "dataset.name": Change("gtzan", CORPUS),
    "dataset.data_dir": Change("elsewhere", CORPUS),
    "dataset.groups": Change("groups.csv", CORPUS),
    "dataset.exclude_genres": Change("middle", CORPUS),
    "split.policy": Change("contaminated", CORPUS),
    "split.folds": Change(4, CORPUS, beside=("split.policy=kfold",)),
    "split.fold": Change(1, CORPUS, beside=("split.policy=kfold",)),
    "split.seed": Change(1, CORPUS),
    # Other frames for the same seconds: the same u lands elsewhere.
    "features.sample_rate": Change(24000, (PLACE,)),
    "features.n_fft": Change(1024),
    "features.hop_length": Change(256, (PLACE,)),
    "features.n_mels": Change(40),
    "features.f_min": Change(50.0),
    "features.f_max": Change(8000.0),
    "features.kind": Change("mfcc"),
    "features.n_mfcc": Change(13, beside=("features.kind=mfcc",)),
    "features.scale": Change("power"),
    "batches.fragment": Change(1.2, (PLACE,)),
    "batches.crops_per_clip": Change(2),
    "batches.batch_size": Change(4),
    "batches.normalisation": Change("none"),
    "batches.overlap": Change(0.0),
    "batches.padding": Change("edge"),
    "model.name": Change("se-cnn", (INIT, DROPOUT)),
    "model.depth": Change(34, beside=("model.name=se-resnet",)),
    "model.se_ratio": Change(2, beside=("model.name=se-resnet",)),
    "model.width": Change(8, beside=("model.name=se-resnet",)),
    "model.dropout": Change(0.5),
    "model.head": Change("average", beside=("model.name=se-cnn",)),
    "model.channels": Change("8-4-8", beside=("model.name=se-cnn",)),
    "model.filters": Change(4, beside=("model.name=cnn2d",)),
    "model.kernel": Change(3, beside=("model.name=cnn2d",)),
    "model.window": Change(32, beside=("model.name=cnn2d",)),
    "model.dense": Change("12-8-4", beside=("model.name=cnn2d",)),
    "model.input": Change("wave", beside=("model.name=mlp2",)),
    "model.layers": Change(3, beside=("model.name=mlp2",)),
    "model.nodes": Change("8-4"),
    "model.dense_layers": Change(3),
    "model.hidden": Change(8, beside=("model.name=cnn1d-lstm",)),
    "model.rnn_layers": Change(1, beside=("model.name=cnn1d-lstm",)),
    "augment.mask_probability": Change(0.3),
    "augment.frequency_masks": Change(1),
    "augment.frequency_mask_bins": Change(3),
    "augment.time_masks": Change(1),
    "augment.time_mask_seconds": Change(0.1),
    "augment.equaliser_db": Change(0.0),
    "augment.mixup": Change(0.0),
    # On a model of the 2-D feature, gain and noise are of the variants.
    "augment.gain_probability": Change(0.5, beside=VARIED),
    "augment.gain_db": Change(3.0, beside=(*VARIED, "augment.gain_probability=0.5")),
    "augment.noise_probability": Change(0.5, beside=VARIED),
    "augment.noise_snr_low": Change(10.0, beside=(*VARIED, "augment.noise_probability=0.5")),
    "augment.noise_snr_high": Change(30.0, beside=(*VARIED, "augment.noise_probability=0.5")),
    "augment.wave_mask_probability": Change(0.5),
    "augment.wave_mask_low": Change(0.05),
    "augment.wave_mask_high": Change(0.2),
    "augment.wave_mask_fade": Change(0.0),
    "augment.amplitude_probability": Change(0.5),
    "augment.amplitude": Change(0.1, beside=("augment.amplitude_probability=0.5",)),
    "augment.frequency_shift_probability": Change(0.5),
    "augment.frequency_shift_bins": Change(2, beside=("augment.frequency_shift_probability=0.5",)),
    "augment.time_shift_probability": Change(0.5),
    "augment.time_shift": Change(0.1, beside=("augment.time_shift_probability=0.5",)),
    "augment.feature_noise_probability": Change(0.5),
    "augment.feature_noise": Change(0.1, beside=("augment.feature_noise_probability=0.5",)),
    "augment.variants": Change(2, beside=VARIED),
    "augment.stretch_probability": Change(1.0, beside=VARIED),
    "augment.stretch": Change(0.05, beside=VARIED),
    "augment.pitch_probability": Change(0.5, beside=VARIED),
    "augment.pitch": Change(0.5, beside=(*VARIED, "augment.pitch_probability=0.5")),
    "augment.speed_probability": Change(0.5, beside=VARIED),
    "augment.speed": Change(0.05, beside=(*VARIED, "augment.speed_probability=0.5")),
    "optimiser.name": Change("sgd"),
    "optimiser.lr": Change(0.001),
    "optimiser.momentum": Change(0.5, beside=("optimiser.name=sgd",)),
    "optimiser.weight_decay": Change(0.0),
    "optimiser.schedule": Change("constant"),
    "optimiser.warmup": Change(0.0),
    "optimiser.final_lr_share": Change(0.1),
    "optimiser.step_epochs": Change(1, beside=("optimiser.schedule=step",)),
    "optimiser.step_gamma": Change(0.1, beside=("optimiser.schedule=step",)),
    "optimiser.plateau_factor": Change(0.1, beside=("optimiser.schedule=plateau",)),
    "optimiser.plateau_patience": Change(0, beside=("optimiser.schedule=plateau",)),
    "optimiser.plateau_threshold": Change(1.0, beside=("optimiser.schedule=plateau",)),
    "optimiser.l1": Change(0.01),
    "optimiser.l2": Change(0.01),
    "optimiser.clip_norm": Change(0.1),
    "training.seed": Change(1, EVERYTHING),
    "training.epochs": Change(3),
    "training.label_smoothing": Change(0.0),
    "training.select": Change("accuracy"),
    "training.patience": Change(1),
    "training.minimum_change": Change(1.0, beside=("training.patience=1",)),
    "training.class_weights": Change("balanced"),
    "training.initialisation": Change("xavier", (INIT,)),
    "compute.device": Change("cuda"),
    "compute.kernels": Change("native"),
    "compute.precision": Change("bf16", beside=("compute.kernels=native",)),
    "compute.threads": Change(2),
    "compute.deterministic": Change("off"),
    "compute.resident_limit": Change(0.001),
    "compute.ranks": Change(2, (DROPOUT,)),
}

# Their other values are other corpora or other machines: tests of corpora, and of the GPU, hold what is promised.
ELSEWHERE = {"dataset.name", "dataset.data_dir", "dataset.groups", "model.name", "compute.device", "compute.ranks"}
WITHOUT_BITS = {"compute.resident_limit"}
# These are of models that take the waveform: asked below.
QUICK = {
    *("split.seed", "features.n_mels", "batches.crops_per_clip", "batches.overlap", "model.dropout", "model.nodes"),
    *("augment.time_masks", "augment.mixup", "optimiser.lr", "optimiser.clip_norm", "training.seed"),
    *("training.label_smoothing", "training.initialisation", "compute.resident_limit"),
}
"""Some of each section; the others, of which each trains two runs, are slow tests."""
OF_WAVE = {name for name in TABLE if name.startswith("augment.wave_mask")}
ELSEWHERE |= OF_WAVE


def every_setting() -> Iterator[str]:
    yield "model.name"
    for section, each, _ in config.fields():
        if section != "model":
            yield f"{section}.{each.name}"
    for entry in entries().values():
        for each, _ in described(entry.settings):
            yield f"model.{each.name}"


def test_every_setting_is_classified() -> None:
    assert set(every_setting()) == set(TABLE)


BASE: config.Nested = {
    "features": {"n_mels": 32},
    "batches": {"fragment": 1.0, "batch_size": 8, "crops_per_clip": 1},
    "model": {"name": "cel", "nodes": "8-8", "dropout": 0.1},
    "training": {"epochs": 2},
    "compute": {"threads": 1, "precision": "fp32"},
}
MODELS: dict[str, dict[str, Any]] = {
    "se-resnet": {"width": 4, "se_ratio": 4, "dropout": 0.1},
    "se-cnn": {"channels": "8-8-8", "se_ratio": 4},
    "cnn2d": {"filters": 8, "window": 16, "dense": "12-8"},
    "mlp2": {"nodes": "16-16"},
    "cnn1d-lstm": {"hidden": 16},
}
"""What stands in the section `model` of BASE for the settings that its own model has not."""


def base(assignments: tuple[str, ...]) -> config.Nested:
    """BASE, with the settings of the model that the assignments name."""
    named = [name for name in MODELS if f"model.name={name}" in assignments]
    if not named:
        return BASE
    # The wave has no mel bins, and so no number of them is set beside a model that can take either.
    features = {} if named == ["mlp2"] else BASE["features"]
    return {**BASE, "features": features, "model": MODELS[named[0]]}


def changed(*assignments: str) -> config.Config:
    layers = [base(assignments)]
    for text in assignments:
        section, name, value = recipes.parse_assignment(text)
        layers.append({section: {name: value}})
    return config.read(config.overlay(*layers), settings_class)


@pytest.fixture(scope="module")
def run_of(
    cli: CommandLine,
    native_cli: CommandLine,
    corpus: Path,
    shared_res: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """Trains the base run with some settings changed; asked for the same again, the run is found."""
    runs = tmp_path_factory.mktemp("isolation")
    portable, native = (Desk(each, corpus, shared_res, runs) for each in (cli, native_cli))

    def run(*assignments: str) -> Path:
        usual = base(assignments)
        texts = [f"{section}.{name}={value}" for section, fields in usual.items() for name, value in fields.items()]
        given = {text.split("=")[0]: text for text in (*texts, *assignments)}.values()
        desk = native if "compute.kernels=native" in given else portable
        return Path(desk.train(*(word for text in given for word in ("--set", text)), tiny=False)["run"])

    return cache(run)


def recorded_draws(run: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (run / "draws.jsonl").read_text().splitlines()]


STREAMS = {
    "order": ORDER,
    "crop": CROP,
    "augment.frequency_mask": MASK,
    "augment.time_mask": MASK,
    "augment.equaliser": TONE,
    "augment.mixup": MIXUP,
    "augment.variant": VARIANT,
    **{
        f"augment.{name}": ALTER
        for name in ("gain", "noise", "wave_mask", "amplitude", "frequency_shift", "time_shift", "feature_noise")
    },
}


def kind_of(stream: str) -> str:
    return next(kind for prefix, kind in STREAMS.items() if stream.startswith(prefix))


@pytest.mark.parametrize(
    "setting",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TABLE if name not in ELSEWHERE],
)
def test_a_setting_moves_only_what_it_may(run_of: Runs, setting: str) -> None:
    change = TABLE[setting]
    run, other = run_of(*change.beside), run_of(*change.beside, f"{setting}={change.value}")
    assert (run != other) == (setting not in WITHOUT_BITS), f"{setting} and the id"

    if setting != "batches.crops_per_clip":  # which adds crops: what that leaves alone is asked below
        for line, of_other in zip(recorded_draws(run), recorded_draws(other), strict=False):
            for stream in (line.keys() & of_other.keys()) - {"epoch"}:
                moved = line[stream] != of_other[stream]
                assert moved == (kind_of(stream) in change.moves), f"{setting}: {stream} in epoch {line['epoch']}"

    initial, others = (safetensors.numpy.load_file(path / "initial.safetensors") for path in (run, other))
    same_shape = [name for name in initial.keys() & others.keys() if initial[name].shape == others[name].shape]
    drawn = [name for name in same_shape if np.unique(initial[name]).size > 1]
    assert drawn or setting == "model.width"
    for name in drawn:
        assert (initial[name] == others[name]).all() == (INIT not in change.moves), f"{setting}: {name}"


def plan(settings: config.Config) -> Any:
    stretches = [Stretch(f"clip{i}", i % 3, 100 * i, 90 + i) for i in range(20)]
    return TrainingCrops(stretches, settings).plan(1)


@pytest.mark.parametrize(
    "setting", [name for name in TABLE if not name.startswith(("dataset.", "split.")) and name not in ELSEWHERE]
)
def test_order_and_places_of_crops(setting: str) -> None:
    change = TABLE[setting]
    usual, other = plan(changed(*change.beside)), plan(changed(*change.beside, f"{setting}={change.value}"))
    if setting == "batches.crops_per_clip":
        # The first crops keep their places, and their order among each other.
        others = iter(list(zip(other.clip, other.places.start, strict=True)))
        assert all(crop in others for crop in zip(usual.clip, usual.places.start, strict=True))
        return
    assert (usual.clip.tolist() != other.clip.tolist()) == (ORDER in change.moves)
    assert (usual.places.start.tolist() != other.places.start.tolist()) == (PLACE in change.moves)
    assert (usual.partner.tolist() != other.partner.tolist()) == (MIXUP in change.moves)


def masks(settings: config.Config) -> dict[str, list[bool]]:
    model = build(settings.model, InputShape(32, 43, 3, 22050))
    model.train()
    begin_step(model, settings.training.seed, 7)
    made = {}
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            # One threshold for all, because the probability is no draw.
            module.p = 0.5
            made[name] = (module(torch.ones(4, 32)) == 0).flatten().tolist()
    return made


@pytest.mark.parametrize("setting", [name for name in TABLE if name not in ELSEWHERE])
def test_dropout_masks(setting: str) -> None:
    change = TABLE[setting]
    usual, other = masks(changed(*change.beside)), masks(changed(*change.beside, f"{setting}={change.value}"))
    for name in usual.keys() & other.keys():
        assert (usual[name] != other[name]) == (DROPOUT in change.moves), name


def test_what_is_done_to_the_waveform_moves_no_other_draw() -> None:
    stretches = [Stretch(f"clip{i}", i % 3, 0, 0, 50000 * i, 50000) for i in range(40)]
    every = {"gain_probability": 0.5, "noise_probability": 0.5, "wave_mask_probability": 0.5}

    def streams(**given: object) -> dict[str, str]:
        settings = config.read({"model": {"name": "cnn1d"}, "augment": given}, settings_class)
        hashes: dict[str, str] = TrainingCrops(stretches, settings).plan(1).sha256
        return hashes

    usual, altered = streams(), streams(**every)
    assert usual.items() < altered.items()
    assert {kind_of(stream) for stream in altered.keys() - usual.keys()} == {ALTER}
    others = {"gain_db": 3.0, "noise_snr_low": 10.0, "noise_snr_high": 30.0, "noise_probability": 0.9}
    strengths = {name.split(".")[1]: TABLE[name].value for name in OF_WAVE}
    assert streams(**every | others | strengths) == altered


OTHERS: dict[tuple[str, str], Any] = {
    ("se-cnn", "channels"): "16-32-8",
    ("cnn1d", "channels"): "8-16-8-32",
    ("mixnet", "channels"): "8-16-8-32",
    ("mlp2", "nodes"): "16-8",
}
"""Other values of a model's own settings where those of TABLE do not fit the small model."""


@pytest.mark.parametrize(
    ("name", "field"),
    [(entry.name, each.name) for entry in entries().values() for each, _ in described(entry.settings)],
)
def test_a_models_own_setting_moves_nothing_of_the_same_name_and_shape(name: str, field: str) -> None:
    """C3 for every model: first values of what kept its name and shape, and dropout of what kept its name."""
    value = OTHERS.get((name, field), TABLE[f"model.{field}"].value)
    usual, other = made(name), made(name, **{field: value})
    weights, others = usual.state_dict(), other.state_dict()
    kept = [key for key in weights.keys() & others.keys() if weights[key].shape == others[key].shape]
    assert kept
    assert all(torch.equal(weights[key], others[key]) for key in kept)
    begin_step(usual.train(), 3, 7)
    begin_step(other.train(), 3, 7)
    keys = [{n: m.key for n, m in model.named_modules() if isinstance(m, Dropout)} for model in (usual, other)]
    assert all(keys[0][n] == keys[1][n] for n in keys[0].keys() & keys[1].keys())
