"""Determinism: keyed draws that share no state, and the switches that make PyTorch repeat itself.

No random number in genrecls comes from a global generator. A draw is a pure function of what it is
for: `uniform(seed, stream, epoch, clips, k)`. Changing a setting therefore leaves every draw it does
not name as it was, which a sequence drawn from one generator cannot promise.

torch is imported inside the functions that need it, so that indexing and rendering corpora do not.
"""

import hashlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def name_key(name: str) -> int:
    """The 64-bit key of a name (a clip id, a stream, a parameter): BLAKE2b of its UTF-8 bytes."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")


def name_keys(names: Iterable[str]) -> NDArray[np.uint64]:
    """`name_key` of each name, as uint64 (n,)."""
    return np.fromiter((name_key(name) for name in names), dtype=np.uint64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def hash64(*parts: ArrayLike) -> NDArray[np.uint64]:
    """A 64-bit hash of a sequence of 64-bit integers, vectorised: the parts are broadcast.

    Every part is an integer in [0, 2**64) or an array of them; returns uint64 of the broadcast shape.
    """
    with np.errstate(over="ignore"):
        state = np.zeros((), dtype=np.uint64)
        for part in parts:
            state = _mix((state ^ np.asarray(part, dtype=np.uint64)) + _GOLDEN)
        return state


def uniform(seed: int, stream: str, epoch: int, clips: ArrayLike, k: ArrayLike = 0) -> NDArray[np.float64]:
    """Draws in [0, 1), each a function of its arguments alone.

    seed: the run's (or split's) seed, 0 to 2**63 - 1. stream: what the draw is for, such as "order".
    epoch: from 0. clips: `name_keys` of the clips' ids. k: number of the draw within clip and epoch.
    `clips` and `k` are broadcast; returns float64 with 53 random bits.
    """
    bits = hash64(seed, name_key(stream), epoch, clips, k)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def derived_key(seed: int, *names: str | int) -> int:
    """One 64-bit key for (seed, names…), such as (42, "init", "layer1.0.conv1.weight")."""
    return int(hash64(seed, *(name_key(n) if isinstance(n, str) else n for n in names)))


def generator(seed: int, *names: str | int) -> "torch.Generator":
    """A CPU generator of its own for (seed, names…), seeded with their `derived_key`."""
    import torch

    return torch.Generator().manual_seed(derived_key(seed, *names))


def fix_cublas_workspace(mode: str) -> None:
    """Choose cuBLAS's deterministic workspace, unless the user chose one. Must precede the first use of CUDA.

    mode: as in `make_deterministic`; "off" leaves it alone.
    """
    if mode != "off":
        # 4096:8 is one of the two values that cuBLAS's manual calls deterministic.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def make_deterministic(mode: str, threads: int) -> dict[str, Any]:
    """Set every switch of this process that decides whether a sum comes out the same again.

    mode: "error" (an operation without a deterministic kernel raises), "warn" or "off" (PyTorch's own
    defaults for algorithms). threads: CPU threads of PyTorch. TF32 is off in every mode: precision is a setting,
    not an accident of the card. Must precede the first use of CUDA. Returns what was set, for the record.
    """
    import torch

    fix_cublas_workspace(mode)
    # Not by use_deterministic_algorithms, which sets the same switch and imports the compiler, for a second.
    torch.set_deterministic_debug_mode("default" if mode == "off" else mode)
    # Fresh memory is not read before it is written here, and filling it with NaN costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = mode != "off"
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    # Not by OMP_NUM_THREADS, which launchers set to 1 behind the user's back.
    torch.set_num_threads(threads)
    return switches()


def unrepeatable(message: str) -> str | None:
    """What a warning or an error of PyTorch's deterministic mode is about; None where it is about anything else."""
    operation, found, _ = message.partition(" does not have a deterministic implementation")
    if found:
        return f"the operation {operation} of PyTorch has no deterministic kernel here"
    if "it uses CuBLAS" in message:
        return "cuBLAS repeats itself only with CUBLAS_WORKSPACE_CONFIG=:4096:8 or :16:8, not as the environment has it"
    return None


def switches() -> dict[str, Any]:
    """The switches of determinism as they stand in this process."""
    import torch

    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill_uninitialized_memory": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "matmul_bf16_reduced_precision": torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "threads": torch.get_num_threads(),
    }
