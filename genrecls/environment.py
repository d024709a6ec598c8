"""The record of where a run was made: software down to the C libraries, processor, GPU, threads, code."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

import genrecls
from genrecls.distributed import launch

PACKAGES = (
    *("torch", "torchaudio", "numpy", "scipy", "scikit-learn", "soundfile", "safetensors", "click", "tqdm", "tomli-w"),
    *("cffi", "joblib", "threadpoolctl"),
)
"""What genrecls imports, and what that computes or decodes with."""
CUDA_PACKAGES = re.compile(r"nvidia-.+|triton")
"""What PyTorch brings of CUDA on Linux, as packages of their own."""
VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *("NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE"),
)
"""Variables that choose the kernels of PyTorch, MKL, oneDNN, NumPy and CUDA, by their manuals."""


def describe(switches: dict[str, Any]) -> dict[str, Any]:
    """What a later reader needs to have the same again. switches: of `seeding.make_deterministic`.

    A thing that is not here is None. `argv` apart, all of it is the same for the same command on the same machine.
    """
    on_gpu = torch.cuda.is_available()
    return {
        "argv": sys.argv,
        "genrecls": genrecls.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cuda_packages": _cuda_packages(),
        "libraries": _libraries(),
        "variables": {name: os.environ.get(name) for name in VARIABLES},
        "processor": _processor(Path("/proc/cpuinfo")),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)),
        "ranks": ranks(),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "gpu_capability": "{}.{}".format(*torch.cuda.get_device_capability()) if on_gpu else None,
        "driver": _driver() if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "switches": switches,
    }


def ranks() -> int:
    """The number of processes that train a run together."""
    return launch().size


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache  # A process that trains many runs reads the record of every installed package once.
def _cuda_packages() -> dict[str, str]:
    found = {each.metadata["Name"]: each.version for each in distributions()}
    return {name: found[name] for name in sorted(name for name in found if name and CUDA_PACKAGES.fullmatch(name))}


def _libraries() -> dict[str, str | None]:
    """Versions of the C libraries whose results have other bits in other versions.

    torch: with the CUDA that it was built for. Resampling is torchaudio's own and needs no library.
    """
    built = torch.__config__.show()
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "libsndfile": soundfile.__libsndfile_version__,
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "torch": torch.__version__,
        "torch_blas": _first(r"BLAS_INFO=(\w+)", built),
        "mkl": _first(r"Math Kernel Library Version (\S+)", built),
        "onednn": _first(r"MKL-DNN v(\S+)", built),
        "openmp": _first(r"OpenMP (\d+)", built),
        "numpy_blas": f"{blas['name']} {blas['version']}",
    }


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _processor(cpuinfo: Path) -> str | None:
    """The model's name as the kernel has it, else as PyTorch does: ARM's kernel gives none."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    known = re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE)
    return known[1].strip() if known else torch.cpu.get_capabilities().get("cpu_name")


def _driver() -> str | None:
    """The version of NVIDIA's driver. A container may hide the module's own file, but has its tool."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip()
    except OSError:
        pass
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def _git() -> dict[str, Any] | None:
    """Commit and whether files differ from it, None where the package is not run from a checkout."""
    checkout = Path(genrecls.__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def differences(recorded: dict[str, Any], here: dict[str, Any]) -> tuple[dict[str, tuple[Any, Any]], list[str]]:
    """How two descriptions differ: (recorded, here) by dotted name, and what the record does not have.

    Of a section that it lacks altogether the name alone is given. The command line (`argv`) and what only the record
    has at the top (places of its machine) are left out. A thing that is not here is None.
    """
    left, right = (flat({name: each[name] for name in each if name != "argv"}) for each in (recorded, here))
    apart = {
        name: (value, right.get(name))
        for name, value in left.items()
        if name.partition(".")[0] in here and value != right.get(name)
    }
    silent: dict[str, None] = {}
    for name, value in right.items():
        section = name.partition(".")[0]
        if section not in recorded:
            silent[section] = None
        elif recorded[section] is None and section != name:
            apart[name] = (None, value)
        elif name not in left and name != section:
            silent[name] = None
    return apart, list(silent)


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    made: dict[str, Any] = {}
    for name, value in nested.items():
        made |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return made
