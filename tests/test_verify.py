"""`genrecls verify`: everything that a run recorded is held against what is there, run by run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Desk, reopen, reseal, unseal

from genrecls.seal import TRAINED, UNSEALED


@pytest.fixture(scope="module")
def scored(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A run that is scored on two subsets; not to be written to."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("scored"))
    made = desk.train("--epochs", "1")
    for subset in ("test", "valid"):
        desk.cli.json("evaluate", made["run"], "--subset", subset, *desk.places)
    return desk


@pytest.fixture
def run(scored: Desk, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    (original,) = scored.runs.iterdir()
    return Path(shutil.copytree(original, tmp_path / "runs" / original.name))


def verified(desk: Desk, *given: object, status: int = 0) -> list[Any]:
    done = desk.cli("verify", *given, "--res", desk.res, "--json")
    assert done.status == status, done.stdout
    assert done.stderr == ""
    found: list[Any] = done.value["runs"]
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_an_untouched_run(scored: Desk) -> None:
    (run,) = scored.runs.iterdir()
    (found,) = verified(scored, run)
    names = json.loads((run / "run.json").read_text())["files"]
    assert found == {
        "run": str(run),
        "verified": True,
        "changed": [],
        "reasons": [],
        "not_checked": [],
        "files": len(names) + 1,
        "arrays": 1,
    }
    assert len(names) == len(TRAINED) + 4
    done = scored.cli("verify", run.name.rpartition("-")[2][:6], *scored.places)
    assert (done.status, done.stdout) == (0, f"{run}: verified ({len(names) + 1} files and 1 array)\n")


@pytest.mark.parametrize("name", [*TRAINED, "evaluation/metrics.json", "evaluation/predictions-valid.csv"])
@pytest.mark.parametrize("deed", [flip, Path.unlink])
def test_every_file_that_is_sealed(scored: Desk, run: Path, name: str, deed: Callable[[Path], None]) -> None:
    deed(run / name)
    (found,) = verified(scored, run, status=1)
    assert (found["verified"], found["changed"]) == (False, [name])
    assert any(name in reason for reason in found["reasons"])


def test_several_at_once_in_words(scored: Desk, run: Path) -> None:
    for name in ("spans.csv", "draws.jsonl"):
        flip(run / name)
    done = scored.cli("verify", run, *scored.places)
    assert done.status == 1
    lines = done.stdout.splitlines()
    assert lines[:3] == [f"{run}: NOT verified", "  changed: draws.jsonl", "  changed: spans.csv"]
    assert len(lines) == 5


def test_the_record_itself(scored: Desk, run: Path) -> None:
    whole = (run / "run.json").read_text()
    for changed in (whole[:100], whole.replace('"seal"', '"lens"'), whole.replace('"best_epoch": ', '"best_epoch": 1')):
        (run / "run.json").write_text(changed)
        (found,) = verified(scored, run, status=1)
        assert found["changed"] == ["run.json"]


def test_an_id_that_is_not_that_of_the_settings(scored: Desk, run: Path) -> None:
    path = run / "config.toml"
    path.write_text(path.read_text().replace("overlap = 0.5", "overlap = 0.25"))
    reseal(run)
    (found,) = verified(scored, run, status=1)
    assert found["changed"] == ["config.toml"]
    assert "its settings are those of the run" in found["reasons"][0]


def test_figures_that_nobody_measured(scored: Desk, run: Path) -> None:
    shutil.copy(run / "evaluation/metrics.json", run / "evaluation/metrics-train.json")
    (found,) = verified(scored, run, status=1)
    assert found["changed"] == ["evaluation/metrics-train.json"]


def test_what_decides_nothing_is_no_change(scored: Desk, run: Path) -> None:
    for name in UNSEALED:
        if name not in ("run.json", "checkpoints"):
            (run / name).write_text("anything")
    (run / "notes.txt").write_text("mine")
    (found,) = verified(scored, run)
    assert found["verified"] is True


def test_arrays_at_hand_and_not(scored: Desk, run: Path, tmp_path: Path) -> None:
    done = scored.cli("verify", run, "--res", tmp_path / "nowhere", "--json")
    assert done.status == 0
    (found,) = done.value["runs"]
    assert (found["verified"], found["arrays"]) == (True, 0)
    assert "mel.npy is not checked, for there is no" in found["not_checked"][0]
    known = json.loads((run / "run.json").read_text())["cache_arrays"]["mel.npy"]
    place = Path(shutil.copytree(scored.res / "cache" / known["cache"], tmp_path / "res" / "cache" / known["cache"]))
    for name in ("mel.npy", "index.csv", "cache.json"):
        whole = (place / name).read_bytes()
        flip(place / name)
        done = scored.cli("verify", run, "--res", tmp_path / "res", "--json")
        assert done.status == 1
        (found,) = done.value["runs"]
        assert found["changed"] == [str(place / name if name == "mel.npy" else place)]
        assert name in found["reasons"][0]
        (place / name).write_bytes(whole)


def test_one_bad_run_stops_no_other(scored: Desk, run: Path, tmp_path: Path) -> None:
    others = [Path(shutil.copytree(run, tmp_path / "runs" / f"other-{number}")) for number in range(5)]
    (others[0] / "run.json").write_text("[" * 10**5)
    unseal(others[1])
    reopen(others[2])
    (others[3] / "best.safetensors").unlink()
    os.mkfifo(others[3] / "best.safetensors")
    (others[4] / "config.toml").unlink()
    found = verified(scored, *others, tmp_path / "nowhere", run, status=1)
    assert [each["verified"] for each in found] == [False] * 6 + [True]
    assert [each["changed"] for each in found] == [["run.json"], [], [], ["best.safetensors"], ["config.toml"], [], []]
    words = ("nested", "did not seal", "is not finished", "is a pipe", "no config.toml", "There is no run")
    for each, word in zip(found, words, strict=False):
        assert word in " ".join(each["reasons"])


def test_torch_is_not_needed(scored: Desk) -> None:
    """So that it is done at once."""
    (run,) = scored.runs.iterdir()
    code = (
        "import sys; from genrecls.cli.main import status; "
        "code = status(['verify', *sys.argv[1:]]); sys.exit(code or 'torch' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(run), "--res", str(scored.res)]
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
