"""Which of the processor's instructions sums are made with: chosen in the environment, before PyTorch is imported.

portable: every x86-64 processor with AVX2, of any vendor and with any caches, comes to the same bits. PyTorch and
oneDNN are held to AVX2, and MKL to the one code path that it takes on every vendor's processors (its manual's
"Conditional Numerical Reproducibility"; it honours MKL_CBWR=AVX2 on Intel's alone). native: the fastest that this
processor has, whose bits are those of one kind of processor.

PyTorch, oneDNN and MKL read the variables once, so that a process has one kind of kernels all its life.
"""

import os
import platform
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from genrecls.errors import ConfigError

PORTABLE, NATIVE = "portable", "native"
THREADS = 2
"""CPU threads of portable kernels, on any machine: another number sums in another order."""
VARIABLES = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
"""What portable kernels need in the environment."""
_WITHHOLDING: dict[str, Callable[[str], bool]] = {
    "OMP_DYNAMIC": lambda value: value.strip().lower() in ("true", "1"),
    "OMP_THREAD_LIMIT": lambda value: value.strip().isdecimal() and int(value) < THREADS,
    "OMP_MAX_ACTIVE_LEVELS": lambda value: value.strip() == "0",
}
"""Variables by which OpenMP starts fewer threads than it is asked for, and the values at which it does.

oneDNN's threads then wait for each other for ever. Tried without effect on any bit: MKL_DYNAMIC, MKL_NUM_THREADS,
MKL_DOMAIN_NUM_THREADS, MKL_ENABLE_INSTRUCTIONS, MKL_DEBUG_CPU_TYPE, MKL_THREADING_LAYER, OMP_NUM_THREADS, OMP_NESTED,
OMP_PROC_BIND, OMP_SCHEDULE, OMP_WAIT_POLICY, GOMP_CPU_AFFINITY, DNNL_MAX_CPU_ISA and ONEDNN_CPU_ISA_HINTS beside
ONEDNN_MAX_CPU_ISA, ONEDNN_DEFAULT_FPMATH_MODE, ONEDNN_PRIMITIVE_CACHE_CAPACITY, and glibc's hwcaps without AVX2 and
FMA.
"""
MARK = "GENRECLS_KERNELS"
"""Says in the environment that the variables are ours, and not the user's choice."""

_CPUINFO = Path("/proc/cpuinfo")
_ENVIRON = Path("/proc/self/environ")
_entered = ""
"""The kernels that were chosen here before PyTorch was imported; "" where it was there first."""


def enter(asked: str) -> str:
    """Choose the kernels of this process and of those it starts, as far as that can still be done.

    asked: "portable" or "native". Returns a sentence for the user where the process has, or will have, others, else "".
    Raises ConfigError where the user's environment asks for something else than portable kernels do.
    """
    if "torch" in sys.modules:
        return "" if in_force() == asked else _too_late(asked)
    global _entered
    reason = lacking() if asked == PORTABLE else ""
    if asked == NATIVE or reason:
        leave(os.environ)
        _entered = NATIVE
        return reason and f"{reason}, so that native kernels are used: the figures are those of this kind of processor."
    _check_environment()
    os.environ.update({**VARIABLES, MARK: PORTABLE})
    _entered = PORTABLE
    return ""


def leave(environment: MutableMapping[str, str]) -> None:
    """Take out what `enter` put into an environment, such as one that a child with native kernels is to have."""
    if environment.pop(MARK, "") == PORTABLE:
        for name, value in VARIABLES.items():
            if environment.get(name) == value:
                del environment[name]


@contextmanager
def for_children(kind: str) -> Iterator[None]:
    """Let processes that are started in the block have kernels of this kind, whatever this process has."""
    before = dict(os.environ)
    leave(os.environ)
    if kind == PORTABLE:
        os.environ.update({**VARIABLES, MARK: PORTABLE})
    try:
        yield
    finally:
        for name in (MARK, *VARIABLES):
            os.environ.pop(name, None)
        os.environ.update(before)


def in_force() -> str:
    """The kernels of this process: those that were chosen, or that it was started with."""
    if _entered:
        return _entered
    if "torch" not in sys.modules:
        return PORTABLE if not lacking() and not _differing(os.environ) else NATIVE
    # PyTorch was there first: only what the process was started with is certain to have been read.
    return PORTABLE if not lacking() and not _differing(_initial_environment()) else NATIVE


def _too_late(asked: str) -> str:
    if asked == NATIVE:
        return "This process has portable kernels, and native ones are asked for: start another process for them."
    if reason := lacking():
        return f"{reason}, so that this process has native kernels."
    shown = " ".join(f"{name}={value}" for name, value in VARIABLES.items())
    return (
        "PyTorch was imported before genrecls could choose its kernels, so that this process has native ones: for "
        f"portable ones start Python with {shown} in the environment."
    )


def lacking() -> str:
    """Why portable kernels cannot be had on this processor, "" where they can."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"Portable kernels are for x86-64 processors, and this one is {platform.machine()}"
    try:
        flags = next(line for line in _CPUINFO.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return f"Portable kernels need AVX2, and {_CPUINFO} does not say whether this processor has it"
    if not {"avx2", "fma"} <= set(flags.split()):
        return "Portable kernels need AVX2, which this processor does not have"
    return ""


def _differing(environment: MutableMapping[str, str]) -> list[str]:
    return [name for name, value in VARIABLES.items() if environment.get(name) != value]


def _check_environment() -> None:
    """Raise ConfigError where a variable has a value of the user's that portable kernels must not have."""
    for name in _differing(os.environ):
        if name in os.environ:
            raise ConfigError(
                f"{name} is {os.environ[name]!r} in the environment, and portable kernels need {VARIABLES[name]!r}: "
                "unset it, or choose --kernels native."
            )
    for name, withholds in _WITHHOLDING.items():
        if withholds(os.environ.get(name, "")):
            raise ConfigError(
                f"{name} is {os.environ[name]!r} in the environment, which may withhold the {THREADS} threads that "
                "portable kernels need: unset it, or choose --kernels native --threads 1."
            )


def _initial_environment() -> dict[str, str]:
    try:
        content = _ENVIRON.read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in content.split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
