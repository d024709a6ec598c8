"""A few of the mutations of `make test-mutations`."""

import re
import subprocess
import sys
from pathlib import Path

import mutations
import pytest


@pytest.mark.slow
def test_no_changed_byte_leads_to_another_figure() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(mutations.__file__)), "50"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("no faults\n")
    files = {line.split()[-1] for line in done.stdout.splitlines() if re.match(r" +\d+  ", line)}
    assert len(files) > 10
    assert any(name.rpartition("/")[2] in mutations.OF_CACHES for name in files)
