"""The record of where a run was made: software, processor, threads, code."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import genrecls
from genrecls.distributed import launch

PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "scikit-learn", "soundfile", "safetensors", "click")


def describe(switches: dict[str, Any]) -> dict[str, Any]:
    """What a later reader needs to have the same again. switches: of `seeding.make_deterministic`.

    ranks: processes that were started together; those of this machine are `local_ranks`.
    """
    here = launch()
    return {
        "argv": sys.argv,
        "genrecls": genrecls.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "processor": torch.cpu.get_capabilities().get("cpu_name"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "ranks": here.size,
        "local_ranks": here.local_size,
        "switches": switches,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
