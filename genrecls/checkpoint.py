"""States to go on from: what a training run holds at a step of an epoch, in files that are whole or absent.

checkpoints/EEEEEE-SSSSSS.safetensors holds tensors, and everything else as JSON in its metadata. E counts the epochs
that are done, S the steps of the next one.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from genrecls import atomic, reading
from genrecls.reading import field
from genrecls.weights import weights_sha256

KEPT = 2
"""The newest, and one before it, should the newest turn out to be damaged."""


@dataclass(frozen=True)
class State:
    """tensors: float32 or int64, by name. values: what JSON can hold; its floats read back as the same float64."""

    epoch: int
    step: int
    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


class Checkpoints:
    """The states of one run, in a folder that nobody else writes to.

    origin: a text that every state is of, such as a hash of what training starts from. States of another are not found.
    """

    def __init__(self, folder: Path, origin: str) -> None:
        self._folder, self._origin = folder, origin
        atomic.remove_leftovers(folder)

    def write(self, state: State) -> None:
        """Add one, and remove all but the newest. Raises OSError where the disk does not take it."""
        plain = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
        described = {"origin": self._origin, "epoch": state.epoch, "step": state.step, "values": state.values}
        text = json.dumps(described)
        metadata = {"state": text, "sha256": _sha256(text, plain)}
        path = self._folder / f"{state.epoch:06d}-{state.step:06d}.safetensors"
        atomic.write_bytes(path, safetensors.torch.save(plain, metadata))
        for old in self._files()[KEPT:]:
            old.unlink()

    def states(self) -> Iterator[State]:
        """The whole ones of this origin, the newest first."""
        for path in self._files():
            if (state := self._read(path)) is not None:
                yield state

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.safetensors"), reverse=True)

    def _read(self, path: Path) -> State | None:
        try:
            reading.size(path)
            with safe_open(path, framework="pt") as file:
                metadata: Mapping[str, str] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata["sha256"] != _sha256(metadata["state"], tensors):
                return None
            found = reading.json_object(metadata["state"].encode())
            if field(found, "origin", str) != self._origin:
                return None
            epoch, step = (field(found, name, int, low=0) for name in ("epoch", "step"))
            return State(epoch, step, tensors, field(found, "values", dict))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return None  # TypeError: of a type that NumPy does not have.


def _sha256(text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    return hashlib.sha256(f"{text}\n{weights_sha256(tensors)}".encode()).hexdigest()
