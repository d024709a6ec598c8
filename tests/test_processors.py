"""What `make test-portable` says of what it computed, and where it cannot compute."""

import os
import subprocess
import sys
from pathlib import Path

import portable
import pytest
from portable import NATIVE, ONE_CORE, Outcome, Outcomes, aligned, judged, table, verdict
from small import SMALL

from genrecls import kernels
from genrecls.models.registry import entries

PLACES = (NATIVE, ONE_CORE, "Haswell")
SAME = {"mel": "ab" * 32, "mfcc": "cd" * 32}


def outcomes(**changed: Outcome) -> Outcomes:
    made = dict.fromkeys(PLACES, Outcome(SAME)) | changed
    return {("features", place): outcome for place, outcome in made.items()}


def cells(made: Outcomes) -> tuple[list[list[str]], bool]:
    (_, *rows), fine = table(made, PLACES)
    return rows, fine


def test_every_model_is_computed() -> None:
    assert ("run", "features", *SMALL) == portable.PARTS
    assert entries().keys() == SMALL.keys()


def test_equal_digests_are_the_same() -> None:
    made = outcomes()
    rows, fine = cells(made)
    assert rows == [["mel", "ab" * 6, "same", "same"], ["mfcc", "cd" * 6, "same", "same"]]
    assert verdict(made, fine) == "The same bits on every processor."


@pytest.mark.parametrize("other", [{"mel": "ab" * 32, "mfcc": "ce" * 32}, {"mel": "ab" * 32}])
def test_one_other_digest_fails(other: dict[str, str]) -> None:
    made = outcomes(Haswell=Outcome(other))
    rows, fine = cells(made)
    assert rows[1] == ["mfcc", "cd" * 6, "same", "DIFFERENT"]
    assert rows[0][-1] == "same"
    assert not fine
    assert verdict(made, fine).startswith("NOT the same bits")


def test_a_crash_that_is_known_is_said_and_no_failure() -> None:
    crashed = judged("cnn1d-lstm", "Haswell", status=-11)
    assert crashed.known
    made = outcomes(Haswell=crashed)
    rows, fine = cells(made)
    assert rows[0][-1] == "cannot: " + portable.KNOWN_CRASHES["cnn1d-lstm"]
    assert fine
    assert verdict(made, fine).endswith("but for what could not be shown: features on Haswell.")


@pytest.mark.parametrize(
    ("part", "place", "status"),
    [("cnn1d-lstm", NATIVE, -11), ("cnn1d-lstm", "Haswell", -9), ("cnn1d-gru", "Haswell", -11), ("run", "Haswell", 0)],
)
def test_any_other_end_is_a_failure(part: str, place: str, status: int) -> None:
    ended = judged(part, place, status)
    assert not ended.known
    rows, fine = cells(outcomes(Haswell=ended))
    assert rows[0][-1] == ended.reason
    assert "failed" in ended.reason
    assert not fine


def test_what_failed_natively_has_a_row() -> None:
    rows, fine = cells(outcomes(native=Outcome(reason="failed, signal 9")))
    assert rows == [["features", "failed, signal 9", "-", "-"]]
    assert not fine


def test_columns_stand_below_each_other() -> None:
    assert list(aligned([["", "native"], ["mel", "ab"]])) == ["     native", "mel  ab"]


@pytest.mark.slow
@pytest.mark.skipif(bool(kernels.lacking()), reason="there are no portable kernels here")
def test_a_part_is_computed_on_two_cores_and_on_one() -> None:
    two, one = (portable.computed(["mlp"], place)["mlp", place] for place in (NATIVE, ONE_CORE))
    assert two.digests == one.digests != {}


def on_a_machine(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, portable.__file__, *arguments]
    return subprocess.run(
        command, env={**os.environ, "PATH": str(path)}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.skipif(bool(kernels.lacking()), reason="the sentence is another one without portable kernels")
def test_without_qemu_it_says_what_to_install(tmp_path: Path) -> None:
    done = on_a_machine(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "apt install qemu-user" in line


def test_an_unknown_name_is_wrong_usage(tmp_path: Path) -> None:
    done = on_a_machine(tmp_path, "--models", "mlp,nonesuch")
    assert done.returncode == 2
    assert "--models does not know nonesuch" in done.stderr
