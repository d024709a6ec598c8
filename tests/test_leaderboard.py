"""`genrecls train --tag`, and the best of the runs: `genrecls runs --top 5 --by accuracy`."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Desk, reseal


@pytest.fixture(scope="module")
def shelf(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Three runs with figures of our own, one of them scored, and one unfinished; not to be written to."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("shelf"))
    for seed, tags, valid in (
        (0, ("old",), (0.5, 0.4, 1.25)),
        (1, ("old", "new"), (0.75, 0.5, 1.5)),
        (2, ("new",), (0.625, 0.875, 1.0)),
    ):
        made = desk.train("--seed", seed, *(word for tag in tags for word in ("--tag", tag)))
        if seed == 0:
            desk.cli.json("evaluate", made["run"], *desk.places)
        path = Path(made["run"], "run.json")
        figures = dict(zip(("accuracy", "f1_macro", "cross_entropy"), valid, strict=True))
        path.write_text(json.dumps({**json.loads(path.read_text()), "valid": figures}))
        reseal(path.parent)
    desk.train("--epochs", "0")
    return desk


def listed(desk: Desk, *given: object) -> list[Any]:
    found: list[Any] = desk.cli.json("runs", "--runs", desk.runs, *given)
    return found


def seeds(found: list[Any]) -> list[int]:
    return [each["seed"] for each in found]


@pytest.mark.parametrize(
    ("by", "order"), [("accuracy", [1, 2, 0]), ("f1_macro", [2, 1, 0]), ("cross_entropy", [2, 0, 1])]
)
def test_the_best_come_first_by_validation(shelf: Desk, by: str, order: list[int]) -> None:
    assert seeds(listed(shelf, "--by", by)) == order
    assert seeds(listed(shelf, "--top", "2", "--by", by)) == order[:2]


def test_top_alone_is_by_accuracy(shelf: Desk) -> None:
    assert seeds(listed(shelf, "--top", "5")) == [1, 2, 0]


def test_the_table_has_the_three_figures_and_says_what_is_left_out(shelf: Desk) -> None:
    done = shelf.cli("runs", "--top", "1", "--runs", shelf.runs)
    head, row = done.stdout.splitlines()
    assert head.split()[-4:] == ["accuracy", "f1_macro", "cross_entropy", "tags"]
    assert row.endswith("0.750     0.500          1.500  new, old")
    assert done.stderr == "1 run has no validation figures and no place in the order.\n"


def test_by_test_only_scored_runs_count(shelf: Desk) -> None:
    assert seeds(listed(shelf, "--by", "accuracy", "--subset", "test")) == [0]
    done = shelf.cli("runs", "--by", "accuracy", "--subset", "test", "--runs", shelf.runs)
    assert "3 runs have no test figures" in done.stderr


@pytest.mark.slow
def test_runs_of_other_splits_are_said_not_to_compare(shelf: Desk, desk: Desk) -> None:
    desk.train("--epochs", "1")
    desk.train("--epochs", "1", "--split-seed", "1", "--tag", "seed")
    for fold in ("0", "1"):
        desk.train("--epochs", "1", "--split", "kfold", "--folds", "3", "--fold", fold, "--tag", "fold")
    words = "These runs are of different data sets or splits, whose figures do not compare."
    assert words in desk.cli("runs", "--top", "2", "--runs", desk.runs).stderr
    assert words in desk.cli("runs", "--top", "2", "--tag", "fold", "--runs", desk.runs).stderr
    assert words not in desk.cli("runs", "--top", "2", "--tag", "seed", "--runs", desk.runs).stderr
    assert words not in shelf.cli("runs", "--top", "3", "--runs", shelf.runs).stderr


@pytest.mark.slow
def test_runs_of_other_files_are_said_not_to_compare(desk: Desk, tmp_path: Path, make_clip: Any) -> None:
    other = shutil.copytree(desk.corpus, tmp_path / "other")
    make_clip(other / "high" / "high00.wav", 2500.0)
    desk.train("--epochs", "1")
    Desk(desk.cli, other, desk.res, desk.runs).train("--epochs", "1")
    assert "of different data sets or splits" in desk.cli("runs", "--top", "2", "--runs", desk.runs).stderr


def test_runs_are_listed_by_their_tags(shelf: Desk) -> None:
    assert seeds(listed(shelf, "--tag", "old")) == [0, 1]
    assert seeds(listed(shelf, "--tag", "old", "--tag", "new")) == [1]
    assert seeds(listed(shelf, "--tag", "new", "--by", "cross_entropy")) == [2, 1]
    assert seeds(listed(shelf, "--tag", " old ")) == [0, 1]  # as `train --tag " old "` calls it
    assert shelf.cli("runs", "--tag", " ", "--runs", shelf.runs).status == 2
    assert listed(shelf, "--tag", "none") == []
    assert "There are no runs with these tags below" in shelf.cli("runs", "--tag", "none", "--runs", shelf.runs).stdout
    assert "1 run is left out" in shelf.cli("runs", "--tag", "old", "--markdown", "--runs", shelf.runs).stderr


def test_a_tag_changes_no_id_and_tags_add_up(desk: Desk) -> None:
    plain = desk.train("--epochs", "1")
    content = {path.name: path.read_bytes() for path in Path(plain["run"]).iterdir() if path.is_file()}
    for tags in (("--tag", "b"), ("--tag", " a ", "--tag", "b")):
        found = desk.train("--epochs", "1", *tags)
        assert (found["id"], found["status"]) == (plain["id"], "found")
    assert listed(desk)[0]["tags"] == ["a", "b"]
    now = {path.name: path.read_bytes() for path in Path(plain["run"]).iterdir() if path.is_file()}
    assert now.pop("tags.txt") == b"b\na\n"
    assert now == content


def test_a_run_that_begins_anew_keeps_its_tags(desk: Desk) -> None:
    stopped = desk.cli(
        *("train", *desk.on_corpus, "--model", "cel", "--nodes", "8-8", "--n-mels", "32", "--fragment", "1"),
        *("--crops-per-clip", "1", "--batch-size", "8", "--epochs", "2", "--threads", "1", "--tag", "kept"),
        *desk.places,
        TEST_SIGNAL="SIGKILL genrecls.training._begin 1",
    )
    assert stopped.status < 0
    assert desk.train()["status"] == "finished"
    assert listed(desk)[0]["tags"] == ["kept"]


@pytest.mark.parametrize("tag", ["", "  ", "a\nb", "x" * 101])
def test_what_is_no_tag(desk: Desk, tag: str) -> None:
    done = desk.cli("train", *desk.on_corpus, "--tag", tag, *desk.places)
    assert done.status == 2
    assert re.search(r"^Error: --tag .* is no tag: give one line of 1 to 100 printable characters", done.stderr)
    assert not desk.runs.exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--top", "3", "--markdown"), "--top and --by do not apply to --markdown"),
        (("--subset", "test"), "--subset applies only to --top and --by"),
        (("--top", "0"), "Invalid value for '--top'"),
        (("--by", "loss"), "Invalid value for '--by'"),
    ],
)
def test_wrong_usage(shelf: Desk, given: tuple[str, ...], sentence: str) -> None:
    done = shelf.cli("runs", "--runs", shelf.runs, *given)
    assert done.status == 2
    assert sentence in done.stderr
