"""What the pages on adding a model and a corpus show is done as they say, in a copy of the package, and used."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

ROOT = Path(__file__).parent.parent


def follow(page: str, copy: Path) -> None:
    """Do what the page shows: its one file, and its one line in the file named above it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    file, code = re.search(r"`(genrecls/\S+\.py)`[^\n]*:\n\n```python\n(.*?)```", text, re.DOTALL).groups()  # type: ignore[union-attr]
    table, line = re.search(r"In `_MODULES` of `(\S+)`:\n\n```text\n(.*?)```", text, re.DOTALL).groups()  # type: ignore[union-attr]
    shutil.copytree(ROOT / "genrecls", copy / "genrecls", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / file).write_text(code, encoding="utf-8")
    known = (copy / table).read_text(encoding="utf-8")
    begun = re.search(r"^_MODULES = [({]\n", known, re.MULTILINE)
    assert begun, f"{table} has no table that a line can be added to"
    (copy / table).write_text(known[: begun.end()] + line + known[begun.end() :], encoding="utf-8")


def run(copy: Path, *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "genrecls", *map(str, arguments), "--json"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_model_of_the_page_trains(tmp_path: Path, corpus: Path) -> None:
    follow("adding-a-model.md", tmp_path)
    given = [word for word in TINY if word not in ("--width", "--se-ratio", "4", "--epochs", "2")]
    given += ["--lr", "0.02", "--epochs", "30", "--equaliser", "0"]
    where = ("--dataset", "folder", "--data-dir", corpus, "--res", tmp_path / "res", "--runs", tmp_path / "runs")
    made = run(tmp_path, "train", "--model", "mean-bins", "--hidden", 8, *given, *where)
    assert made["valid"]["accuracy"] > 0.6
    assert "mean-bins" in made["run"]
    assert {row["name"]: row["parameters"] for row in run(tmp_path, "models")}["mean-bins"] == 128 * 10 + 10


@pytest.mark.slow
def test_the_corpus_of_the_page_trains(tmp_path: Path, make_clip: Callable[..., None]) -> None:
    follow("adding-a-corpus.md", tmp_path)
    for artist in range(5):
        for genre, pitch in (("high", 3000.0), ("low", 150.0)):
            for title in range(2):
                make_clip(tmp_path / "music" / f"artist{artist}{genre} - {genre} - {title}.wav", pitch)
    where = ("--data-dir", tmp_path / "music", "--res", tmp_path / "res", "--runs", tmp_path / "runs")
    made = run(tmp_path, "train", "--dataset", "tagged", *TINY, *where)
    assert run(tmp_path, "evaluate", made["run"], "--res", tmp_path / "res")["split"] == "grouped"
