"""Kernels are chosen before PyTorch is imported, recorded, and never others than said."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Desk

from genrecls import kernels
from genrecls.errors import ConfigError
from genrecls.kernels import MARK, NATIVE, PORTABLE, VARIABLES


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a process finds itself that has not imported PyTorch, with nothing in the environment."""
    before = dict(os.environ)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(kernels, "_entered", "")
    for name in (MARK, *VARIABLES):
        os.environ.pop(name, None)
    yield
    for name in (MARK, *VARIABLES):
        os.environ.pop(name, None)
    os.environ.update(before)


pytestmark = pytest.mark.skipif(
    kernels.in_force() != PORTABLE, reason="this processor has no portable kernels (no x86-64 with AVX2)"
)


def config_of(made: dict[str, Any]) -> dict[str, Any]:
    return tomllib.loads(Path(made["run"], "config.toml").read_text())["compute"]


def switches_of(made: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    found = json.loads(Path(made["run"], "environment.json").read_text())
    return found["cpu_capability"], {name: found["variables"][name] for name in VARIABLES}


@pytest.mark.slow
def test_portable_is_the_default_and_native_another_run(desk: Desk, native_desk: Desk) -> None:
    given = ("--epochs", "0", "--threads", "0")
    portable, native = desk.train(*given), native_desk.train(*given, "--kernels", "native")
    assert portable["id"] != native["id"]
    assert config_of(portable) == {
        "device": "cpu",
        "kernels": "portable",
        "precision": "fp32",
        "threads": kernels.THREADS,
        "deterministic": "error",
        "ranks": 1,
    }
    assert config_of(native)["kernels"] == "native"
    assert config_of(native)["threads"] == len(os.sched_getaffinity(0))
    assert switches_of(portable) == ("AVX2", VARIABLES)
    assert switches_of(native)[1] == dict.fromkeys(VARIABLES)
    # First weights are drawn in integers: no kernel moves them.
    assert portable["initial_weights_sha256"] == native["initial_weights_sha256"]


@pytest.mark.slow
def test_each_kind_has_features_of_its_own(desk: Desk, native_desk: Desk) -> None:
    portable = desk.cli.json("preprocess", "folder", "--data-dir", desk.corpus, "--res", desk.res)
    native = native_desk.cli.json(
        "preprocess", "folder", "--data-dir", desk.corpus, "--res", desk.res, "--kernels", "native"
    )
    assert portable["key"] != native["key"]


def test_bf16_beside_portable_kernels_names_the_way_out(desk: Desk) -> None:
    done = desk.cli("train", *desk.on_corpus, "--precision", "bf16", *desk.places)
    assert (done.status, done.stdout) == (2, "")
    assert "--kernels native" in done.stderr


SCRIPT = """
import json, os, sys, warnings
{before}
import genrecls
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    predictor = genrecls.load({run!r})
    made = predictor.predict_file({file!r})
sentences = [str(each.message) for each in said if each.category is RuntimeWarning]
print(json.dumps([sentences, made.probabilities.tolist()]))
"""


def python(run: Path, file: Path, before: str = "", **environment: str) -> Any:
    """What `genrecls.load` warns of and predicts, in a Python that has done `before`."""
    bare = {name: value for name, value in os.environ.items() if name not in (MARK, *VARIABLES)}
    script = SCRIPT.format(before=before, run=str(run), file=str(file))
    done = subprocess.run(
        [sys.executable, "-c", script], env={**bare, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_from_python_kernels_are_the_runs_where_torch_leaves_the_choice(trained: Desk) -> None:
    (run,) = trained.runs.iterdir()
    file = next(trained.corpus.rglob("*.wav"))
    warned, alone = python(run, file)
    assert warned == []
    warned, beside = python(run, file, "import torch; torch.ones(2) @ torch.ones(2)", **VARIABLES)
    assert (warned, beside) == ([], alone)
    (sentence,), late = python(run, file, "import torch")
    assert sentence.startswith("PyTorch was imported before genrecls could choose its kernels")
    assert "start Python with ATEN_CPU_CAPABILITY=avx2 " in sentence
    assert len(late) == len(alone)


def genrecls(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "genrecls", *map(str, arguments)]
    bare = {name: value for name, value in os.environ.items() if name not in (MARK, *VARIABLES)}
    return subprocess.run(command, env={**bare, **environment}, capture_output=True, text=True, check=False)


def test_a_value_of_the_users_is_named(desk: Desk) -> None:
    done = genrecls("train", *desk.on_corpus, *desk.places, ATEN_CPU_CAPABILITY="avx512")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: ATEN_CPU_CAPABILITY is 'avx512' in the environment, and portable kernels need 'avx2': unset it, or "
        "choose --kernels native.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flag", "set", "base of a recipe"])
def test_kernels_are_read_wherever_they_may_stand(desk: Desk, tmp_path: Path, how: str) -> None:
    """A variable of the user's is no matter to native kernels: were they not read, the command would refuse it."""
    (tmp_path / "base.toml").write_text('[compute]\nkernels = "native"\n')
    (tmp_path / "own.toml").write_text('base = "base.toml"\n[training]\nseed = 3\n')
    given = {
        "flag": ("--kernels", "native"),
        "set": ("--set", "compute.kernels=native"),
        "base of a recipe": ("--recipe", tmp_path / "own.toml"),
    }[how]
    done = genrecls(
        "train", *given, "--dataset", "folder", "--data-dir", tmp_path / "none", ATEN_CPU_CAPABILITY="default"
    )
    assert done.stderr.endswith("none: no such folder.\n")


def test_wrong_usage_is_answered_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom genrecls.cli.main import status\n"
        "code = status(['train', '--se-ratio', 'x'])\n"
        "code += status(['train', '--model', 'cel', '--se-ratio', '3'])\n"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "4 False\n"


@pytest.mark.usefixtures("untouched")
def test_entering_and_leaving() -> None:
    assert kernels.enter(PORTABLE) == ""
    assert {name: os.environ[name] for name in VARIABLES} == VARIABLES
    assert kernels.in_force() == PORTABLE
    # A child with native kernels inherits nothing of it.
    child = dict(os.environ)
    kernels.leave(child)
    assert not {MARK, *VARIABLES} & child.keys()
    assert kernels.enter(NATIVE) == ""
    assert not {MARK, *VARIABLES} & os.environ.keys()
    assert kernels.in_force() == NATIVE


@pytest.mark.usefixtures("untouched")
def test_native_leaves_what_the_user_chose() -> None:
    os.environ["MKL_CBWR"] = "COMPATIBLE"
    kernels.enter(NATIVE)
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("name", "value", "harmless"),
    [("OMP_DYNAMIC", "TRUE", "false"), ("OMP_THREAD_LIMIT", "1", "2"), ("OMP_MAX_ACTIVE_LEVELS", "0", "1")],
)
def test_what_withholds_threads_is_an_error(
    name: str, value: str, harmless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, harmless)
    assert kernels.enter(PORTABLE) == ""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name} is '{value}' in the environment, which may withhold the 2 threads"):
        kernels.enter(PORTABLE)
    assert kernels.enter(NATIVE) == ""


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_that_differs_is_an_error(name: str) -> None:
    os.environ[name] = "another"
    with pytest.raises(ConfigError, match=rf"^{name} is 'another' in the environment"):
        kernels.enter(PORTABLE)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("machine", "cpuinfo", "said"),
    [
        ("aarch64", "", "Portable kernels are for x86-64 processors, and this one is aarch64"),
        ("x86_64", "flags\t: fpu sse4_2 avx\n", "Portable kernels need AVX2, which this processor does not have"),
        ("x86_64", "", "does not say whether this processor has it"),
    ],
)
def test_where_they_cannot_be_had_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, cpuinfo: str, said: str
) -> None:
    monkeypatch.setattr(kernels.platform, "machine", lambda: machine)
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(kernels, "_CPUINFO", tmp_path / "cpuinfo")
    remark = kernels.enter(PORTABLE)
    assert said in remark
    assert remark.endswith("so that native kernels are used: the figures are those of this kind of processor.")
    assert kernels.in_force() == NATIVE
    assert not VARIABLES.keys() & os.environ.keys()
