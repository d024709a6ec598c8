"""`make experiments`: recipes trained within a budget, by ordinary commands, and gone on with where they stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Desk

import run_recipes
from genrecls.errors import ConfigError
from reproduce import StepError
from run_recipes import Asked

BASE = """\
[dataset]
name = "folder"
[features]
n_mels = 32
[batches]
fragment = 1.0
crops_per_clip = 1
batch_size = 8
[model]
width = 4
se_ratio = 4
[training]
epochs = 3
[compute]
threads = 1
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of `experiments/`, with two recipes of one base."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "_base.toml").write_text(BASE)
    (folder / "plain.toml").write_text('base = "_base.toml"\n')
    (folder / "wide.toml").write_text('base = "_base.toml"\n[model]\nwidth = 8\n')
    monkeypatch.setattr(run_recipes, "EXPERIMENTS", folder)
    return folder


@pytest.fixture
def called(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run, each in a process that starts quickly."""
    words: list[list[str]] = []

    def command(*arguments: str | Path) -> dict[str, Any]:
        words.append([str(each) for each in arguments])
        done = desk.cli(*arguments, "--json")
        if done.status:
            raise StepError(done.stderr)
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    monkeypatch.setattr(run_recipes, "genrecls", command)
    monkeypatch.setattr(run_recipes, "show", lambda runs: words.append(["runs", str(runs)]))
    return words


def asked(desk: Desk, **changes: Any) -> Asked:
    return Asked(**{"res": desk.res, "runs": desk.runs, "data_dir": desk.corpus, "budget": 5.0, **changes})


def memory(desk: Desk) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((desk.runs / "epochs.json").read_text())
    return found


def test_a_recipe_is_trained_by_an_ordinary_command_and_found_again(
    recipes: Path, desk: Desk, called: list[list[str]]
) -> None:
    recipe = recipes / "plain.toml"
    assert run_recipes.run([recipe], asked(desk)) == 0
    assert [words[0] for words in called] == ["train", "train", "evaluate", "runs"]
    probe, real = called[:2]
    assert probe[probe.index("--epochs") + 1] == "2"
    assert not Path(probe[probe.index("--runs") + 1]).exists()
    assert real[real.index("--epochs") + 1] == "3"
    (entry,) = memory(desk).values()
    assert (entry["recipe"], entry["dataset"], entry["budget_minutes"], entry["epochs"]) == ("plain", "folder", 5.0, 3)
    made = desk.cli.json("train", "--recipe", recipe, "--data-dir", desk.corpus, "--epochs", "3", *desk.places)
    assert made["status"] == "found"
    first = (desk.runs / "epochs.json").read_bytes()
    called.clear()
    assert run_recipes.run([recipe], asked(desk)) == 0
    assert [words[0] for words in called] == ["train", "runs"]
    assert (desk.runs / "epochs.json").read_bytes() == first
    assert len(desk.cli.json("runs", "--runs", desk.runs)) == 1


@pytest.mark.parametrize(("seconds", "chosen"), [(20.0, 3), (30.0, 2), (29.9, 2), (31.0, 1), (1e6, 1)])
def test_the_epochs_are_those_that_fit(
    seconds: float, chosen: int, recipes: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_recipes, "seconds_per_epoch", lambda *_: seconds)
    given = asked(desk, budget=1.0)
    recipe = recipes / "plain.toml"
    assert run_recipes.epochs(recipe, given.settings(recipe), given) == chosen
    monkeypatch.setattr(run_recipes, "seconds_per_epoch", lambda *_: 0.1)
    assert run_recipes.epochs(recipe, given.settings(recipe), given) == chosen


def test_the_faster_epoch_counts_with_its_validation(
    recipes: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*words: str) -> dict[str, Any]:
        run = Path(words[words.index("--runs") + 1], "run")
        run.mkdir()
        lines = [{"training_seconds": 9.0, "validation_seconds": 1.0}, {"training_seconds": 4, "validation_seconds": 3}]
        (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return {"run": str(run)}

    monkeypatch.setattr(run_recipes, "genrecls", train)
    recipe, given = recipes / "plain.toml", asked(desk)
    assert run_recipes.seconds_per_epoch(recipe, given.settings(recipe), given) == 7


def test_one_number_of_epochs_for_all_seeds_and_another_for_what_takes_other_time(recipes: Path, desk: Desk) -> None:
    def key(recipe: str = "plain", budget: float = 5.0, **changes: Any) -> str:
        given = asked(desk, **changes)
        return run_recipes.key(given.settings(recipes / f"{recipe}.toml"), budget, given.data_dir)

    assert key() == key(seed=7) == key(split="auto") == key(threads=1)
    others = [key("wide"), key(budget=4.0), key(threads=2), key(dataset="synth"), key(split="grouped")]
    others += [key(data_dir=recipes), key(data_dir=None)]
    assert len({key(), *others}) == 1 + len(others)
    (recipes / "again.toml").write_text("# Other words, the same settings.\n" + BASE)
    (recipes / "placed.toml").write_text(BASE.replace('"folder"', f'"folder"\ndata_dir = "{desk.corpus}"'))
    assert key("again") == key() == key("placed", data_dir=None)


def test_without_a_budget_the_recipe_says_how_many(recipes: Path, desk: Desk, called: list[list[str]]) -> None:
    assert run_recipes.run([recipes / "plain.toml"], asked(desk, budget=None, seed=2)) == 0
    assert [words[0] for words in called] == ["train", "evaluate", "runs"]
    assert called[0][-4:] == ["--epochs", "3", "--runs", str(desk.runs)]
    assert called[0][called[0].index("--seed") + 1] == "2"
    assert not (desk.runs / "epochs.json").exists()


def test_a_recipe_that_fails_does_not_stop_the_others(
    recipes: Path, desk: Desk, called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (recipes / "a.toml").write_text('[model]\nname = "none"\n')
    (recipes / "b.toml").write_text('base = "_base.toml"\n[batches]\nbatch_size = 512\n')
    chosen = run_recipes.recipes_below(recipes)
    assert [path.name for path in chosen] == ["a.toml", "b.toml", "plain.toml", "wide.toml"]
    assert run_recipes.run(chosen[:3], asked(desk, budget=None)) == 1
    ended = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert len(ended) == 2
    assert "a.toml: In the recipe" in ended[0]
    assert "b.toml: Error: " in ended[1]
    (made,) = desk.cli.json("runs", "--runs", desk.runs)
    assert made["test"] is not None


def test_another_corpus_is_split_as_its_own(recipes: Path, desk: Desk) -> None:
    recipe = recipes / "gtzan.toml"
    recipe.write_text('[dataset]\nname = "gtzan"\n[split]\npolicy = "kfold"\nfold = 2\n')
    for changes, dataset, policy, fold in (
        ({}, "gtzan", "kfold", 2),
        ({"dataset": "gtzan"}, "gtzan", "kfold", 2),
        ({"dataset": "folder"}, "folder", "auto", 0),
        ({"dataset": "folder", "split": "grouped"}, "folder", "grouped", 0),
        ({"split": "random"}, "gtzan", "random", 0),
    ):
        given = asked(desk, **changes)
        made = given.settings(recipe)
        assert (made.dataset.name, made.split.policy, made.split.fold) == (dataset, policy, fold)
        flags = given.flags(recipe, made)
        if changes:
            assert flags[flags.index("--split") + 1] == policy
    with pytest.raises(ConfigError, match=r"split\.policy"):
        asked(desk, split="nowhere").settings(recipe)


def test_runs_and_bases_are_no_recipes(recipes: Path) -> None:
    for name in ("runs/x/config.toml", "reproduce-ab/runs/x/config.toml", "mine/x/config.toml", "senets/se.toml"):
        (recipes / name).parent.mkdir(parents=True)
        (recipes / name).touch()
    (recipes / "mine/x/run.json").touch()
    found = [str(path.relative_to(recipes)) for path in run_recipes.recipes_below(recipes)]
    assert found == ["plain.toml", "senets/se.toml", "wide.toml"]


def test_a_folder_stands_for_its_recipes(
    recipes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipes / "table").mkdir()
    for name in ("_base.toml", "b.toml", "a.toml"):
        (recipes / "table" / name).touch()
    seen: list[list[Path]] = []

    def remembered(chosen: list[Path], _: Asked) -> int:
        seen.append(chosen)
        return 0

    monkeypatch.setattr(run_recipes, "run", remembered)

    def main(*words: Path) -> int:
        monkeypatch.setattr(sys, "argv", ["run_recipes.py", *map(str, words)])
        return run_recipes.main()

    table = [recipes / "table" / name for name in ("a.toml", "b.toml")]
    assert main(recipes / "table", recipes / "wide.toml") == main() == 0
    assert seen == [[*table, recipes / "wide.toml"], [recipes / "plain.toml", *table, recipes / "wide.toml"]]
    (recipes / "empty").mkdir()
    assert main(recipes / "empty") == 1
    assert capsys.readouterr().err == f"experiments: there is no recipe below {recipes / 'empty'}: name one.\n"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"KEY": 3}', '{"KEY": {"epochs": 0}}', '{"KEY": {"epochs": 1000000000}}', "[" * 100_000]
)
def test_a_damaged_memory_is_named(content: str, recipes: Path, desk: Desk) -> None:
    recipe, given = recipes / "plain.toml", asked(desk)
    settings = given.settings(recipe)
    desk.runs.mkdir()
    (desk.runs / "epochs.json").write_text(content.replace("KEY", run_recipes.key(settings, 5.0, given.data_dir)))
    with pytest.raises(StepError, match=r"epochs\.json is damaged"):
        run_recipes.epochs(recipe, settings, given)


@pytest.mark.slow
def test_the_script_itself(recipes: Path, desk: Desk) -> None:
    script = Path(run_recipes.__file__)
    words = [sys.executable, str(script), str(recipes / "plain.toml"), "--budget", "0.001", "--threads", "1"]
    places = ("--data-dir", str(desk.corpus), "--res", str(desk.res), "--runs", str(desk.runs))
    root = script.parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([*words, *places], capture_output=True, text=True, check=False, cwd=root, env=environment)
    assert done.returncode == 0, done.stderr
    assert "finished, 1 of 3 epochs, accuracy " in done.stderr
    assert done.stdout.splitlines()[1].split()[1:6] == ["folder", "random", "se-resnet", "0", "1"]
    wrong = [*words[:3], "--budget", "-1"]
    done = subprocess.run(wrong, capture_output=True, text=True, check=False, cwd=root, env=environment)
    assert done.returncode == 2
    assert "--budget must be a number of minutes above 0" in done.stderr
