"""NumPy without the instructions that only some processors have: nothing that genrecls keeps may move by a bit."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import dispatched
import numpy as np
import pytest

DISABLED = ("X86_V4", "AVX512_ICL", "AVX512_SPR")
"""What NumPy has code for beyond AVX2, which portable kernels need."""


@pytest.mark.slow
def test_no_bit_depends_on_what_numpy_finds_in_the_processor() -> None:
    features = import_module("numpy._core._multiarray_umath").__cpu_features__
    had = [name for name in DISABLED if features.get(name)]
    if not had:
        pytest.skip(f"NumPy {np.__version__} has no code beyond AVX2 for this processor")
    program = Path(dispatched.__file__)
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(had)}
    made = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    without = json.loads(made.stdout)
    ours = {kind.__name__: dispatched.digest(kind()) for kind in dispatched.KINDS}
    assert ours == without
