"""Wrong input beside a good corpus: one clear sentence that names it, nothing on stdout, nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, TINY_SE_RESNET, CommandLine, Desk, Result, reseal, write_clip

from genrecls.stamp import STAMP

INTERRUPTED = "Error: Interrupted: what was finished is kept, so run the same command again.\n"
Edit = Callable[[bytes], bytes]


def snapshot(*roots: Path) -> dict[Path, tuple[int, int]]:
    found = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def refused(done: Result, status: int, *words: object) -> None:
    """One sentence that holds `words`; wrong usage that Click finds has its hint of two lines before it."""
    assert done.status == status, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    if lines and lines[0].startswith("Usage: "):
        assert status == 2
        assert lines[1].endswith("--help' for help.")
        assert lines[2] == ""
        lines = lines[3:]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    assert all(str(word) in lines[0] for word in words), lines[0]


@pytest.fixture
def kept(trained: Desk) -> Iterator[Desk]:
    """A desk with a finished run; the test must leave run and corpus as they are."""
    before = snapshot(trained.corpus, trained.runs)
    yield trained
    assert snapshot(trained.corpus, trained.runs) == before


def run_of(desk: Desk) -> Path:
    (run,) = desk.runs.iterdir()
    return run


@dataclass(frozen=True)
class Faulty:
    """Folders that are no corpus for one reason each, and an audio file."""

    root: Path

    def __call__(self, name: str) -> Path:
        return self.root / name


@pytest.fixture(scope="session")
def faulty(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    root = tmp_path_factory.mktemp("faulty")
    (root / "empty").mkdir()
    (root / "file").write_text("in the way")
    shutil.copytree(corpus / "high", root / "one" / "high")
    shutil.copytree(corpus / "high", root / "flat")
    shutil.copytree(corpus, root / "few")
    for path in sorted((root / "few" / "low").iterdir())[2:]:
        path.unlink()
    for name, genres in (("unreadable", ("high", "low", "middle")), ("deaf", ("low",))):
        shutil.copytree(corpus, root / name)
        for path in [path for genre in genres for path in (root / name / genre).iterdir()]:
            path.write_text("this is no audio")
    return Faulty(root)


# Corpora


@pytest.mark.parametrize("command", ["preprocess", "train"])
@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("nowhere", 2, ("--data-dir", "no such folder")),
        ("file", 2, ("--data-dir", "is not a folder")),
        ("empty", 1, ("holds no audio files", "put each genre's files in a folder of its own")),
        ("flat", 1, ("lies directly in it",)),
        ("one", 1, ("holds only the genre 'high', and a classifier needs at least two",)),
        ("unreadable", 1, ("None of the 36 clips", "high/high00.wav", "check the files")),
    ],
)
def test_folders_that_are_no_corpus(
    kept: Desk, faulty: Faulty, tmp_path: Path, command: str, name: str, status: int, words: tuple[str, ...]
) -> None:
    dataset = ("folder",) if command == "preprocess" else ("--dataset", "folder", *TINY, "--runs", tmp_path)
    before = snapshot(faulty.root)
    done = kept.cli(command, *dataset, "--data-dir", faulty(name), "--res", kept.res, "--json")
    refused(done, status, faulty(name), *words)
    assert snapshot(faulty.root) == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("train",), 1, ("GTZAN is not below", "run `genrecls download gtzan`", "--data-dir", "--dataset folder")),
        (("preprocess",), 1, ("GTZAN is not below", "run `genrecls download gtzan`")),
        (("preprocess", "synth"), 1, ("synth corpus is not in", "run `genrecls download synth`")),
        (("train", "--dataset", "fma"), 2, ("Unknown dataset 'fma'", "gtzan, folder, synth")),
        (("preprocess", "fma"), 2, ("Unknown dataset 'fma'", "gtzan, folder, synth")),
        (("download", "fma"), 2, ("Unknown dataset 'fma'", "gtzan, folder, synth")),
        (("train", "--dataset", "fma-small"), 1, ("fma-small is not in res/fma", "run `genrecls download fma-small`")),
        (("download", "folder"), 2, ("nothing to download",)),
        (("train", "--dataset", "folder"), 2, ("needs --data-dir",)),
        (("train", "--dataset", "gtzan", "--data-dir", "/nowhere/at/all"), 2, ("--data-dir /nowhere/at/all",)),
    ],
)
def test_a_corpus_that_is_not_there(
    cli: CommandLine, tmp_path: Path, arguments: tuple[str, ...], status: int, words: tuple[str, ...]
) -> None:
    refused(cli(*arguments, "--res", "res", cwd=tmp_path), status, *words)
    assert list(tmp_path.iterdir()) == []


# Options


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        (("--model", "se-resnext"), 2, ("Unknown model 'se-resnext' (did you mean 'se-resnet'?)",)),
        (("--modle", "se-resnet"), 2, ("--modle", "--model")),
        (("surplus",), 2, ("surplus",)),
        (("--data-dir",), 2, ("--data-dir", "requires an argument")),
        (("--lr", "0"), 2, ("optimiser.lr (--lr) must be above 0 and at most 100, not 0.0",)),
        (("--lr", "nan"), 2, ("optimiser.lr (--lr) must be a finite number",)),
        (("--lr", "fast"), 2, ("--lr", "'fast'")),
        (("--epochs", "-1"), 2, ("training.epochs (--epochs) must be from 0 to", "not -1")),
        (("--seed", str(2**63)), 2, ("training.seed (--seed) must be from 0 to",)),
        (("--batch-size", "1"), 2, ("batches.batch_size (--batch-size) must be from 2 to",)),
        (("--fragment", "0"), 2, ("batches.fragment (--fragment) must be above 0",)),
        (("--fragment", "0.3"), 1, ("too short for se-resnet", "needs 32", "--fragment")),
        (("--threads", "-1"), 2, ("compute.threads (--threads)",)),
        (("--jobs", "-1"), 2, ("--jobs",)),
        (("--width", "3"), 2, ("model.width (--width) must be from 4 to 512, not 3",)),
        (("--depth", "20"), 2, ("model.depth (--depth) must be one of 18, 34, 50",)),
        (("--se-ratio", "5"), 2, ("model.se_ratio (--se-ratio) must be at most 4",)),
        (("--optimizer", "sdg"), 2, ("--optimizer", "'sdg'", "'sgd'")),
        (("--momentum", "0.5"), 2, ("optimiser.momentum (--momentum) applies only where optimiser.name is sgd",)),
        (("--split", "typo"), 2, ("--split", "'typo'", "'grouped'")),
        (("--split", "filtered"), 2, ("The dataset folder has no split 'filtered' (--split)", "random")),
        (("--split", "grouped"), 2, ("'grouped' (--split)", "--groups FILE", "random")),
        (
            ("--exclude-genres", "hgih"),
            2,
            ("--exclude-genres", "no genre 'hgih' (did you mean 'high'?)", "low, middle"),
        ),
        (("--exclude-genres", "low,high"), 2, ("--exclude-genres leaves 'middle'", "at least two: exclude fewer")),
        (("--exclude-genres", "low,high,middle"), 2, ("--exclude-genres leaves no genre of the dataset folder",)),
        (("--fold", "1"), 2, ("split.fold (--fold) applies only where split.policy is kfold",)),
        (("--split", "kfold", "--fold", "7"), 2, ("split.fold (--fold) must be below split.folds (--folds 5)",)),
        (("--split", "kfold", "--folds", "13"), 1, ("'high' has 12 clips", "at least 13", "--folds")),
        (("--device", "cuda"), 1, ("compute.device (--device) is cuda", "choose --device cpu")),
        (("--device", "tpu"), 2, ("--device", "'tpu'")),
        (("--precision", "fp16"), 2, ("--precision", "'fp16'")),
        (("--n-mels", "4"), 2, ("features.n_mels (--n-mels) must be from 8 to 512",)),
        (("--hop-length", "4096"), 2, ("features.hop_length (--hop-length) must be at most features.n_fft",)),
        (("--set", "lr=3"), 2, ("--set 'lr=3'", "section.field=value")),
        (("--set", ""), 2, ("--set ''", "section.field=value")),
        (("--set", "optimiser.lrr=3"), 2, ("Unknown setting optimiser.lrr (did you mean 'lr'?)",)),
        (("--set", "optimizer.lr=3"), 2, ("Unknown section 'optimizer'", "(did you mean 'optimiser'?)")),
        (("--set", "optimiser.lr=[1, 2]"), 2, ("optimiser.lr (--lr) must be a number, not [1, 2]",)),
        (("--set", "augment.time_masks=99"), 2, ("augment.time_masks must be from 0 to 16, not 99",)),
        (("--lr", "0.1", "--set", "optimiser.lr=0.2"), 2, ("--set 'optimiser.lr=0.2'", "given already")),
        (("--lr", "100", "--optimizer", "sgd", "--epochs", "6"), 1, ("no finite numbers after epoch", "--lr")),
    ],
)
def test_options(kept: Desk, given: tuple[str, ...], status: int, words: tuple[str, ...], tmp_path: Path) -> None:
    command = ("train", *kept.on_corpus, *TINY_SE_RESNET, "--res", kept.res, "--runs", tmp_path, "--json", *given)
    refused(kept.cli(*command, CUDA_VISIBLE_DEVICES=""), status, *words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("folder", "--set", "optimiser.lr=1"), ("--set 'optimiser.lr=1' does not apply to preprocess",)),
        (("folder", "--set", "dataset.name=gtzan"), ("--set 'dataset.name=gtzan'", "given already")),
        (("folder", "--fragment", "3"), ("--fragment",)),
        (("synth", "--groups", "artists.csv"), ("--groups does not apply to the dataset synth",)),
    ],
)
def test_options_that_preprocess_does_not_take(kept: Desk, given: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(kept.cli("preprocess", *given, "--data-dir", kept.corpus, "--res", kept.res), 2, *words)


@pytest.mark.parametrize("command", ["download", "preprocess", "train", "evaluate", "predict"])
def test_an_unknown_option_of_every_command(cli: CommandLine, command: str) -> None:
    refused(cli(command, "--no-such-option"), 2, "--no-such-option")


def test_an_unknown_command(cli: CommandLine) -> None:
    refused(cli("trian"), 2, "trian")


def test_mel_bins_without_a_frequency_are_a_remark(kept: Desk, tmp_path: Path) -> None:
    narrow = ("--n-mels", "64", "--n-fft", "128", "--hop-length", "128")
    done = kept.cli("preprocess", "folder", "--data-dir", kept.corpus, "--res", tmp_path, *narrow)
    assert done.status == 0
    assert done.stderr.count("\n") == 1
    assert "of 64 mel bins" in done.stderr
    assert "fewer --n-mels or a larger --n-fft" in done.stderr


# Before hours of work


@pytest.mark.parametrize(
    ("folder", "given", "words"),
    [
        ("few", (), ("The genre 'low' has 2 clips", "'random' needs at least 3")),
        ("", ("--fragment", "0.3"), ("too short for se-resnet", "--fragment")),
        ("", ("--batch-size", "40"), ("An epoch has 30 crops", "--batch-size", "--crops-per-clip")),
        ("", ("--split", "contaminated", "--batch-size", "40"), ("36 training clips", "--batch-size")),
        ("", ("--device", "cuda"), ("--device",)),
    ],
)
def test_what_the_index_shows_is_said_before_a_file_is_read(
    kept: Desk, faulty: Faulty, tmp_path: Path, folder: str, given: tuple[str, ...], words: tuple[str, ...]
) -> None:
    data = faulty(folder) if folder else kept.corpus
    places = ("--res", tmp_path / "res", "--runs", tmp_path / "runs")
    on_data = ("--dataset", "folder", "--data-dir", data)
    done = kept.cli("train", *on_data, *TINY_SE_RESNET, *places, *given, CUDA_VISIBLE_DEVICES="")
    refused(done, 1, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_run_is_noticed_before_features_are_made(
    kept: Desk, faulty: Faulty, tmp_path: Path
) -> None:
    places = ("--res", tmp_path / "res", "--runs", faulty("file") / "runs")
    refused(
        kept.cli("train", *kept.on_corpus, *TINY, *places), 1, faulty("file") / "runs", "in the way", "another place"
    )
    assert not (tmp_path / "res" / "cache").exists()


# Clips that cannot be used


def test_a_genre_without_a_usable_clip(kept: Desk, faulty: Faulty, tmp_path: Path) -> None:
    done = kept.cli(
        "train", "--dataset", "folder", "--data-dir", faulty("deaf"), *TINY, *kept.places[:2], "--runs", tmp_path
    )
    refused(done, 1, "no usable training clip of low", "12 of its 36 clips cannot be used", "`genrecls preprocess`")


def test_a_role_without_a_usable_clip(kept: Desk, tmp_path: Path) -> None:
    spans = [line.split(",") for line in (run_of(kept) / "spans.csv").read_text().splitlines()[1:]]
    torn = tmp_path / "corpus"
    shutil.copytree(kept.corpus, torn)
    for clip, _, _, role in spans:
        if role == "valid":
            (torn / clip).write_bytes(b"")
    places = (*kept.places[:2], "--runs", tmp_path / "runs")
    done = kept.cli("train", "--dataset", "folder", "--data-dir", torn, *TINY, *places)
    refused(done, 1, "no usable clip for 'valid'", "3 of its 36 clips cannot be used", "`genrecls preprocess`")


def test_clips_that_are_left_out_are_a_remark(kept: Desk, tmp_path: Path) -> None:
    torn = tmp_path / "corpus"
    shutil.copytree(kept.corpus, torn)
    spans = (run_of(kept) / "spans.csv").read_text().splitlines()[1:]
    clip = next(line.split(",")[0] for line in spans if line.endswith("train"))
    (torn / clip).write_text("no audio")
    places = (*kept.places[:2], "--runs", tmp_path / "runs")
    done = kept.cli("train", "--dataset", "folder", "--data-dir", torn, *TINY, *places)
    assert done.status == 0
    assert done.stderr.startswith(f"1 of 36 clips cannot be used and are left out, {clip} for one (")
    assert done.stderr.endswith("`genrecls preprocess` lists them.\n")
    assert done.stderr.count("\n") == 1


# Files of settings and groups


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", ("recipe.toml", "it is not UTF-8")),
        (b"[optimiser", ("recipe.toml", "not valid TOML")),
        (b"[optimiser]\nlr = 1\nlr = 2\n", ("recipe.toml", "not valid TOML", "line 3")),
        (b"[optimiser]\nlr = 1\n[optimiser]\n", ("recipe.toml", "not valid TOML", "'optimiser'")),
        (b"[optimizer]\nlr = 1\n", ("recipe.toml", "Unknown section 'optimizer'", "'optimiser'")),
        (b"lr = 1\n", ("recipe.toml", "'lr'")),
        (b"[[optimiser]]\nlr = 1\n", ("recipe.toml", "'optimiser' must be a section")),
        (b"[optimiser]\nlrr = 1\n", ("Unknown setting optimiser.lrr (did you mean 'lr'?)",)),
        (b"[optimiser]\nlr = 'fast'\n", ("optimiser.lr (--lr) must be a number, not 'fast'",)),
        (b"[model]\nname = ['se-resnet']\n", ("model.name (--model) must be a text",)),
        (b"[model]\nwidht = 8\n", ("Unknown setting model.widht of the model se-resnet (did you mean 'width'?)",)),
        (b"[split]\nfold = 1\n", ("split.fold (--fold) applies only",)),
    ],
)
def test_recipes(kept: Desk, tmp_path: Path, content: bytes, words: tuple[str, ...]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_bytes(content)
    refused(kept.cli("train", "--recipe", recipe, *kept.on_corpus, *kept.places, "--json"), 2, *words)


def test_recipes_that_are_no_files(kept: Desk, faulty: Faulty) -> None:
    for path, status, words in (
        (faulty("nowhere"), 1, "cannot be read (No such file or directory)"),
        (faulty("empty"), 2, "cannot be used (it is a folder and no file)"),
    ):
        for command in ("train", "preprocess"):
            refused(kept.cli(command, "--recipe", path, "--res", kept.res), status, f"The recipe {path} {words}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", ("is not a CSV file in UTF-8",)),
        (b"", ("lacks the column clip and group", "clip,group")),
        (b"clip;group\nhigh/high00.wav;a\n", ("lacks the column clip and group",)),
        (b"clip,group\n", ("names no group",)),
        (b"clip,group\nhigh/none.wav,a\n", ("line 2", "no clip 'high/none.wav'")),
        (b"clip,group\nhigh/high00.wav,a\nhigh/high00.wav,b\n", ("line 3", "'a' and 'b'")),
        (b"clip,group\nhigh/high00.wav,Crosby, Stills & Nash\n", ("line 2 has more values", "double quotes")),
        (
            b"clip,group\n" + b"".join(b"high/high%02d.wav,a\n" % i for i in range(12)),
            ("The genre 'high' has 1 group", "'grouped' needs at least 3", "--split random"),
        ),
    ],
)
def test_groups(kept: Desk, tmp_path: Path, content: bytes, words: tuple[str, ...]) -> None:
    file = tmp_path / "groups.csv"
    file.write_bytes(content)
    done = kept.cli("train", *kept.on_corpus, *TINY, *kept.places, "--groups", file)
    refused(done, 1, *words)
    refused(kept.cli("train", *kept.on_corpus, *kept.places, "--groups", tmp_path), 2, f"--groups {tmp_path}")


# Places


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        (("train", "--res", "file"), 2, ("'--res'", "file")),
        (("train", "--runs", "file"), 2, ("'--runs'", "file")),
        (("train", "--res", "file/below"), 1, ("file/below", "in the way", "another place")),
        (("preprocess", "--res", "file"), 2, ("'--res'", "file")),
        (("preprocess", "--res", "file/below"), 1, ("file/below", "in the way", "another place")),
    ],
)
def test_a_file_in_the_way(
    kept: Desk, faulty: Faulty, tmp_path: Path, given: tuple[str, ...], status: int, words: tuple[str, ...]
) -> None:
    command, *places = given
    corpus = kept.on_corpus if command == "train" else ("folder", "--data-dir", kept.corpus)
    spare = {"GENRECLS_RES": str(tmp_path / "res"), "GENRECLS_RUNS": str(tmp_path / "runs")}
    refused(kept.cli(command, *corpus, *places, "--json", cwd=faulty.root, **spare), status, *words)
    assert faulty("file").read_text() == "in the way"


# Runs


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_runs_that_are_none(kept: Desk, faulty: Faulty, command: str) -> None:
    song = (kept.corpus / "high" / "high00.wav",) if command == "predict" else ("--res", kept.res)
    for run, words in (
        (faulty("nowhere"), (f"There is no run '{faulty('nowhere')}'", kept.runs)),
        ("ffff", ("There is no run 'ffff'", kept.runs)),
        (faulty("file"), (f"There is no run '{faulty('file')}'",)),
        (faulty("empty"), (f"{faulty('empty')} is no run directory", "run.json and config.toml", "`genrecls train`")),
        (kept.runs, (f"{kept.runs} is no run directory",)),
    ):
        refused(kept.cli(command, run, *song, "--runs", kept.runs, "--json"), 1, *words)


def test_an_id_that_begins_two_runs(kept: Desk, tmp_path: Path) -> None:
    for end in "01":
        (tmp_path / f"folder-se-resnet-{'a' * 11}{end}").mkdir()
    refused(kept.cli("evaluate", "aaa", "--runs", tmp_path), 1, "'aaa' is the beginning of 2 runs", "more digits")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


def without_last_line(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def swapped(old: bytes, new: bytes) -> Edit:
    def edit(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new)

    return edit


def to(content: bytes) -> Edit:
    return lambda _: content


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("run.json", cut, ("run.json is damaged",)),
        ("run.json", to(b"[]"), ("run.json is damaged (it is no JSON object)",)),
        ("run.json", to(b"\xff\xfe"), ("run.json is damaged",)),
        ("run.json", swapped(b'"genres": [', b'"genres": ["noise",'), ("are not those of the model", "run.json")),
        ("run.json", swapped(b'"finished"', b'"training"'), ("was not trained to an end", "`genrecls train`")),
        ("config.toml", None, ("is no run directory (it has no config.toml)",)),
        ("config.toml", to(b""), ("config.toml is damaged",)),
        ("config.toml", to(b"complete nonsense"), ("config.toml is damaged",)),
        ("config.toml", swapped(b"n_mels = 32", b"n_mels = 3"), ("config.toml is damaged", "features.n_mels")),
        (
            "config.toml",
            swapped(b"n_mels = 32", b"n_mels = 40"),
            ("config.toml is damaged (its settings are those of the run",),
        ),
        (
            "config.toml",
            swapped(b'nodes = "8-8"', b'nodes = "8-9"'),
            ("config.toml is damaged (its settings are those of",),
        ),
        ("best.safetensors", None, ("has no best.safetensors",)),
        ("best.safetensors", cut, ("best.safetensors is damaged",)),
        ("best.safetensors", flipped, ("best.safetensors is damaged (its weights are not those",)),
        ("normalisation.safetensors", None, ("has no normalisation.safetensors",)),
        ("normalisation.safetensors", to(b""), ("normalisation.safetensors is damaged",)),
    ],
)
def test_damaged_runs(kept: Desk, tmp_path: Path, name: str, edit: Edit | None, words: tuple[str, ...]) -> None:
    run = damaged(kept, tmp_path, name, edit)
    for command, *given in (("evaluate", "--res", kept.res), ("predict", kept.corpus / "high" / "high00.wav")):
        refused(kept.cli(command, run, *given, "--json"), 1, run, *words)


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("spans.csv", None, ("has no spans.csv",)),
        ("spans.csv", to(b""), ("spans.csv is damaged (it is empty)",)),
        ("spans.csv", to(b"clip,role\na,test\n"), ("spans.csv is damaged (its columns are not clip, first_frame",)),
        ("spans.csv", swapped(b",test", b",tset"), ("spans.csv is damaged (its roles are not",)),
        ("spans.csv", swapped(b"high/high03", b"high/none03"), ("'high/none03.wav'", "--verify")),
        ("spans.csv", swapped(b",69,", b",70,"), ("has frames of the clip", "--verify")),
        ("environment.json", None, ("has no environment.json",)),
        ("environment.json", to(b"{}"), ("environment.json is damaged (it lacks 'data_dir')",)),
        ("config.toml", swapped(b"hop_length = 512", b"hop_length = 511"), ("its settings are those of the run",)),
    ],
)
def test_damage_that_only_evaluate_meets(
    kept: Desk, tmp_path: Path, name: str, edit: Edit | None, words: tuple[str, ...]
) -> None:
    run = damaged(kept, tmp_path, name, edit)
    caches = sorted((kept.res / "cache").iterdir())
    refused(kept.cli("evaluate", run, "--res", kept.res, "--json"), 1, *words)
    assert not (run / "evaluation").exists()
    assert sorted((kept.res / "cache").iterdir()) == caches


def damaged(desk: Desk, folder: Path, name: str, edit: Edit | None) -> Path:
    run = folder / "run"
    shutil.copytree(run_of(desk), run, ignore=shutil.ignore_patterns("evaluation"))
    content = (run / name).read_bytes()
    (run / name).unlink()
    if edit is not None:
        (run / name).write_bytes(edit(content))
    with suppress(ValueError, TypeError):  # What the seal would not let through is damaged all the same.
        reseal(run)
    return run


def test_a_run_for_another_corpus(kept: Desk, faulty: Faulty) -> None:
    given = ("evaluate", run_of(kept), "--res", kept.res, "--data-dir")
    refused(kept.cli(*given, faulty("few"), "--json"), 1, "is not the one", run_of(kept).name, "--data-dir")
    refused(kept.cli(*given, faulty("nowhere")), 2, f"--data-dir {faulty('nowhere')}", "no such folder")
    assert not (run_of(kept) / "evaluation" / "metrics-train.json").exists()


def test_train_does_not_write_over_a_damaged_run(kept: Desk, tmp_path: Path) -> None:
    run = tmp_path / run_of(kept).name
    shutil.copytree(run_of(kept), run)
    (run / "run.json").write_bytes(cut((run / "run.json").read_bytes()))
    before = snapshot(run)
    given = ("train", *kept.on_corpus, *TINY, "--epochs", "4", "--res", kept.res, "--runs", tmp_path)
    refused(kept.cli(*given), 1, run / "run.json", "is damaged", f"remove the folder {run}")
    assert snapshot(run) == before
    shutil.rmtree(run)
    run.write_text("in the way")
    refused(kept.cli(*given), 1, run, "in the way")


def test_files_that_cannot_be_predicted_are_named_beside_the_results(kept: Desk, faulty: Faulty) -> None:
    songs = (faulty("file"), kept.corpus / "high" / "high00.wav", faulty("nowhere"))
    done = kept.cli("predict", run_of(kept), *songs, "--json")
    assert done.status == 1
    assert [each["status"] for each in done.value["files"]] == ["unreadable", "ok", "unreadable"]
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: 2 of 3 files could not be predicted, {faulty('file')} for one (")
    refused(kept.cli("predict", run_of(kept), faulty("empty")), 1, f"The folder {faulty('empty')} holds no audio")


# Caches


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("cache.json", cut),
        ("cache.json", to(b"[]")),
        ("index.csv", None),
        ("index.csv", cut),
        ("index.csv", without_last_line),
        ("mel.npy", None),
        ("mel.npy", cut),
        ("mel.npy", zeros),
    ],
)
def test_damaged_caches(kept: Desk, tmp_path: Path, name: str, edit: Edit | None) -> None:
    given = ("train", *kept.on_corpus, *TINY, "--runs", tmp_path / "runs")
    key = json.loads((run_of(kept) / "run.json").read_text())["cache_key"]
    cache = tmp_path / "res" / "cache" / f"folder-{key}"
    shutil.copytree(kept.res / "cache" / cache.name, cache)
    content = (cache / name).read_bytes()
    (cache / name).unlink()
    if edit is not None:
        (cache / name).write_bytes(edit(content))
    before = snapshot(cache)
    done = kept.cli(*given, "--res", tmp_path / "res", "--json")
    refused(done, 1, f"The cache {cache} is damaged ({name}", "remove the folder and run the same command again")
    assert snapshot(cache) == before


@pytest.mark.parametrize("edit", [cut, to(b"\xff\xfe"), to(b"a,b\n1,2\n"), to(b"")])
def test_a_damaged_list_of_hashes_is_made_again(kept: Desk, tmp_path: Path, edit: Edit) -> None:
    given = ("train", *kept.on_corpus, *TINY, "--epochs", "0", "--res", tmp_path / "res", "--runs", tmp_path / "runs")
    first = kept.cli.json(*given)
    (kept_hashes,) = (tmp_path / "res" / "manifests").glob("*.csv")
    whole = kept_hashes.read_bytes()
    kept_hashes.write_bytes(edit(whole))
    assert kept.cli.json(*given) == {**first, "status": "found"}
    assert kept_hashes.read_bytes() == whole


# Too little of something


def test_too_little_memory(kept: Desk, tmp_path: Path) -> None:
    huge = ("--crops-per-clip", "1000", "--batch-size", "24000", "--fragment", "600")
    given = ("train", *kept.on_corpus, *TINY, *huge, "--res", kept.res, "--runs", tmp_path)
    done = kept.cli(*given, TEST_MORE_MEMORY=str(2**30))
    refused(done, 1, "not enough memory", "--batch-size", "--fragment")


@dataclass(frozen=True)
class Disk:
    """A file system of a few megabytes in a namespace of its own. inside: its path there. here: the same from here."""

    keeper: int
    inside: Path

    @property
    def here(self) -> Path:
        return Path(f"/proc/{self.keeper}/root{self.inside}")

    def run(self, cli: CommandLine, *given: object, **environment: Any) -> Result:
        """Run a command that sees the disk."""
        return cli(*given, TEST_NAMESPACE_OF=str(self.keeper), **environment)

    def fill(self, free: int) -> None:
        """Leave about `free` bytes."""
        found = os.statvfs(self.here)
        (self.here / "ballast").write_bytes(bytes(found.f_bavail * found.f_frsize - free))

    def empty(self) -> None:
        (self.here / "ballast").unlink()

    def remount(self, option: str) -> None:
        """Change what the file system allows, by an option of mount."""
        enter = ["nsenter", "--target", str(self.keeper), "--user", "--preserve-credentials", "--mount"]
        subprocess.run([*enter, "mount", "-o", f"remount,{option}", self.inside], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    inside = tmp_path / "disk"
    inside.mkdir()
    script = f'mount -t tmpfs -o size=8m none "{inside}" && echo ready && exec cat'
    try:
        keeper = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        pytest.skip(f"this machine has no unshare ({error})")
    assert keeper.stdout is not None
    if keeper.stdout.readline() != "ready\n":
        pytest.skip(f"this machine lets nobody mount a small disk ({keeper.communicate()[1].strip()})")
    yield Disk(keeper.pid, inside)
    keeper.communicate()


def test_preprocess_on_a_full_disk(kept: Desk, disk: Disk) -> None:
    given = ("preprocess", "folder", "--data-dir", kept.corpus, "--res", disk.inside, "--json")
    first = disk.run(kept.cli, *given, "--n-mels", "16", "--n-fft", "512")
    assert first.status == 0, first.stderr
    before = snapshot(disk.here / "cache")
    disk.fill(free=300_000)
    full = disk.run(kept.cli, *given)
    refused(full, 1, "No space left on device", disk.inside / "cache", "make room and run the same command again")
    now = snapshot(disk.here / "cache")
    assert {path: now.get(path) for path in before} == before
    parts = {path: stamp for path, stamp in now.items() if path.suffix == ".json" and path not in before}
    assert parts
    assert not list(disk.here.rglob("*.part"))
    disk.empty()
    done = disk.run(kept.cli, *given)
    assert done.status == 0, done.stderr
    (mine,) = (path for path in (disk.here / "cache").iterdir() if path.name == Path(done.value["cache"]).name)
    whole = kept.cli.json("preprocess", "folder", "--data-dir", kept.corpus, "--res", kept.res)
    assert (mine / "mel.npy").read_bytes() == Path(whole["cache"], "mel.npy").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("free", [100_000, 600_000])
def test_preprocess_of_many_on_a_full_disk(
    cli: CommandLine, many: Path, many_cached: Path, disk: Disk, free: int, jobs: str
) -> None:
    """Neither space takes all clips, and each some of them."""
    given = ("preprocess", "folder", "--data-dir", many, "--res", disk.inside, *MANY_SMALL, "--jobs", jobs, "--json")
    disk.fill(free)
    refused(disk.run(cli, *given), 1, "No space left on device", disk.inside / "cache", "make room")
    assert not list(disk.here.rglob("*.part"))
    (parts,) = disk.here.rglob("parts")
    done = snapshot(parts)
    blocks = [path for path in done if path.suffix == ".json"]
    assert 0 < len(blocks) < 10
    disk.empty()
    mine = Path(disk.run(cli, *given).value["cache"]).name
    assert (disk.here / "cache" / mine / "mel.npy").read_bytes() == (many_cached / "mel.npy").read_bytes()
    assert (disk.here / "cache" / mine / "index.csv").read_bytes() == (many_cached / "index.csv").read_bytes()
    assert sorted(path.name for path in (disk.here / "cache" / mine).iterdir()) == sorted(
        [".lock", STAMP, "cache.json", "index.csv", "mel.npy"]
    )


def test_a_disk_without_room_for_another_name(kept: Desk, disk: Disk) -> None:
    given = ("preprocess", "folder", "--data-dir", kept.corpus, "--res", disk.inside, "--json")
    disk.remount("nr_inodes=12")
    refused(disk.run(kept.cli, *given), 1, "No space left on device", "for a file of any size", "remove files")
    assert not list(disk.here.rglob("*.part"))
    disk.remount("nr_inodes=100")
    assert disk.run(kept.cli, *given).status == 0


def test_a_disk_that_is_only_read(kept: Desk, disk: Disk) -> None:
    given = ("preprocess", "folder", "--data-dir", kept.corpus, "--res", disk.inside, "--json")
    made = disk.run(kept.cli, *given).value["cache"]
    disk.remount("ro")
    assert disk.run(kept.cli, *given).value["cache"] == made
    refused(disk.run(kept.cli, *given, "--n-mels", "16"), 1, "Read-only file system", "choose another place")


@pytest.mark.slow
def test_rendering_on_a_full_disk(cli: CommandLine, disk: Disk) -> None:
    given = ("download", "synth", "--res", disk.inside, "--json")
    refused(disk.run(cli, *given), 1, "could not be written", disk.inside / "synth", "No space left on device")
    assert not list(disk.here.rglob("*.part"))
    files = [
        disk.here / "synth" / name for name in json.loads((disk.here / "synth" / "corpus.json").read_text())["files"]
    ]
    assert len(files) >= 8
    before = snapshot(disk.here / "synth")
    refused(disk.run(cli, *given), 1, "could not be written", "No space left on device")
    now = snapshot(disk.here / "synth")
    assert all(now[path] == before[path] for path in files)


WIDER = (*TINY_SE_RESNET, "--width", "6")
"""A model whose weights take more room than everything else of its run."""


@pytest.mark.parametrize("free", [60_000, 600_000])
def test_train_on_a_full_disk(kept: Desk, disk: Disk, free: int) -> None:
    """The smaller space does not take the first weights, the larger takes these and not the best ones."""
    given = ("train", *kept.on_corpus, *WIDER, "--res", kept.res, "--runs", disk.inside, "--json")
    first = disk.run(kept.cli, *given, "--epochs", "1")
    assert first.status == 0, first.stderr
    before = snapshot(disk.here)
    disk.fill(free)
    full = disk.run(kept.cli, *given)
    name = "initial.safetensors" if free < 100_000 else "best.safetensors"
    refused(full, 1, "No space left on device", disk.inside, name, "make room and run the same command again")
    now = snapshot(disk.here)
    assert {path: now.get(path) for path in before} == before
    assert not list(disk.here.rglob("*.part"))
    disk.empty()
    done = disk.run(kept.cli, *given)
    assert done.status == 0, done.stderr
    assert done.value["status"] == "finished"


def test_going_on_on_a_full_disk(kept: Desk, disk: Disk, tmp_path: Path) -> None:
    given = ("train", *kept.on_corpus, *WIDER, "--epochs", "3", "--res", kept.res, "--json", "--runs")
    whole = kept.cli.json(*given, tmp_path / "runs")
    stopped = disk.run(kept.cli, *given, disk.inside, TEST_SIGNAL="SIGTERM genrecls.trainer.begin_step 5")
    assert stopped.status == 1
    (run,) = (path for path in disk.here.iterdir() if path.is_dir())
    states = snapshot(run / "checkpoints")
    assert len(states) == 2
    disk.fill(free=60_000)
    full = disk.run(kept.cli, *given, disk.inside, "--quiet")
    refused(full, 1, "No space left on device", disk.inside, "make room and run the same command again")
    assert snapshot(run / "checkpoints") == states
    disk.empty()
    done = disk.run(kept.cli, *given, disk.inside)
    assert done.status == 0, done.stderr
    for name, value in (("status", "resumed"), *((n, whole[n]) for n in ("weights_sha256", "history_sha256"))):
        assert done.value[name] == value


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_results_that_cannot_be_written(unbuffered: str) -> None:
    command = [sys.executable, "-m", "genrecls", "--help"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    refused(Result(done.returncode, "", done.stderr), 1, "No space left on device")


# Ctrl-C and SIGTERM


def members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def interrupt_when(
    ready: Callable[[int], object],
    cli: CommandLine,
    *given: object,
    number: signal.Signals = signal.SIGINT,
    to: Callable[[int, int], None] = os.killpg,
) -> Result:
    """Start a command in a group of its own, and send what a terminal sends at Ctrl-C: to all processes of it.

    ready: whether the moment has come, asked with the group's number. number, to: another signal, to one alone.
    """
    command = cli.start(*given, TEST_OWN_GROUP="1")
    group = command.process.pid
    assert group is not None
    deadline = time.monotonic() + 120
    while not ready(group):
        assert time.monotonic() < deadline
        assert command.process.is_alive(), command.wait()
        time.sleep(0.01)
    to(group, number)
    done = command.wait()
    while members(group):
        assert time.monotonic() < deadline, "processes are left behind"
        time.sleep(0.05)
    return done


MANY_SMALL = ("--n-mels", "32")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More clips than are done without workers."""
    root = tmp_path_factory.mktemp("many")
    for i in range(80):
        write_clip(root / "ab"[i % 2] / f"{i}.wav", 200.0 + i, seconds=3)
    return root


@pytest.fixture(scope="module")
def many_cached(cli: CommandLine, many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their cache as one process makes it."""
    given = ("--data-dir", many, "--res", tmp_path_factory.mktemp("res"), *MANY_SMALL, "--jobs", "1")
    return Path(cli.json("preprocess", "folder", *given)["cache"])


WORKERS_START = "workers start"


@pytest.mark.parametrize(
    ("number", "to", "moment"),
    [
        pytest.param(signal.SIGINT, os.killpg, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, os.killpg, WORKERS_START, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, os.killpg, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, os.killpg, WORKERS_START, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, os.killpg, 5, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, os.kill, WORKERS_START, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, os.kill, 3, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, os.kill, WORKERS_START, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, os.kill, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, os.kill, 6, marks=pytest.mark.slow),
    ],
)
def test_a_signal_in_preprocess_with_workers(
    cli: CommandLine,
    many: Path,
    many_cached: Path,
    tmp_path: Path,
    number: signal.Signals,
    to: Callable[[int, int], None],
    moment: str | int,
) -> None:
    """moment: blocks that are done. To the group, or to the command alone, whose workers must not outlive it."""
    given = ("preprocess", "folder", "--data-dir", many, "--res", tmp_path, *MANY_SMALL, "--jobs", "2", "--json")

    def ready(group: int) -> bool:
        if isinstance(moment, str):  # There are the command, what keeps its semaphores, and the fork server.
            return len(members(group)) >= 3
        return len(list(tmp_path.glob("cache/*/parts/*.json"))) >= moment

    stopped = interrupt_when(ready, cli, *given, number=number, to=to)
    (cache,) = (tmp_path / "cache").iterdir()
    if number == signal.SIGKILL:
        assert stopped.status == -number
    else:
        assert stopped == Result(1, "", INTERRUPTED)
        assert not list(cache.rglob("*.part"))
    assert not (cache / "cache.json").exists()
    if not isinstance(moment, str):
        assert len(list(cache.glob("parts/*.json"))) >= moment
        assert cli(*given).status == 0
        assert {path.name for path in cache.iterdir()} == {".lock", STAMP, "cache.json", "index.csv", "mel.npy"}
        for path in (each for each in many_cached.iterdir() if each.name != STAMP):
            assert (cache / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_sentence(cli: CommandLine, many: Path, tmp_path: Path) -> None:
    """Its fellow ends with it, though it waits for work with SIGTERM blocked."""
    killed: list[int] = []

    def kill(group: int, number: int) -> None:
        killed.append(max(members(group)))  # The last to start is a worker.
        os.kill(killed[0], number)

    given = ("preprocess", "folder", "--data-dir", many, "--res", tmp_path, "--jobs", "2")
    done = interrupt_when(
        lambda _: list(tmp_path.glob("cache/*/parts/*.json")), cli, *given, number=signal.SIGKILL, to=kill
    )
    refused(done, 1, "A worker process of preprocess died", "--jobs 1")


def test_ctrl_c_in_train(kept: Desk, tmp_path: Path) -> None:
    given = ("train", *kept.on_corpus, *TINY, "--epochs", "3000", "--res", kept.res, "--runs", tmp_path, "--json")
    stopped = interrupt_when(lambda _: list(tmp_path.glob("*/best.safetensors")), kept.cli, *given)
    assert (stopped.status, stopped.stdout) == (1, "")
    assert stopped.stderr.startswith("Error: Interrupted: the training of ")
    assert stopped.stderr.count("\n") == 1


# --debug


def test_debug_shows_where_it_failed(kept: Desk, faulty: Faulty) -> None:
    done = kept.cli("preprocess", "folder", "--data-dir", faulty("nowhere"), "--res", kept.res, "--debug")
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.splitlines()[-1] == f"Error: --data-dir {faulty('nowhere')}: no such folder."
