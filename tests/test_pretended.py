"""No bit of portable kernels depends on caches, cores or vendor: told of others, a program comes to the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genrecls import kernels

HERE = Path(__file__).parent
MODELS = ("se-resnet", "se-cnn", "cnn1d", "cnn2d", "mixnet", "mlp2", "cel", "cnn1d-gru", "cnn1d-lstm", "cnn2d-lstm")
UNABLE = 77
"""Exit status where the processor, or what it is virtualised by, lets no program answer CPUID."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(kernels.in_force() != kernels.PORTABLE, reason="this processor has no portable kernels"),
    pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pretended") / "pretended.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, HERE / "pretended.c", "-ldl"], check=True)
    return made


def digests(**environment: str) -> str:
    command = [sys.executable, str(HERE / "pretended.py"), *MODELS]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode == UNABLE:
        pytest.skip("this processor does not let a program answer CPUID")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def here() -> str:
    return digests()


@pytest.mark.parametrize("cores", [1, 4, 64])
def test_another_number_of_cores(cores: int, library: Path, here: str) -> None:
    assert digests(LD_PRELOAD=str(library), PRETEND_CORES=str(cores)) == here


@pytest.mark.parametrize(("first", "second"), [(32, 256), (32, 512), (48, 1280), (64, 4096)])
def test_other_caches(first: int, second: int, library: Path, here: str) -> None:
    assert digests(LD_PRELOAD=str(library), PRETEND_L1=str(first), PRETEND_L2=str(second)) == here


@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD"])
def test_another_vendor(vendor: str, library: Path, here: str) -> None:
    assert digests(LD_PRELOAD=str(library), PRETEND_VENDOR=vendor) == here


def test_the_pretended_vendor_is_believed(library: Path) -> None:
    """MKL takes its way for Intel's processors on those alone: another vendor has another one, and other sums."""
    code = (
        "import os\nos.environ['MKL_CBWR'] = 'AVX2'\nimport hashlib, torch\ntorch.manual_seed(0)\n"
        "a, b = torch.rand(100, 1000, dtype=torch.float64), torch.rand(1000, 100, dtype=torch.float64)\n"
        "print(hashlib.sha256((a @ b).numpy().tobytes()).hexdigest())"
    )
    found = set()
    for vendor in ("GenuineIntel", "AuthenticAMD"):
        environment = {**os.environ, "LD_PRELOAD": str(library), "PRETEND_VENDOR": vendor}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == UNABLE:
            pytest.skip("this processor does not let a program answer CPUID")
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 2


def test_smaller_caches_than_any_would_be_noticed(library: Path, here: str) -> None:
    assert digests(LD_PRELOAD=str(library), PRETEND_L1="16", PRETEND_L2="64") != here
