"""`genrecls sweep`: trials that are runs, none made twice, whoever is killed; pruned ones that `train` goes on with."""

import json
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Desk, Result

from genrecls.errors import GenreclsError
from genrecls.lock import exclusive
from genrecls.models.registry import settings_class
from genrecls.preparation import Workplace
from genrecls.space import load
from genrecls.sweep import _Table, sweep

SMALL = """
[space]
dataset.name = "folder"
model.name = "mlp"
features.n_mels = 16
batches.fragment = 1
batches.crops_per_clip = 1
batches.batch_size = 8
compute.threads = 1
training.epochs = 3
"""
LR = "optimiser.lr = { low = 1e-4, high = 1e-2, log = true }\n"
MIXUP = "augment.mixup = [0, 0.1, 0.2]\n"
INTERRUPTED = "and the same command goes on from there."


def space(desk: Desk, head: str, dimensions: str) -> Path:
    path = desk.runs.parent / "ours.toml"
    path.write_text(head + SMALL + dimensions)
    return path


def words(desk: Desk, path: Path, *given: object) -> tuple[object, ...]:
    return ("sweep", path, "--data-dir", desk.corpus, "--jobs", "1", *desk.places, *given)


def swept(desk: Desk, path: Path, *given: object) -> Any:
    return desk.cli.json(*words(desk, path, *given))


def run(desk: Desk, trial: Any) -> Path:
    return desk.runs / str(trial["run"])


def record(desk: Desk, trial: Any) -> Any:
    return json.loads((run(desk, trial) / "run.json").read_text())


def other(desk: Desk, name: str) -> Desk:
    """Another folder of runs."""
    folder = desk.runs.parent / name
    folder.mkdir()
    return Desk(desk.cli, desk.corpus, desk.res, folder / "runs")


def numbers(trials: Sequence[Any]) -> list[int]:
    return [trial["number"] for trial in trials]


def drawn(trials: Sequence[Any]) -> list[Any]:
    return [tuple(trial["settings"].values()) for trial in trials]


@pytest.fixture(scope="module")
def made(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, Path, Any]:
    """A Bayesian sweep of four trials; not to be written to."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("sweep") / "runs")
    path = space(desk, "trials = 4\n", LR + MIXUP)
    return desk, path, swept(desk, path)


def test_trials_are_runs_like_any_other(made: tuple[Desk, Path, Any]) -> None:
    desk, _, found = made
    trials = found["trials"]
    assert numbers(trials) == [0, 1, 2, 3]
    assert {trial["state"] for trial in trials} == {"finished"}
    assert len({trial["id"] for trial in trials}) == 4
    listed = {each["id"]: each for each in desk.cli.json("runs", "--runs", desk.runs, "--tag", found["sweep"])}
    for trial in trials:
        assert listed[trial["id"]]["valid"]["cross_entropy"] == trial["value"]
        assert listed[trial["id"]]["seed"] == 0
        # By validation alone.
        assert listed[trial["id"]]["test"] is None
        assert not (run(desk, trial) / "evaluation").exists()
    assert found["best"] == min(trials, key=lambda trial: trial["value"])
    assert set(found["importances"]) == {"optimiser.lr", "augment.mixup"}
    assert sum(found["importances"].values()) == pytest.approx(1)


def test_the_recipe_of_the_winner_finds_its_run_and_makes_it_again(
    made: tuple[Desk, Path, Any], tmp_path: Path
) -> None:
    desk, _, found = made
    given = ("train", "--recipe", found["recipe"], "--data-dir", desk.corpus, "--res", desk.res, "--runs")
    again = desk.cli.json(*given, desk.runs)
    assert (again["id"], again["status"]) == (found["best"]["id"], "found")
    anew = desk.cli.json(*given, tmp_path)
    assert anew["status"] == "finished"
    for name in ("weights_sha256", "history_sha256"):
        assert anew[name] == again[name] == record(desk, found["best"])[name]


@pytest.mark.slow
def test_the_same_command_reports_and_a_longer_one_goes_on(made: tuple[Desk, Path, Any], desk: Desk) -> None:
    first, path, found = made
    shutil.copytree(first.runs, desk.runs)
    assert swept(desk, path)["trials"] == found["trials"]
    longer = swept(desk, path, "--trials", "5")
    assert longer["trials"][:4] == found["trials"]
    assert len(longer["trials"]) == 5


def test_the_text_has_the_table_the_importances_and_the_recipe(made: tuple[Desk, Path, Any]) -> None:
    desk, path, found = made
    done = desk.cli(*words(desk, path))
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["trial", "id", "cross_entropy", "state", "optimiser.lr", "augment.mixup"]
    assert lines[1].split()[:2] == [str(found["best"]["number"]), found["best"]["id"]]
    assert "Importance for cross_entropy (fANOVA, 1 in all):" in lines
    assert f"Its recipe: {found['recipe']} (genrecls train --recipe takes it)" in lines
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        "SIGKILL genrecls.trainer.begin_step 14",  # in the middle of a trial's second epoch
        # When a trial is in the storage and has no run yet.
        pytest.param("SIGKILL genrecls.training._begin 2", marks=pytest.mark.slow),
        pytest.param("SIGTERM genrecls.trainer.begin_step 14", marks=pytest.mark.slow),
    ],
)
def test_what_a_killed_sweep_left_is_gone_on_with(made: tuple[Desk, Path, Any], desk: Desk, moment: str) -> None:
    first, path, found = made
    stopped: Result = desk.cli(*words(desk, path), TEST_SIGNAL=moment)
    assert stopped.status == (1 if "SIGTERM" in moment else -9)
    assert (INTERRUPTED in stopped.stderr) == ("SIGTERM" in moment)
    again = swept(desk, path)
    assert again["trials"] == found["trials"]
    assert again["importances"] == found["importances"]
    for trial in again["trials"]:
        for name in ("weights_sha256", "history_sha256"):
            assert record(desk, trial)[name] == record(first, trial)[name]


@pytest.mark.slow
def test_a_pruned_run_says_so_and_train_goes_on_with_it(desk: Desk) -> None:
    head = 'method = "grid"\npruning = "median"\npruning_startup = 1\n'
    path = space(desk, head, "optimiser.lr = [0.005, 1e-7]\n")
    done = desk.cli(*words(desk, path))
    assert done.status == 0, done.stderr
    assert "pruned after 1 of 3 epochs. Best so far: " in done.stderr
    best, pruned = swept(desk, path)["trials"]
    assert (best["state"], pruned["state"]) == ("finished", "pruned")
    assert pruned["reason"] == "pruned after 1 of 3 epochs"
    assert len((run(desk, pruned) / "metrics.jsonl").read_text().splitlines()) == 1
    (listed,) = (each for each in desk.cli.json("runs", "--runs", desk.runs) if each["id"] == pruned["id"])
    assert listed["status"] == "unfinished"
    (name,) = listed["tags"]
    said = f"was pruned after 1 of 3 epochs by the sweep {name}: `genrecls train` goes on with it."
    assert listed["reason"] == f"{run(desk, pruned)} {said}"
    flags = ("--model", "mlp", "--n-mels", "16", "--fragment", "1", "--crops-per-clip", "1", "--batch-size", "8")
    given = (*flags, "--threads", "1", "--epochs", "3", "--lr", "1e-7")
    gone_on = desk.train(*given, tiny=False)
    assert (gone_on["id"], gone_on["status"]) == (pruned["id"], "resumed")
    assert not (run(desk, pruned) / "pruned.json").exists()
    anew = other(desk, "anew").train(*given, tiny=False)
    assert (anew["weights_sha256"], anew["history_sha256"]) == (gone_on["weights_sha256"], gone_on["history_sha256"])


@pytest.mark.slow
def test_halving_prunes_after_its_warmup(desk: Desk) -> None:
    head = 'method = "grid"\npruning = "halving"\npruning_warmup = 2\n'
    path = space(desk, head, "optimiser.lr = [0.005, 1e-7, 1e-6]\n")
    states = [(trial["state"], trial["reason"]) for trial in swept(desk, path)["trials"]]
    assert states == [("finished", None), *[("pruned", "pruned after 2 of 3 epochs")] * 2]


def test_optuna_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    path = tmp_path / "ours.toml"
    path.write_text("trials = 1\n[space]\noptimiser.lr = [0.1]\n")
    place = Workplace(tmp_path, lambda *_, **__: None, lambda _: None)
    with pytest.raises(GenreclsError, match=r"Sweeps need Optuna, .* `pip install -e '\.\[sweep\]'`"):
        sweep(load(path, {}, settings_class), place, tmp_path, "", lambda *_: None)


@pytest.mark.slow
def test_a_grid_has_every_combination_in_its_order(desk: Desk) -> None:
    dimensions = "optimiser.lr = [0.01, 0.001]\naugment.mixup = [0, 0.2]\n"
    path = space(desk, 'method = "grid"\nmetric = "accuracy"\n', dimensions)
    found = swept(desk, path)
    assert drawn(found["trials"]) == [(0.01, 0), (0.01, 0.2), (0.001, 0), (0.001, 0.2)]
    assert found["best"]["value"] == max(trial["value"] for trial in found["trials"])
    assert found["best"]["value"] == record(desk, found["best"])["valid"]["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bayesian", pytest.param("random", marks=pytest.mark.slow)])
def test_a_small_space_is_searched_to_its_end_and_nothing_twice(desk: Desk, method: str) -> None:
    path = space(desk, f'method = "{method}"\ntrials = 4\n', "training.seed = { low = 0, high = 3 }\n")
    found = swept(desk, path)
    assert sorted(drawn(found["trials"])) == [(0,), (1,), (2,), (3,)]


@pytest.mark.slow
def test_a_trial_that_cannot_be_trained_fails_and_stops_no_other(desk: Desk) -> None:
    path = space(desk, 'method = "grid"\n', "")
    text = path.read_text().replace("batches.batch_size = 8", "batches.batch_size = [4096, 8]")
    path.write_text(text)
    found = swept(desk, path)
    failed, finished = found["trials"]
    assert (failed["state"], finished["state"]) == ("failed", "finished")
    assert failed["reason"].startswith("An epoch has ")
    assert found["best"]["number"] == 1
    assert found["importances"] == {}
    path.write_text(text.replace("[4096, 8]", "[4096, 2048]"))
    none = desk.cli(*words(desk, path))
    assert none.status == 0
    assert "No trial has finished: there is no winner." in none.stdout


@pytest.mark.slow
def test_a_storage_of_another_folder_of_runs(made: tuple[Desk, Path, Any], desk: Desk, tmp_path: Path) -> None:
    first, path, found = made
    database = tmp_path / "study.db"
    shutil.copy(Path(found["folder"]) / "study.db", database)
    done = desk.cli(*words(desk, path, "--storage", f"sqlite:///{database}"))
    assert done.status == 1
    said = f"The sweep {found['sweep']} of this storage was begun with another folder of runs than {desk.runs}"
    assert done.stderr == f"Error: {said}: name that one by --runs, or another storage by --storage.\n"
    same = Desk(first.cli, first.corpus, first.res, first.runs)
    assert swept(same, path, "--storage", f"sqlite:///{database}")["trials"] == found["trials"]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "The storage of the sweep cannot be used (Could not parse SQLAlchemy URL"),
        ("sqlite:////nowhere/at/all.db", "The storage of the sweep cannot be used (unable to open database file)"),
        ("mysql://me:secret@host/name", "The driver of the storage mysql://me:***@host/name is not installed"),
    ],
)
def test_a_storage_that_cannot_be_used(made: tuple[Desk, Path, Any], desk: Desk, url: str, sentence: str) -> None:
    done = desk.cli(*words(desk, made[1], "--storage", url))
    assert done.status == 1
    assert done.stderr.startswith(f"Error: {sentence}")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_run_that_train_holds_is_a_sentence(made: tuple[Desk, Path, Any], desk: Desk) -> None:
    _, path, found = made
    with exclusive(desk.runs / found["trials"][0]["run"] / ".lock"):
        done = desk.cli(*words(desk, path))
    assert done.status == 1
    assert "Another process is training the run" in done.stderr
    assert swept(desk, path)["trials"] == found["trials"]


@pytest.mark.slow
def test_twenty_trials_of_two_processes_one_of_them_killed(desk: Desk) -> None:
    path = space(desk, "trials = 20\n", LR + "augment.mixup = { low = 0, high = 0.5 }\n")
    given = words(desk, path, "--json")
    killed = desk.cli.start(*given, TEST_SIGNAL="SIGKILL genrecls.trainer.begin_step 26")
    left = desk.cli.start(*given)
    assert killed.wait().status == -9
    result = left.wait()
    assert result.status == 0, result.stderr
    trials = result.value["trials"]
    assert numbers(trials) == list(range(20))
    assert {trial["state"] for trial in trials} == {"finished"}
    assert len({trial["id"] for trial in trials}) == len(set(drawn(trials))) == 20
    runs = [each for each in desk.cli.json("runs", "--runs", desk.runs) if each["status"] == "finished"]
    assert {each["id"] for each in runs} == {trial["id"] for trial in trials}
    # The one that was killed has the bits of one that never was.
    places = ("--data-dir", desk.corpus, "--res", desk.res, "--runs", other(desk, "anew").runs)
    for trial in trials:
        values = (word for name, value in trial["settings"].items() for word in ("--set", f"{name}={value!r}"))
        anew = desk.cli.json("train", "--recipe", result.value["recipe"], *values, *places)
        assert anew["weights_sha256"] == record(desk, trial)["weights_sha256"]


def test_a_trial_that_ends_while_another_process_looks_is_not_taken(tmp_path: Path) -> None:
    """Between reading the trials and taking one's lock another process may have finished it."""
    path = tmp_path / "ours.toml"
    path.write_text("trials = 1\n[space]\noptimiser.lr = [0.1, 0.2]\n")
    asked = load(path, {}, settings_class)
    (tmp_path / "trials").mkdir()
    table = _Table.opened(asked, tmp_path, "")
    claims = table.claims(lambda _: None)
    first = next(claims)
    looked = table.study.get_trials()
    with first.held:
        assert table._left(looked) is None
        table.study.tell(first.number, 0.5)
    assert table._left(looked) is None
    assert next(claims, None) is None


@pytest.mark.slow
def test_a_damaged_storage_costs_no_run(made: tuple[Desk, Path, Any], tmp_path: Path) -> None:
    desk, path, found = made
    runs = tmp_path / "runs"
    shutil.copytree(desk.runs, runs)
    copied = Desk(desk.cli, desk.corpus, desk.res, runs)
    storage = runs / "sweeps" / found["sweep"] / "study.db"
    storage.write_bytes(b"no database" * 99)
    done = desk.cli(*words(copied, path))
    assert (done.status, done.stderr) == (
        1,
        "Error: The storage of the sweep cannot be used (file is not a database): remove it and run the same command "
        "again, which finds the runs that there are.\n",
    )
    storage.unlink()
    anew = swept(copied, path)
    assert drawn(anew["trials"]) == drawn(found["trials"])
    assert [trial["run"] for trial in anew["trials"]] == [trial["run"] for trial in found["trials"]]
    whole = storage.read_bytes()
    with closing(sqlite3.connect(storage)) as tables:
        tables.execute("DELETE FROM trial_params")
        tables.commit()
    done = desk.cli(*words(copied, path))
    assert done.status == 1
    assert f"The storage of the sweep {found['sweep']} has a trial of another space" in done.stderr
    storage.write_bytes(whole)
    (storage.parent / "folder.txt").write_bytes(b"\xff")
    done = desk.cli(*words(copied, path))
    assert done.status == 1
    assert "was begun with another folder of runs" in done.stderr


def test_a_winner_whose_run_was_removed_is_not_to_be_scored(made: tuple[Desk, Path, Any], tmp_path: Path) -> None:
    desk, path, found = made
    runs = tmp_path / "runs"
    shutil.copytree(desk.runs, runs)
    shutil.rmtree(runs / found["best"]["run"])
    done = desk.cli(*words(Desk(desk.cli, desk.corpus, desk.res, runs), path))
    assert done.status == 0
    assert done.stdout.endswith("Its run was removed: train the recipe to have it again.\n")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite://", "Error: The storage sqlite:// keeps nothing: name a file"),
        ("sqlite:///:memory:", "keeps nothing: name a file"),
        ("sqlite:///a.db?timeout=soon", "has a wrong option (could not convert string to float: 'soon')"),
    ],
)
def test_a_storage_that_is_none_is_wrong_usage(desk: Desk, url: str, sentence: str) -> None:
    done = desk.cli(*words(desk, space(desk, "trials = 1\n", LR), "--storage", url))
    assert done.status == 2
    assert sentence in done.stderr
