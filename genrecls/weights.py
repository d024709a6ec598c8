"""Tensors in a run directory: weights and normalisation, as safetensors, and the hash of a set of weights."""

import hashlib
from collections.abc import Mapping

import safetensors.torch
import torch
from safetensors import SafetensorError

from genrecls.config import Input
from genrecls.normalisation import Normalisation
from genrecls.reading import Damaged
from genrecls.run import Run

_PREFIX: dict[Input, str] = {"feature": "", "wave": "wave."}


def weights_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the sorted names, each followed by its tensor's contiguous little-endian bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode("utf-8"))
        array = tensors[name].detach().cpu().contiguous().numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def write(run: Run, name: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Write `<name>.safetensors` and return the weights' SHA-256."""
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    run.write(f"{name}.safetensors", safetensors.torch.save(plain))
    return weights_sha256(plain)


def read(run: Run, name: str) -> dict[str, torch.Tensor]:
    """The tensors of `<name>.safetensors`. Raises GenreclsError where it is missing or damaged."""
    with run.reading(f"{name}.safetensors") as content:
        return _tensors(content)


def _tensors(content: bytes) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise Damaged(str(error)) from None


def read_best(run: Run) -> dict[str, torch.Tensor]:
    """The weights that validation chose, all finite.

    Raises GenreclsError where they are not those that training wrote.
    """
    return _recorded(run, "best", "weights_sha256")


def read_initial(run: Run) -> dict[str, torch.Tensor]:
    """The weights before the first step, as `read_best`."""
    return _recorded(run, "initial", "initial_weights_sha256")


def _recorded(run: Run, name: str, recorded: str) -> dict[str, torch.Tensor]:
    with run.reading(f"{name}.safetensors") as content:
        tensors = _tensors(content)
        if weights_sha256(tensors) != run.record.get(recorded):
            raise Damaged("its weights are not those that training wrote")
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise Damaged("a weight in it is no finite number")
    return tensors


def write_normalisation(run: Run, scales: Mapping[Input, Normalisation]) -> None:
    """Write `normalisation.safetensors`: mean and deviation of each input."""
    write(
        run,
        "normalisation",
        {
            f"{_PREFIX[kind]}{name}": figures
            for kind, scale in scales.items()
            for name, figures in (("mean", scale.mean), ("deviation", scale.deviation))
        },
    )


def read_normalisation(run: Run) -> dict[Input, Normalisation]:
    """What `write_normalisation` wrote. Raises GenreclsError where the file is missing or damaged.

    Every mean is finite, and every deviation finite and above 0.
    """
    settings = run.config
    scales: dict[Input, Normalisation] = {}
    with run.reading("normalisation.safetensors") as content:
        tensors = _tensors(content)
        for kind in settings.model.inputs:
            bins = 1 if kind == "wave" else settings.features.bins
            mean, deviation = (_figures(tensors, f"{_PREFIX[kind]}{name}", bins) for name in ("mean", "deviation"))
            if not bool((deviation > 0).all()):
                raise Damaged("a deviation in it is not above 0")
            scales[kind] = Normalisation(mean, deviation, settings.batches.normalisation)
    return scales


def _figures(tensors: Mapping[str, torch.Tensor], name: str, bins: int) -> torch.Tensor:
    """float32 (bins,), all finite. Raises Damaged."""
    found = tensors.get(name)
    if found is None:
        raise Damaged(f"it lacks {name!r}")
    if found.shape != (bins,) or found.dtype != torch.float32:
        raise Damaged(f"it is not for the {bins} bins of config.toml")
    if not bool(found.isfinite().all()):
        raise Damaged(f"a {name.rpartition('.')[2]} in it is no finite number")
    return found
