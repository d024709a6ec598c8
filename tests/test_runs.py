"""`genrecls runs`: the list, which nothing damaged stops, and the results file with commands that make its rows."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from conftest import TINY, Desk, reopen, reseal

from genrecls import config, recipes
from genrecls.command import assigned, train_command
from genrecls.identity import run_id
from genrecls.lock import exclusive
from genrecls.models.building import build
from genrecls.models.registry import settings_class
from genrecls.models.shapes import InputShape
from genrecls.run import Run


@pytest.fixture(scope="module")
def shelf(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two scored runs that differ by their seed, and one that is not scored; not to be written to."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("shelf"))
    for seed in (1, 0):
        made = desk.train("--seed", seed)
        desk.cli.json("evaluate", made["run"], *desk.places)
    desk.train("--epochs", "0")
    return desk


@pytest.fixture
def copy(shelf: Desk, tmp_path: Path) -> Desk:
    """The shelf, to be damaged."""
    shutil.copytree(shelf.runs, tmp_path / "runs")
    return Desk(shelf.cli, shelf.corpus, shelf.res, tmp_path / "runs")


def listed(desk: Desk) -> list[Any]:
    found: list[Any] = desk.cli.json("runs", "--runs", desk.runs)
    return found


def scored_run(desk: Desk) -> Path:
    return Path(next(each["run"] for each in listed(desk) if each["test"]))


def markdown(desk: Desk, *arguments: object) -> str:
    done = desk.cli("runs", "--markdown", "--runs", desk.runs, *arguments)
    assert done.status == 0, done.stderr
    return done.stdout


def test_the_list_as_json(shelf: Desk) -> None:
    made = listed(shelf)
    assert len(made) == 3
    for each in made:
        assert set(each) == {
            *("id", "run", "status", "model", "dataset", "split", "seed", "valid", "test", "reason", "tags"),
        }
        assert (each["status"], each["model"], each["dataset"]) == ("finished", "cel", "folder")
        assert (each["split"], each["reason"]) == ("random", None)
        assert json.loads(Path(each["run"], "run.json").read_text())["id"] == each["id"]
    assert [each["seed"] for each in made] == [0, 0, 1]
    assert sorted(each["test"] is None for each in made) == [False, False, True]
    for each in made:
        if each["test"]:
            assert each["test"] == json.loads(Path(each["run"], "evaluation/metrics.json").read_text())["clip"]
            assert each["valid"] == json.loads(Path(each["run"], "run.json").read_text())["valid"]


def test_the_list_is_an_aligned_table(shelf: Desk) -> None:
    done = shelf.cli("runs", "--runs", shelf.runs)
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["id", "data", "set", "split", "model", "seed", "epochs", "valid", "test", "status"]
    assert len(lines) == 4
    at = lines[0].index("status")
    assert {line[at:] for line in lines[1:]} == {"finished"}
    assert sum(line.split()[-3:-1] == ["-", "-"] for line in lines[1:]) == 1


def test_unfinished_runs_and_what_is_no_run(copy: Desk) -> None:
    stopped = scored_run(copy)
    record = json.loads((stopped / "run.json").read_text())
    reopen(stopped)
    history = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_text(history[0] + history[1][:10])
    for name in ("folder-se-resnet-abc", "notes"):
        (copy.runs / name).mkdir()
    (copy.runs / "folder-se-resnet-abc" / ".lock").touch()
    (copy.runs / "epochs.json").touch()
    made = {each["id"]: each for each in listed(copy)}
    assert len(made) == 4
    assert made[record["id"]]["status"] == "unfinished"
    assert made[record["id"]]["valid"] is None
    assert (made["abc"]["status"], made["abc"]["model"]) == ("unfinished", None)
    assert re.search(r" 1 of 2 +- +- +unfinished$", copy.cli("runs", "--runs", copy.runs).stdout, re.MULTILINE)


def test_a_run_that_another_process_trains(copy: Desk) -> None:
    stopped = scored_run(copy)
    reopen(stopped)
    others = [path for path in copy.runs.iterdir() if path != stopped]
    (others[0] / "run.json").write_text("{")
    with exclusive(stopped / ".lock"), exclusive(others[0] / ".lock"), exclusive(others[1] / ".lock"):
        made = {each["run"]: each for each in listed(copy)}
        assert made[str(stopped)]["status"] == "running"
        assert made[str(stopped)]["seed"] == record_seed(stopped)
        # Half a record is that of a run whose folder is just being made.
        assert (made[str(others[0])]["status"], made[str(others[0])]["reason"]) == ("running", None)
        assert made[str(others[1])]["status"] == "finished"
        done = copy.cli("runs", "--markdown", "--runs", copy.runs)
        assert "2 runs are left out: running." in done.stderr
    assert {each["run"]: each["status"] for each in listed(copy)}[str(stopped)] == "unfinished"


def record_seed(run: Path) -> int:
    return Run(run).config.training.seed


def remove_precision(text: str) -> str:
    found = json.loads(text)
    for level in ("clip", "fragment"):
        del found[level]["precision_macro"]
    return json.dumps(found)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("run.json", lambda text: text[:40], r"run\.json is damaged"),
        ("run.json", lambda text: "[]", r"run\.json is damaged"),
        ("run.json", lambda text: text.replace('"valid": {', '"valid": [3], "else": {'), r"run\.json is damaged"),
        ("config.toml", lambda text: text.replace("cel", "other"), r"config\.toml is damaged"),
        ("config.toml", None, r"has no config\.toml"),
        ("environment.json", lambda text: "{}", r"environment\.json is damaged"),
        ("timing.jsonl", lambda text: text[:30], r"timing\.jsonl is damaged"),
        ("timing.jsonl", lambda text: "", r"timing\.jsonl is damaged"),
        ("timing.jsonl", None, r"has no timing\.jsonl"),
        ("best.safetensors", lambda text: "xxxxxxxxxxxx", r"best\.safetensors is damaged"),
        ("evaluation/metrics.json", lambda text: text[:99], r"evaluation/metrics\.json is damaged"),
        ("run.json", lambda text: text.replace('"genres": [', '"genres": [3, '), r"an element of genres is not a text"),
        ("best.safetensors", None, r"has no best\.safetensors"),
        ("tags.txt", None, r"tags\.txt is damaged \(it is not UTF-8 .*: remove this file, which no figure needs\.$"),
        (
            "evaluation/metrics.json",
            lambda text: text[:99],
            r"metrics\.json is damaged .*: run `genrecls evaluate \S+` again\.$",
        ),
        ("evaluation/metrics.json", lambda text: "3", r"evaluation/metrics\.json is damaged"),
        ("evaluation/metrics.json", lambda text: text.replace('"f1_macro"', '"f1"'), r"it lacks 'f1_macro'"),
    ],
)
def test_one_damaged_run_does_not_stop_the_list(
    copy: Desk, name: str, change: Callable[[str], str] | None, words: str
) -> None:
    run = scored_run(copy)
    path = run / name
    if name == "tags.txt":
        path.write_bytes(b"\xff")
    elif change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text(encoding="utf-8", errors="replace")))
    with suppress(ValueError, TypeError):  # What the seal would not let through is damaged all the same.
        reseal(run)
    made = {each["run"]: each for each in listed(copy)}
    assert len(made) == 3
    assert made[str(run)]["status"] == "damaged"
    assert re.search(words, made[str(run)]["reason"])
    assert sum(each["status"] == "finished" for each in made.values()) == 2
    done = copy.cli("runs", "--markdown", "--runs", copy.runs)
    assert done.status == 0
    assert "1 run is left out: damaged." in done.stderr
    assert "| 1 | cel" in done.stdout
    assert "\n| 2 |" not in done.stdout


def test_a_folder_without_runs_and_none_at_all(desk: Desk, tmp_path: Path) -> None:
    done = desk.cli("runs", "--runs", tmp_path / "nowhere")
    assert done.status == 1
    assert "There is no folder" in done.stderr
    assert desk.cli.json("runs", "--runs", tmp_path) == []
    assert desk.cli("runs", "--runs", tmp_path).stdout == f"There are no runs below {tmp_path}.\n"
    assert "There are no scored runs." in desk.cli("runs", "--markdown", "--runs", tmp_path).stdout


def test_the_results_file(shelf: Desk, tmp_path: Path) -> None:
    text = markdown(shelf)
    assert text == markdown(shelf)
    assert text.startswith("# Results\n\nGenerated from run directories by `genrecls runs --markdown`, never typed.\n")
    assert "\n## folder, split random\n" in text
    assert str(shelf.corpus) not in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| 1 |", "| 2 |"))]
    runs = [each for each in listed(shelf) if each["test"]]
    assert len(rows) == len(runs) == 2
    small = config.read({"model": {"name": "cel", "nodes": "8-8"}}, settings_class).model
    parameters = sum(value.numel() for value in build(small, InputShape(32, 43, 3, 22050)).parameters())
    for row, each in zip(rows, runs, strict=True):
        test = each["test"]
        figures = [each["valid"]["accuracy"], test["accuracy"]]
        others = [test[name] for name in ("precision_macro", "f1_macro", "f1_weighted", "cross_entropy")]
        assert row[1:5] == ["cel (nodes 8-8)", str(each["seed"]), "2", f"{parameters:,}"]
        assert row[7:9] == [f"{figure:.3f}" for figure in figures]
        assert row[9] == f"{test['accuracy_low']:.3f} to {test['accuracy_high']:.3f}"
        assert row[10:14] == [f"{figure:.3f}" for figure in others]
    accuracies = [each["test"]["accuracy"] for each in runs]
    mean = f"{fmean(accuracies):.3f} +- {stdev(accuracies):.3f}"
    assert f"| 1, 2 | cel (nodes 8-8) | 2 | {mean} |" in text


def test_the_speed_is_the_median_and_the_time_the_sum(copy: Desk) -> None:
    line = {"training_seconds": 50.0, "validation_seconds": 10.0, "fragments_per_second": 0.0}
    speeds = (100.0, 7000.0, 300.0)
    text = "".join(json.dumps({**line, "fragments_per_second": speed}) + "\n" for speed in speeds)
    run = scored_run(copy)
    (run / "timing.jsonl").write_text(text)
    reseal(run)
    assert "| 3.0 | 300 |" in markdown(copy)


def test_each_row_has_the_command_that_finds_its_run(shelf: Desk) -> None:
    commands = re.findall(r"^\d+\. `genrecls (.+)`<br>[0-9a-f]{64}$", markdown(shelf), re.MULTILINE)
    ids = [each["id"] for each in listed(shelf) if each["test"]]
    for command, identity in zip(commands, ids, strict=True):
        words = [str(shelf.corpus) if word == "DIR" else word for word in shlex.split(command)]
        made = shelf.cli.json(*words, *shelf.places)
        assert (made["id"], made["status"]) == (identity, "found")
    default = " --precision "
    assert "--seed" not in commands[0].partition(default)[0]
    assert "--seed 1" in commands[1]


@pytest.mark.parametrize(
    "given",
    [
        ("--optimizer", "sgd", "--momentum", "0.25", "--set", "augment.time_masks=1", "--lr", "1e-5"),
        ("--split", "kfold", "--folds", "4", "--fold", "2", "--split-seed", "3", "--deterministic", "warn"),
        ("--model", "cnn1d", "--mixup", "0", "--precision", "fp32"),
        ("--normalisation", "none", "--set", "features.f_min=20.5", "--set", "training.label_smoothing=0"),
    ],
)
def test_the_command_of_any_settings_gives_their_id(desk: Desk, given: tuple[str, ...]) -> None:
    small = TINY if "--model" not in given else ("--fragment", "1", "--crops-per-clip", "1", "--batch-size", "8")
    made = desk.train(*small, *given, "--epochs", "0", tiny=False)
    run = Run(Path(made["run"]))
    command = train_command(run.config, run.environment)
    words = [str(desk.corpus) if word == "DIR" else word for word in shlex.split(command)[1:]]
    assert desk.cli.json(*words, *desk.places)["status"] == "found"


def test_text_that_looks_like_something_else_is_quoted_for_set() -> None:
    settings = config.read({"dataset": {"name": "3"}}, settings_class)
    command = train_command(settings, {"data_dir": "", "groups": "x.csv"})
    assert "--dataset 3 --groups FILE " in command
    for value in ("3", "'3'", "a b", "true", 'say "x"'):
        assert recipes.parse_assignment(f"a.b={assigned(value)}")[2] == value


def test_version_0_1_0_wrote_no_macro_precision(copy: Desk) -> None:
    before = markdown(copy)
    for path in copy.runs.glob("*/evaluation/metrics.json"):
        path.write_text(remove_precision(path.read_text()))
        reseal(path.parent.parent)
    assert markdown(copy) == before


def test_titles_and_preface(shelf: Desk, tmp_path: Path) -> None:
    preface = tmp_path / "preface.md"
    preface.write_text("# Ours\n\nMeasured with care.\n\n")
    text = markdown(shelf, "--title", "folder=Three tones", "--preface", preface)
    assert text.startswith("# Ours\n\nMeasured with care.\n\nGenerated")
    assert "## Three tones, split random\n\n3 test clips. In commands the data set is called `folder`." in text


@pytest.mark.parametrize(
    ("given", "status", "sentence"),
    [
        (("--title", "folder=X"), 2, "--title and --preface apply only to --markdown"),
        (("--markdown", "--json"), 2, "--json and --markdown are two forms of the result"),
        (("--markdown", "--title", "X"), 2, "--title 'X' is not of the form DATASET=TITLE"),
        (("--markdown", "--title", "gtzan=X"), 2, "--title names gtzan, which no run below"),
        (("--markdown", "--preface", "none.md"), 1, "The preface none.md cannot be read"),
    ],
)
def test_wrong_usage(shelf: Desk, given: tuple[str, ...], status: int, sentence: str) -> None:
    done = shelf.cli("runs", "--runs", shelf.runs, *given)
    assert done.status == status
    assert sentence in done.stderr
    assert done.stdout == ""


def test_machines_and_other_files_of_the_same_name_are_told_apart(copy: Desk) -> None:
    run = scored_run(copy)
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({**environment, "genrecls": "0.0.9"}))
    reseal(run)
    text = markdown(copy)
    assert "- Rows 1: measured with genrecls 0.0.9, " in text
    assert re.search(r"^- Rows 2: measured with genrecls (?!0\.0\.9)", text, re.MULTILINE)
    record = json.loads((run / "run.json").read_text())
    of_others = {"fingerprint": "0123456789ab", "id": run_id(Run(run).config, "0123456789ab", record["cache_key"])}
    (run / "run.json").write_text(json.dumps({**record, **of_others}))
    reseal(run)
    text = markdown(copy)
    assert "## folder (files 01234567), split random" in text
    assert text.count("## folder (files ") == 2
