"""No number moves unnoticed: losses of every model, first weights, draws, features and figures are those on record."""

import copy
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import golden
import pytest
from golden import FILE, Golden, moved, numbers

from genrecls import kernels
from genrecls.models.registry import entries


@pytest.fixture(scope="module")
def here() -> Golden:
    return numbers()


@pytest.fixture(scope="module")
def recorded() -> Golden:
    found: Golden = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def test_no_number_moved(recorded: Golden, here: Golden) -> None:
    found = moved(recorded, here)
    assert not found, "\n".join([*found, golden.ADVICE])


def test_no_code_changed_that_is_not_declared_to_make_the_same_numbers(recorded: Golden, here: Golden) -> None:
    assert recorded.get("code", {}).keys() == {"", *entries()}, "run `python tests/golden.py` to put it on record"
    assert golden.undeclared(recorded, here) == {}, golden.CODE_ADVICE


def test_every_model_and_draw_is_on_record(recorded: Golden, here: Golden) -> None:
    assert recorded["trainings"].keys() >= entries().keys()
    for part in ("trainings", "draws", "features", "figures"):
        assert recorded[part].keys() == here[part].keys(), "run `python tests/golden.py` to put it on record"
    for name, training in here["trainings"].items():
        assert len(set(training["losses"])) == 6, name
        assert all(math.isfinite(loss) for loss in training["losses"])


def test_what_is_on_record_is_of_portable_kernels(recorded: Golden) -> None:
    assert recorded["machine"].keys() == {"torch", "numpy", "kernels"}
    assert recorded["machine"]["kernels"] == kernels.PORTABLE


def elsewhere(numbers: Golden, **machine: str) -> Golden:
    """What a machine of another kind would come to, if that were the same."""
    return {**copy.deepcopy(numbers), "machine": {**numbers["machine"], **(machine or {"kernels": kernels.NATIVE})}}


@pytest.mark.parametrize("other", [{"kernels": kernels.NATIVE}, {"torch": "2.0.0"}], ids=str)
def test_with_portable_kernels_the_last_bit_counts(recorded: Golden, other: dict[str, str]) -> None:
    planted = copy.deepcopy(recorded)
    losses = planted["trainings"]["cel"]["losses"]
    losses[3] = math.nextafter(losses[3], 9)
    (line,) = moved(recorded, planted)
    assert line.startswith("trainings: cel: losses[3]: ")
    # Native kernels of the very same machine round as they like.
    assert not moved(elsewhere(recorded, **other), elsewhere(planted))
    assert not moved(recorded, elsewhere(planted, **other))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema",), 99),
        (("draws", "order"), "0"),
        (("trainings", "mlp", "initial"), "0"),
        (("trainings", "mlp", "losses"), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        (("trainings", "mlp", "losses"), []),
        (("trainings", "mlp"), None),
        (("features", "wave"), [0] * 221),
        (("features", "mel"), [[0.0] * 16] * 3),
        (("figures", "accuracy_low"), 0.1),
    ],
    ids=str,
)
def test_on_any_machine_a_change_is_seen(recorded: Golden, place: tuple[str, ...], value: Any) -> None:
    assert not moved(recorded, elsewhere(recorded))
    planted = elsewhere(recorded)
    within = planted
    for name in place[:-1]:
        within = within[name]
    within[place[-1]] = value
    assert moved(recorded, planted)


def test_the_generator_wants_a_new_schema_number_first(
    here: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "golden.json"
    monkeypatch.setattr(golden, "FILE", file)
    monkeypatch.setattr(golden, "numbers", lambda: here)
    assert golden.main() == 0
    written = file.read_text()
    assert json.loads(written) == here

    other = copy.deepcopy(here)
    other["trainings"]["mlp"]["losses"][0] = 2.0
    other["trainings"]["brand-new"] = other["trainings"]["mlp"]
    monkeypatch.setattr(golden, "numbers", lambda: other)
    assert golden.main() == 1
    assert file.read_text() == written
    said = capsys.readouterr().err
    assert "trainings: mlp: losses[0]: " in said
    assert "raise SCHEMA in genrecls/config.py" in said
    assert "CHANGELOG.md" in said

    monkeypatch.setattr(golden, "SCHEMA", here["schema"] + 1)
    assert golden.main() == 0
    assert json.loads(file.read_text()) == other


def test_changed_code_must_be_declared(
    here: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, table = tmp_path / "golden.json", tmp_path / "equivalent_code.toml"
    table.write_text("# Code that makes the same figures.\n")
    monkeypatch.setattr(golden, "FILE", file)
    monkeypatch.setattr(golden, "TABLE", table)
    monkeypatch.setattr(golden, "numbers", lambda: here)
    assert golden.main() == 0

    other = {**here, "code": {**here["code"], "": "1" * 64, "mlp": "2" * 64}}
    monkeypatch.setattr(golden, "numbers", lambda: other)
    assert golden.undeclared(here, other) == {"": (here["code"][""], "1" * 64), "mlp": (here["code"]["mlp"], "2" * 64)}
    assert golden.main() == 1
    assert '--equivalent "what was done"' in capsys.readouterr().err
    assert json.loads(file.read_text()) == here
    assert golden.main(["--equivalent", 'Part "a" from b']) == 0
    assert json.loads(file.read_text()) == other
    rows = tomllib.loads(table.read_text())["equivalent"]
    assert [(row["old"], row["new"]) for row in rows] == list(golden.undeclared(here, other).values())
    assert {row["reason"] for row in rows} == {'Part "a" from b'}

    # Where numbers move, nothing is equivalent.
    monkeypatch.setattr(golden, "numbers", lambda: {**here, "figures": {**here["figures"], "accuracy": 2.0}})
    assert golden.main(["--equivalent", "no"]) == 1
    assert "Numbers moved" in capsys.readouterr().err
    monkeypatch.setattr(golden, "SCHEMA", here["schema"] + 1)
    assert golden.main() == 0
    assert len(tomllib.loads(table.read_text())["equivalent"]) == 2
