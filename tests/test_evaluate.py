"""Evaluation: the files it writes, figures that can be recomputed from them, and what it refuses."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Desk

from genrecls.digests import text_sha256
from genrecls.run import Run
from genrecls.scores import Answers, answers
from genrecls.selection import FIGURES


def the_run(desk: Desk) -> Path:
    return next(path for path in desk.runs.iterdir())


@pytest.fixture(scope="module")
def scored(trained: Desk) -> Any:
    return trained.cli.json("evaluate", the_run(trained), *trained.places)


def predictions(run: Path, name: str = "predictions.csv") -> list[dict[str, str]]:
    with open(run / "evaluation" / name, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_figures_follow_from_the_predictions(trained: Desk, scored: Any) -> None:
    rows = predictions(the_run(trained))
    assert len(rows) == scored["clips"] == 3
    assert [row["clip"] for row in rows] == sorted(row["clip"] for row in rows)
    genres = scored["genres"]
    shares = np.array([[float(row[genre]) for genre in genres] for row in rows])
    assert shares.sum(axis=1) == pytest.approx(1)
    right = [genres[int(p.argmax())] == row["genre"] for p, row in zip(shares, rows, strict=True)]
    assert [row["predicted"] == row["genre"] for row in rows] == right
    assert scored["clip"]["accuracy"] == np.mean(right)
    true = [float(row[row["genre"]]) for row in rows]
    assert scored["clip"]["cross_entropy"] == pytest.approx(-np.log(true).mean())
    assert scored["clip"]["accuracy_low"] <= scored["clip"]["accuracy"] <= scored["clip"]["accuracy_high"]
    # 1.6 s at a hop of 512 are 69 frames; fragments of 43 start at 0, 21 and 26.
    assert {row["fragments"] for row in rows} == {"3"}
    assert scored["fragments"] == 9


def test_the_files_hold_what_is_printed(trained: Desk, scored: Any) -> None:
    written = json.loads((the_run(trained) / "evaluation" / "metrics.json").read_text())
    assert scored == {"run": str(the_run(trained)), **written}
    for name in ("split", "subset", "clips", "clip", "fragment", "per_genre", "confusion", "predictions_sha256"):
        assert name in written
    for level in ("clip", "fragment"):
        assert set(written[level]) == {
            *("accuracy", "accuracy_low", "accuracy_high", "precision_macro", "f1_macro", "f1_weighted"),
            "cross_entropy",
        }
    assert (written["split"], written["subset"]) == ("random", "test")


def test_a_second_evaluation_has_the_same_bits(trained: Desk, scored: Any) -> None:
    assert trained.cli.json("evaluate", the_run(trained), *trained.places) == scored


def test_the_valid_subset_gives_what_training_saw(trained: Desk) -> None:
    made = trained.cli.json("evaluate", the_run(trained), "--subset", "valid", *trained.places)
    record = json.loads((the_run(trained) / "run.json").read_text())
    assert {name: made["clip"][name] for name in record["valid"]} == record["valid"]
    assert predictions(the_run(trained), "predictions-valid.csv")


def test_predictions_name_no_path(trained: Desk, scored: Any) -> None:
    text = (the_run(trained) / "evaluation" / "predictions.csv").read_text()
    assert str(trained.corpus) not in text


def test_the_text_has_tables(trained: Desk) -> None:
    done = trained.cli("evaluate", the_run(trained), *trained.places)
    assert done.status == 0
    assert "split random, test subset: 3 clips, 9 fragments" in done.stdout
    assert "Confusion (row: true genre, column: predicted)" in done.stdout
    assert done.stderr == ""


def test_a_run_is_found_by_the_beginning_of_its_id(trained: Desk, scored: Any) -> None:
    identity = json.loads((the_run(trained) / "run.json").read_text())["id"]
    assert trained.cli.json("evaluate", identity[:6], *trained.places) == scored


def test_another_corpus_is_refused(trained: Desk, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained.corpus, other)
    next(other.rglob("*.wav")).unlink()
    done = trained.cli("evaluate", the_run(trained), "--data-dir", other, *trained.places)
    assert done.status == 1
    assert "is not the one that" in done.stderr
    assert "--data-dir" in done.stderr


def test_a_corpus_that_moved_is_still_the_same(trained: Desk, scored: Any, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(trained.corpus, moved)
    again = trained.cli.json("evaluate", the_run(trained), "--data-dir", moved, *trained.places)
    assert again == scored


def test_runs_that_are_none(trained: Desk, desk: Desk, tmp_path: Path) -> None:
    for given, sentence in (
        (tmp_path, "is no run directory (it has no run.json and config.toml)"),
        ("ffffffffffff", "There is no run 'ffffffffffff'"),
        (tmp_path / "nowhere", "There is no run"),
    ):
        done = trained.cli("evaluate", given, *trained.places)
        assert done.status == 1
        assert sentence in done.stderr
    made = desk.train("--epochs", "0")
    done = desk.cli("evaluate", made["run"], *desk.places)
    assert done.status == 1
    assert "has only initial weights: train one with more than 0 --epochs." in done.stderr


def test_damaged_weights_are_named(desk: Desk) -> None:
    run = Path(desk.train("--seed", "77")["run"])
    weights = run / "best.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = desk.cli("evaluate", run, *desk.places)
    assert done.status == 1
    assert "best.safetensors is damaged" in done.stderr


def test_answers_are_read_by_position_whatever_genres_are_called(tmp_path: Path) -> None:
    text = "clip,genre,predicted,fragments,clip,genre,predicted\na.wav,genre,clip,2,0.5,0.25,0.25\n"
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "predictions.csv").write_text(text)
    figures = dict.fromkeys(FIGURES, 0)
    row = {"clips": 1, "precision": None, "recall": 0, "f1": 0}
    genres = ["clip", "genre", "predicted"]
    values = {
        "clip": figures,
        "fragment": figures,
        "clips": 1,
        "fragments": 2,
        "split": "random",
        "absent_genres": [],
        "genres": genres,
        "per_genre": dict.fromkeys(genres, row),
        "confusion": [[0] * 3] * 3,
        "predictions_sha256": text_sha256(text),
    }
    (folder / "metrics.json").write_text(json.dumps(values))
    expected = Answers(("a.wav",), ("genre",), ("clip",), tuple(genres), ((0.5, 0.25, 0.25),))
    assert answers(Run(tmp_path)) == expected
