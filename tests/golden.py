"""The numbers that no change may move unnoticed, in data/golden.json: `python tests/golden.py` writes them.

Losses of a few training steps of every model, with what its first weights and its draws are, values of every feature of
a fixed signal, and figures of fixed probabilities. Inputs are made by exact arithmetic, so that what differs between
machines is the computation alone. All is computed with portable kernels and compared to the bit on every machine that
has them; elsewhere what is not to depend on the kernels is compared to the bit, and the rest within tolerances.

The file also says by which code the numbers were made. Code that was rewritten and makes the same ones is declared
equivalent by `python tests/golden.py --equivalent "what was done"`, so that runs of the old code are runs of the new.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from small import SMALL

from genrecls import config, kernels, metrics, normalisation, provenance
from genrecls.batches import TrainingCrops, training_batches
from genrecls.config import SCHEMA, Config, Input
from genrecls.features import extractor as extractor_of
from genrecls.features import restored
from genrecls.fragments import Fragments, Stretch
from genrecls.inference import placed, predict_subset
from genrecls.loss import Loss
from genrecls.models.building import build
from genrecls.models.dropout import begin_step
from genrecls.models.initialisation import initialise
from genrecls.models.registry import entries, settings_class
from genrecls.models.shapes import InputShape
from genrecls.optimisation import optimiser, update
from genrecls.schedule import learning_rates
from genrecls.seeding import name_key, uniform
from genrecls.weights import weights_sha256

FILE = Path(__file__).parent / "data" / "golden.json"
TABLE = Path(provenance.__file__).parent / provenance.TABLE
CLIPS, GENRES, FRAMES, HOP, EPOCHS = 9, 3, 60, 512, 2
CPU = torch.device("cpu")
CHANGES = ("mask", "amplitude", "frequency_shift", "time_shift", "feature_noise")
NEAR = {"losses": 5e-5, "validation": 5e-3, "mel": 2e-3, "mfcc": 2e-3, "spectrogram": 2e-3, "figures": 1e-12}
"""Tolerances without portable kernels, where the bits are not promised. What is not in it is to be equal there, too.

With the instructions held down to AVX2 and to SSE 4 the losses moved by 7e-6 at most, those of validation, of two
clips, by 9e-4, and the features, rounded to float16, not at all. A step of float16 is 1e-3.
"""

Golden = dict[str, Any]


def kind_of_machine() -> dict[str, str]:
    """What decides on the last bits: PyTorch, which brings its kernels, and which of them are in force."""
    return {"torch": torch.__version__, "numpy": np.__version__, "kernels": kernels.in_force()}


def same_bits(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two machines are to come to the same bits."""
    portable = recorded.get("kernels") == here["kernels"] == kernels.PORTABLE
    return portable and recorded["torch"] == here["torch"]


def signal(clip: int, samples: int) -> NDArray[np.float32]:
    """A triangle wave, of another pitch for each clip, and noise: no sine, whose last bit is the processor's."""
    noise = uniform(0, "golden", 0, name_key(str(clip)), np.arange(samples)) - 0.5
    period = 40 + 60 * (clip % GENRES) + clip
    triangle = np.abs(np.arange(samples) % period * 2 - period) / period - 0.5
    wave: NDArray[np.float32] = np.ldexp(np.round((0.8 * triangle + 0.2 * noise) * 32768), -15).astype(np.float32)
    return wave


def settings(model: str, **sections: Mapping[str, object]) -> Config:
    """A small version of the model, with everything on that changes a crop, and with class weights."""
    inputs = settings_class(model)(**SMALL[model]).inputs
    changes = {"wave": ("gain", "noise", "wave_mask"), "feature": CHANGES}
    augment = {f"{change}_probability": 0.5 for kind in inputs for change in changes[kind]}
    raw: dict[str, Mapping[str, object]] = {
        "model": {"name": model, **SMALL[model]},
        "features": {"n_mels": 32} if "feature" in inputs else {},
        "batches": {"fragment": 1.0, "batch_size": 8, "crops_per_clip": 4},
        "augment": augment,
        "training": {"epochs": EPOCHS, "class_weights": "balanced"},
        "compute": {"device": "cpu", "precision": "fp32", "threads": kernels.THREADS},
    }
    return config.read(
        {name: {**raw.get(name, {}), **sections.get(name, {})} for name in config.SECTIONS}, settings_class
    )


def steps(settings: Config, most: int | None = None) -> Golden:
    """Losses of a short training, and of its validation at the end, as `training` makes them; hashes of its weights.

    most: how many steps are made, where not all are.
    """
    stretches = [
        Stretch(f"clip{i}", i % GENRES, FRAMES * i, FRAMES, FRAMES * HOP * i, FRAMES * HOP) for i in range(CLIPS)
    ]
    training, valid = stretches[:-2], stretches[-2:]
    bins = settings.features.bins
    values = uniform(0, "golden", 1, np.arange(FRAMES * CLIPS)[:, None], np.arange(bins)) * 4 - 8
    clip = np.arange(FRAMES * CLIPS) // FRAMES
    values[np.arange(bins) // 4 == clip[:, None] % GENRES] += 3
    wave = np.concatenate([signal(i, FRAMES * HOP) for i in range(CLIPS)])
    arrays: dict[Input, Any] = {"feature": values.astype(np.float16), "wave": np.ldexp(wave, 15).astype(np.int16)}
    scales = {
        kind: normalisation.corpus(
            [restored(torch.from_numpy(array), kind, settings.features).numpy().reshape(-1, n)], n
        )
        for (kind, array), n in zip(arrays.items(), (bins, 1), strict=True)
    }
    fragments = Fragments(arrays, scales, settings, CPU)
    crops = TrainingCrops(training, settings)
    model = build(settings.model, InputShape.of(settings, GENRES))
    initialise(model, settings.training.seed, settings.training.initialisation)
    initial = weights_sha256(model.state_dict())
    model = placed(model, CPU).train()
    moved = optimiser(model, settings.optimiser)
    loss_of = Loss(settings, [stretch.genre for stretch in training], GENRES, CPU)
    losses: list[float] = []
    costs: list[float] = []
    draws: dict[str, str] = {}
    for epoch in range(EPOCHS):
        plan = crops.plan(epoch)
        draws = plan.sha256
        for i, lr in enumerate(learning_rates(settings.optimiser, epoch, EPOCHS, crops.steps, costs)):
            if len(losses) == most:
                break
            begin_step(model, settings.training.seed, epoch * crops.steps + i)
            batch = next(training_batches(fragments, plan, range(i, i + 1)))
            loss = loss_of(model(*batch.inputs), batch)
            update(moved, settings.optimiser, loss, lr)
            losses.append(loss.item())
        costs.append(losses[-1])
    scored = predict_subset(model, fragments, valid, ("a", "b", "c"))
    return {
        "initial": initial,
        "draws": draws,
        "losses": losses,
        "validation": scored.clip_figures.cross_entropy,
        "weights": weights_sha256(model.state_dict()),
    }


def trainings() -> dict[str, Config]:
    """What is trained, by name: every model, and one with each other optimiser, schedule and penalty."""
    made = {name: settings(name) for name in entries()}
    penalties = {"l1": 1e-4, "l2": 1e-4, "clip_norm": 0.5}
    made["se-cnn, sgd with penalties"] = settings("se-cnn", optimiser={"name": "sgd", "lr": 0.02, **penalties})
    made["se-cnn, adam, one-cycle"] = settings("se-cnn", optimiser={"name": "adam", "schedule": "one-cycle"})
    return made


def features() -> dict[str, Any]:
    """Every eighth value of some rows of every feature of a signal of a second, and every hundredth sample of it."""
    made = {}
    wave = signal(1, 22050)
    for kind in ("mel", "mfcc", "spectrogram"):
        rows = extractor_of("feature", config.read({"features": {"kind": kind}}, settings_class).features)(wave)
        made[kind] = [[float(value) for value in rows[i, ::8]] for i in (0, 7, -1)]
    samples = extractor_of("wave", config.read({}, settings_class).features)(wave)
    made["wave"] = samples[::100].tolist()
    return made


def figures() -> dict[str, Any]:
    """Figures of 60 predictions of 40 clips."""
    probabilities = uniform(0, "golden", 2, np.arange(60)[:, None], np.arange(4))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    genre = np.arange(60) % 4
    return metrics.figures(probabilities, genre, np.arange(60) % 40, ("a", "b", "c", "d")).values()


@contextmanager
def as_in_a_run() -> Iterator[None]:
    """Compute with the threads of portable kernels, and deterministic algorithms alone."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(kernels.THREADS)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def numbers() -> Golden:
    """Everything, computed here."""
    with as_in_a_run():
        made = {name: steps(each) for name, each in trainings().items()}
        draws: dict[str, str] = {}
        for each in made.values():
            draws |= each.pop("draws")
            # Losses within tolerances are not of equal weights.
            del each["weights"]
        return {
            "schema": SCHEMA,
            "machine": kind_of_machine(),
            "draws": draws,
            "trainings": made,
            "features": features(),
            "figures": figures(),
            "code": code(),
        }


def code() -> dict[str, str]:
    """One digest of the code of this package, and one of that of each model, as runs record them."""
    models = {name: provenance.combined(provenance.model_code(name)) for name in entries()}
    return {"": provenance.combined(provenance.package_code()), **models}


def moved(golden: Golden, here: Golden) -> list[str]:
    """What is not as it was, a line each with both values. What `here` has besides is no matter."""
    exact = same_bits(golden["machine"], here["machine"])
    found: list[str] = []

    def compare(name: str, old: Any, new: Any, tolerance: float) -> None:
        if type(old) is not type(new) or (isinstance(old, list) and len(old) != len(new)):
            found.append(f"{name}: {old} -> {new}")
        elif isinstance(old, dict):
            for key in old:
                compare(f"{name}: {key}", old[key], new.get(key), 0.0 if exact else NEAR.get(key, tolerance))
        elif isinstance(old, list):
            for i, (one, two) in enumerate(zip(old, new, strict=True)):
                compare(f"{name}[{i}]", one, two, tolerance)
        elif old != new and not (tolerance and math.isclose(old, new, rel_tol=tolerance, abs_tol=tolerance)):
            found.append(f"{name}: {old} -> {new}")

    for part in ("schema", "draws", "trainings", "features", "figures"):
        compare(part, golden[part], here[part], 0.0 if exact else NEAR.get(part, 0.0))
    return found


def undeclared(golden: Golden, here: Golden) -> dict[str, tuple[str, str]]:
    """Code that is neither that on record nor declared equivalent: of which model ("" is all), its digests."""
    pairs = {name: (was, here["code"].get(name, was)) for name, was in golden.get("code", {}).items()}
    same = provenance.representative
    return {name: (was, now) for name, (was, now) in pairs.items() if same(was) != same(now)}


def declare(changed: Mapping[str, tuple[str, str]], reason: str) -> None:
    """Add lines to the table of equivalent code."""
    rows = [
        f"\n[[equivalent]]  # {name or 'the package'}\nold = {json.dumps(was)}\nnew = {json.dumps(now)}\n"
        f"reason = {json.dumps(reason, ensure_ascii=False)}\n"
        for name, (was, now) in changed.items()
    ]
    TABLE.write_text(TABLE.read_text(encoding="utf-8") + "".join(rows), encoding="utf-8")


def main(argv: Sequence[str] = ()) -> int:
    """Write the numbers, unless some moved under the same schema number, or code did that nobody declares."""
    parser = argparse.ArgumentParser(description="Put the golden numbers on record.")
    parser.add_argument(
        "--equivalent", metavar="REASON", default="", help="Declare that changed code makes the same: what was done."
    )
    reason = parser.parse_args(argv).equivalent
    here = numbers()
    if FILE.exists():
        golden = json.loads(FILE.read_text(encoding="utf-8"))
        changed, code_changed = moved(golden, here), undeclared(golden, here)
        if changed and golden["schema"] == SCHEMA:
            print(*changed, ADVICE, sep="\n", file=sys.stderr)
            return 1
        if code_changed and not changed:
            if not reason:
                print(CODE_ADVICE, file=sys.stderr)
                return 1
            declare(code_changed, reason)
    FILE.write_text(json.dumps(here, indent=1) + "\n", encoding="utf-8")
    return 0


ADVICE = (
    "Numbers moved, so that the same command no longer gives the same result. If that is not meant, mend it. If it is: "
    "raise SCHEMA in genrecls/config.py, say what moves and by how much under `Numbers change` in CHANGELOG.md, and "
    "run `python tests/golden.py`."
)


CODE_ADVICE = (
    "Code that figures depend on has changed, and no number has. If every figure is the same to the bit, declare it: "
    '`python tests/golden.py --equivalent "what was done"`. If some may differ that are not on record here, raise '
    "SCHEMA in genrecls/config.py, say so under `Numbers change` in CHANGELOG.md, and run `python tests/golden.py`."
)


def with_portable_kernels(argv: Sequence[str]) -> int:
    """`main`, in a process that has portable kernels: PyTorch is imported here already."""
    if kernels.in_force() == kernels.PORTABLE:
        return main(argv)
    if reason := kernels.lacking():
        print(f"{reason}: record the numbers where there are portable kernels.", file=sys.stderr)
        return 1
    with kernels.for_children(kernels.PORTABLE):
        return subprocess.run([sys.executable, __file__, *argv], check=False).returncode


if __name__ == "__main__":
    sys.exit(with_portable_kernels(sys.argv[1:]))
