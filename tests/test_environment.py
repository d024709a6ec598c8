"""What a run records of the machine: complete, the same every time, and compared name by name."""

import configparser
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from genrecls import environment
from genrecls.environment import CUDA_PACKAGES, PACKAGES, VARIABLES, describe, differences

ROOT = Path(__file__).resolve().parent.parent
TOOLS = {"kaggle", "six", "Jinja2"}
"""Dependencies of `genrecls download` and `genrecls report` alone, which change no bit of a run."""


def test_every_dependency_is_recorded() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = {re.split(r"[ <>=]", line)[0] for line in setup["options"]["install_requires"].split("\n") if line}
    assert named - TOOLS <= set(PACKAGES)
    assert all(describe({})["packages"].values())


def test_what_changes_bits_is_there() -> None:
    found = describe({"threads": 3})
    assert set(found["packages"]) == set(PACKAGES)
    assert set(found["variables"]) == set(VARIABLES)
    assert all(CUDA_PACKAGES.fullmatch(name) and version for name, version in found["cuda_packages"].items())
    libraries = found["libraries"]
    assert libraries["libsndfile"] == soundfile.__libsndfile_version__
    assert libraries["torch"] == torch.__version__
    for name, there, pattern in (
        ("mkl", torch.backends.mkl.is_available(), r"20\d\d\.\d.*"),
        ("onednn", torch.backends.mkldnn.is_available(), r"\d+\.\d+\.\d+"),
        ("openmp", torch.backends.openmp.is_available(), r"\d{6}"),
    ):
        assert bool(re.fullmatch(pattern, libraries[name] or "")) == there
    assert re.fullmatch(r".+ \d.*", libraries["numpy_blas"])
    assert (found["ranks"], found["switches"]) == (1, {"threads": 3})
    assert found["processor"]
    for name in ("gpu", "gpu_capability", "driver", "cuda", "cudnn"):
        assert bool(found[name]) == torch.cuda.is_available(), name


def test_it_is_json_and_the_same_again() -> None:
    found = describe({})
    assert json.loads(json.dumps(found)) == found == describe({})
    assert differences(found, found) == ({}, [])


def test_a_variable_that_chooses_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_CBWR", raising=False)
    before = describe({})
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert differences(before, describe({})) == ({"variables.MKL_CBWR": (None, "COMPATIBLE")}, [])


def test_the_processor_is_as_the_kernel_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel\t\t: 79\nmodel name\t: Abacus (R) 9 @ 2 GHz \nflags: x\n")
    assert environment._processor(info) == "Abacus (R) 9 @ 2 GHz"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "Neoverse"})
    info.write_text("processor\t: 0\nBogoMIPS\t: 243.75\n")
    assert environment._processor(info) == "Neoverse"
    assert environment._processor(tmp_path / "none") == "Neoverse"


def test_the_driver_where_the_kernel_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/sys/module/nvidia/version").exists():
        pytest.skip("the kernel shows it")

    def tool(command: list[str], **given: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == "nvidia-smi"
        return subprocess.CompletedProcess(command, 0, "580.65.06\n580.65.06\n", "")

    monkeypatch.setattr(subprocess, "run", tool)
    assert environment._driver() == "580.65.06"

    def none(command: list[str], **given: Any) -> None:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", none)
    assert environment._driver() is None


def test_differences_by_name() -> None:
    here = {"argv": ["b"], "python": "3.12", "git": None, "gpu": None, "packages": {"numpy": "2", "new": "1"}}
    recorded = {
        "argv": ["a"],
        "python": "3.11",
        "git": {"commit": "c", "dirty": False},
        "res": "x",
        "packages": {"numpy": "2", "old": "3"},
    }
    apart, unknown = differences(recorded, here)
    assert apart == {
        "python": ("3.11", "3.12"),
        "git.commit": ("c", None),
        "git.dirty": (False, None),
        "packages.old": ("3", None),
    }
    assert unknown == ["gpu", "packages.new"]
    apart, unknown = differences({"git": None, "packages": {}}, {"git": {"commit": "c"}, "libraries": {"a": 1, "b": 2}})
    assert (apart, unknown) == ({"git.commit": (None, "c")}, ["libraries"])


def test_numpy_says_what_it_multiplies_with() -> None:
    assert np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"] in describe({})["libraries"]["numpy_blas"]
