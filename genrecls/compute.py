"""What `auto` means on this machine: device, kernels, precision and threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from genrecls import kernels, portable
from genrecls.config import ComputeSettings
from genrecls.distributed import launch
from genrecls.errors import ConfigError, GenreclsError
from genrecls.seeding import fix_cublas_workspace

# Whatever computes imports this module, and one process has one kind of kernels all its life.
portable.ready()


def resolve(settings: ComputeSettings) -> ComputeSettings:
    """The settings with every `auto` and 0 replaced by what is used here, and the ranks by those that were started.

    Raises GenreclsError where CUDA is asked for and not there, or native kernels in a process that has portable ones;
    ConfigError where other ranks are asked for, or bf16 beside portable kernels.
    """
    here = launch()
    if settings.ranks not in (1, here.size):
        raise ConfigError(
            f"compute.ranks is {settings.ranks}, and the processes started together are {here.size}: train by "
            f"torchrun --standalone --nproc-per-node {settings.ranks} -m genrecls train, or leave it out."
        )
    # Asking for the GPU's abilities already starts CUDA.
    fix_cublas_workspace(settings.deterministic)
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise GenreclsError(
            "compute.device (--device) is cuda, and PyTorch finds no usable GPU: check the driver with nvidia-smi, or "
            "choose --device cpu."
        )
    kind = _kernels(settings.kernels)
    portable = kind == kernels.PORTABLE
    precision = settings.precision
    if portable and device == "cpu" and precision == "bf16":
        raise ConfigError(
            "compute.precision (--precision) bf16 does not go with portable kernels, because its bits differ between "
            "processors: add --kernels native, or choose --precision fp32."
        )
    if precision == "auto":
        precision = "bf16" if native_bf16(device) and not (portable and device == "cpu") else "fp32"
    cores = max(1, len(os.sched_getaffinity(0)) // here.local_size)
    threads = settings.threads or (kernels.THREADS if portable else cores)
    return replace(settings, device=device, kernels=kind, precision=precision, threads=threads, ranks=here.size)


def _kernels(asked: str) -> str:
    """Those that this process has. Raises GenreclsError where native ones are asked for and it has portable ones."""
    here = kernels.in_force()
    if asked == kernels.NATIVE and here == kernels.PORTABLE:
        raise GenreclsError(
            "Native kernels are asked for (compute.kernels), and this process has portable ones: start another process "
            "for them."
        )
    return here


def again(recorded: ComputeSettings, device: str) -> ComputeSettings:
    """The settings of a finished run as near as this machine has them: for scoring it and predicting with it.

    device: "auto" is the run's own where it is here, else the CPU. Threads are the run's, because another number may
    change bits.
    """
    if device == "auto":
        device = recorded.device if recorded.device == "cpu" or torch.cuda.is_available() else "cpu"
    return resolve(replace(recorded, device=device, precision="fp32", ranks=1))


def native_bf16(device: str) -> bool:
    """Whether the processor multiplies bfloat16 in hardware, where autocast to it is faster than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


def free_memory(device: torch.device) -> int:
    """What this process may take of the device's memory, in bytes: its share, where torchrun started several."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _available() // launch().local_size


def _available() -> int:
    """Memory that can be had without swapping: what is free, and what only keeps files at hand."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # no Linux
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def total_memory(device: torch.device) -> int:
    """What the device has in all, in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread whatever the caller's setting: another number may sum in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
