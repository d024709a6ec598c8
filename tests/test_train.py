"""Training, seen from the command line: bits that repeat, a record that is complete, runs that are found again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
from conftest import TINY, TINY_SE_RESNET, Desk, reopen

FILES = (
    "initial.safetensors",
    "best.safetensors",
    "normalisation.safetensors",
    "metrics.jsonl",
    "draws.jsonl",
    "config.toml",
)


def test_two_processes_give_the_same_bits(desk: Desk, tmp_path: Path) -> None:
    first = desk.train("--dropout", "0.2")
    second = Desk(desk.cli, desk.corpus, tmp_path / "other-res", tmp_path / "other-runs").train("--dropout", "0.2")
    assert first["status"] == second["status"] == "finished"
    for name in ("id", "weights_sha256", "initial_weights_sha256", "history_sha256", "valid", "best_epoch"):
        assert first[name] == second[name]
    for name in FILES:
        assert Path(first["run"], name).read_bytes() == Path(second["run"], name).read_bytes(), name


def test_another_seed_gives_other_bits(desk: Desk) -> None:
    first, second = desk.train("--seed", "1"), desk.train("--seed", "2")
    for name in ("id", "weights_sha256", "initial_weights_sha256", "history_sha256"):
        assert first[name] != second[name]


def test_the_same_command_finds_its_run(desk: Desk) -> None:
    first = desk.train()
    before = {path: path.stat().st_mtime_ns for path in Path(first["run"]).rglob("*")}
    second = desk.train()
    assert second["status"] == "found"
    assert {**first, "status": "found"} == second
    assert {path: path.stat().st_mtime_ns for path in Path(first["run"]).rglob("*")} == before


def test_the_run_directory_says_everything(desk: Desk) -> None:
    made = desk.train("--seed", "5")
    run = Path(made["run"])
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["training"]["seed"] == 5
    assert config["model"] == {"name": "cel", "input": "feature", "nodes": "8-8", "dense_layers": 2, "dropout": 0.3}
    assert config["split"]["policy"] == "random"
    assert config["compute"]["device"] in ("cpu", "cuda")
    assert config["compute"]["precision"] == ("fp32" if config["compute"]["device"] == "cpu" else "bf16")
    assert config["compute"]["kernels"] == "portable"
    assert config["compute"]["threads"] == 1
    environment = json.loads((run / "environment.json").read_text())
    assert environment["argv"][:2] == ["genrecls", "train"]
    assert environment["packages"]["torch"].startswith("2.")
    assert environment["switches"]["deterministic_algorithms"] is True
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [0, 1]
    assert history[made["best_epoch"]]["valid"]["clip"] == made["valid"]
    assert made["valid"]["cross_entropy"] == min(line["valid"]["clip"]["cross_entropy"] for line in history)
    assert len((run / "timing.jsonl").read_text().splitlines()) == 2
    assert str(desk.corpus) not in (run / "config.toml").read_text()


def test_config_toml_is_a_recipe_of_the_same_run(desk: Desk) -> None:
    first = desk.train("--optimizer", "sgd", "--lr", "0.01", "--split-seed", "3")
    again = desk.cli.json(
        "train", "--recipe", Path(first["run"], "config.toml"), "--data-dir", desk.corpus, *desk.places
    )
    assert (again["id"], again["status"]) == (first["id"], "found")


def test_flag_recipe_and_set_are_one_setting(desk: Desk, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[optimiser]\nlr = 0.007\n[training]\nepochs = 0\n")
    tiny = [word for word in TINY if word not in ("--epochs", "2")]
    ids = {
        desk.cli.json("train", *desk.on_corpus, *tiny, *desk.places, *given)["id"]
        for given in (
            ("--recipe", recipe),
            ("--lr", "0.007", "--epochs", "0"),
            ("--set", "optimiser.lr=0.007", "--set", "training.epochs=0"),
            ("--recipe", recipe, "--lr", "7e-3"),
        )
    }
    assert len(ids) == 1


def test_zero_epochs_write_the_initial_weights_without_features(desk: Desk, tmp_path: Path) -> None:
    alone = Desk(desk.cli, desk.corpus, tmp_path / "res", tmp_path / "runs")
    made = alone.train("--epochs", "0")
    assert made["valid"] is None
    assert made["best_epoch"] is None
    assert made["initial_weights_sha256"] == desk.train()["initial_weights_sha256"]
    assert not (tmp_path / "res" / "cache").exists()
    assert not Path(made["run"], "best.safetensors").exists()


def test_plain_and_excited_share_all_other_initial_weights(desk: Desk) -> None:
    desk = replace(desk, tiny=TINY_SE_RESNET)
    excited, plain, wide = (
        safetensors.numpy.load_file(Path(desk.train("--epochs", "0", *given)["run"], "initial.safetensors"))
        for given in ((), ("--se-ratio", "0"), ("--se-ratio", "2"))
    )
    assert {name for name in excited if ".se." not in name} == set(plain)
    assert all((excited[name] == plain[name]).all() for name in plain)
    squeezed = [name for name in excited if ".se." in name]
    assert squeezed
    assert all(excited[name].shape != wide[name].shape for name in squeezed)


@pytest.mark.slow
def test_no_draw_comes_from_a_global_generator(desk: Desk) -> None:
    before = (
        # Some libraries draw when they are imported.
        "import random, numpy, torch, sys, sklearn.metrics, scipy.special, genrecls.training;"
        "state = lambda: (random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().tolist());"
        "seen = state();"
        "from genrecls.cli.main import status;"
        "code = status(sys.argv[1:]);"
        "sys.exit(code if state() == seen else 77)"
    )
    command = ["train", *desk.on_corpus, *TINY, "--dropout", "0.5", "--mixup", "0.4", *desk.places]
    done = subprocess.run(
        [sys.executable, "-c", before, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("model", ["se-resnet", "mlp2"])
def test_a_corpus_beyond_the_memory_gives_the_same_bits(desk: Desk, model: str, tmp_path: Path) -> None:
    small = ("--nodes", "16", "--input", "wave") if model == "mlp2" else ("--n-mels", "32", "--width", "4")
    own = ("--se-ratio", "4", "--variants", "1", "--speed-probability", "1") if model == "se-resnet" else ()
    given = (*desk.on_corpus, "--model", model, *small, *own, "--fragment", "1", "--batch-size", "8", "--epochs", "2")
    whole, streamed = (
        desk.cli.json("train", *given, "--threads", "1", "--res", desk.res, "--runs", tmp_path / name, *limit)
        for name, limit in (("whole", ()), ("streamed", ("--resident-limit", "0.01")))
    )
    for name in ("id", "weights_sha256", "history_sha256", "valid"):
        assert whole[name] == streamed[name]


def test_a_run_under_way_is_refused_to_a_second_process(desk: Desk) -> None:
    given = ("train", *desk.on_corpus, *TINY, "--epochs", "4000", *desk.places)
    first = desk.cli.start(*given, "--quiet")
    try:
        deadline = time.monotonic() + 60
        while not list(desk.runs.glob("*/metrics.jsonl")):
            assert time.monotonic() < deadline
            assert first.process.is_alive()
            time.sleep(0.05)
        second = desk.cli(*given)
    finally:
        assert first.process.pid is not None
        os.kill(first.process.pid, signal.SIGINT)
    stopped = first.wait()
    assert second.status == 1
    assert "Another process is training the run" in second.stderr
    assert stopped.status == 1
    assert stopped.stderr.startswith("Error: Interrupted: the training of ")


def test_an_interrupted_run_can_be_trained_again(desk: Desk) -> None:
    whole = desk.train("--seed", "9")
    run = Path(whole["run"])
    reopen(run)
    (run / "metrics.jsonl").write_text('{"epoch": 0}\n')
    again = desk.train("--seed", "9")
    assert again["status"] == "finished"
    assert again["history_sha256"] == whole["history_sha256"]
    assert again["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "optimizer", ["adamw", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sgd", "adam"))]
)
def test_it_learns(desk: Desk, native_desk: Desk, precision: str, optimizer: str) -> None:
    lr = {"sgd": "0.05"}.get(optimizer, "0.005")
    desk, native_desk = (replace(each, tiny=TINY_SE_RESNET) for each in (desk, native_desk))
    given = ("--optimizer", optimizer, "--lr", lr, "--epochs", "12", "--precision", precision, "--equaliser", "0")
    made = native_desk.train(*given, "--kernels", "native") if precision == "bf16" else desk.train(*given)
    assert made["valid"]["accuracy"] > 0.6


def history(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(made["run"], "metrics.jsonl").read_text().splitlines()]


STEADY = ("--schedule", "constant", "--warmup", "0", "--lr", "0.002")


def test_early_stopping_ends_where_it_would_have_stood(desk: Desk) -> None:
    """No epoch after the first lowers the cost by 1000."""
    impatient = ("--patience", "2", "--minimum-change", "1000")
    stopped = desk.train(*STEADY, "--epochs", "9", *impatient)
    short = desk.train(*STEADY, "--epochs", "3")
    assert (stopped["stopped_early"], stopped["epochs"]) == (True, 3)
    assert (short["stopped_early"], short["epochs"]) == (False, 3)
    # The best of all three epochs is kept, whatever counts as improvement for the patience.
    for name in ("best_epoch", "valid", "weights_sha256", "history_sha256"):
        assert stopped[name] == short[name]
    assert json.loads(Path(stopped["run"], "run.json").read_text())["epochs"] == 3
    again = desk.cli("train", *desk.on_corpus, *TINY, *STEADY, "--epochs", "9", *impatient, *desk.places)
    assert "Stopped early, because 2 epochs in a row brought no improvement." in again.stdout
    assert "Found: " in again.stdout


def test_early_stopping_follows_the_chosen_figure(desk: Desk) -> None:
    """The accuracy of so few validation clips cannot rise twelve times."""
    made = desk.train("--epochs", "12", "--patience", "1", "--select", "accuracy")
    accuracies = [line["valid"]["clip"]["accuracy"] for line in history(made)]
    assert made["stopped_early"]
    assert accuracies[:-1] == sorted(set(accuracies))
    assert accuracies[-1] <= accuracies[-2] == made["valid"]["accuracy"]
    assert made["best_epoch"] == len(accuracies) - 2


def test_a_plateau_lowers_the_rate(desk: Desk) -> None:
    given = ("--schedule", "plateau", "--warmup", "0", "--lr", "0.004", "--plateau-threshold", "1000")
    made = desk.train(*given, "--plateau-patience", "1", "--plateau-factor", "0.25", "--epochs", "6")
    assert [line["lr"] for line in history(made)] == [0.004, 0.004, 0.004, 0.001, 0.001, 0.00025]


@pytest.mark.slow
@pytest.mark.parametrize(
    "given", [("--l1", "0.1"), ("--l2", "0.1"), ("--clip-norm", "0.01"), ("--initialisation", "kaiming")], ids=str
)
def test_each_option_moves_the_weights(desk: Desk, given: tuple[str, ...]) -> None:
    usual, other = desk.train(*STEADY, "--optimizer", "sgd"), desk.train(*STEADY, "--optimizer", "sgd", *given)
    assert other["weights_sha256"] != usual["weights_sha256"]


def test_the_recorded_loss_is_without_the_penalty(desk: Desk) -> None:
    """With one step an epoch, the first is before any change of the weights."""
    one = ("--batch-size", "24", *STEADY)
    usual, penalised = history(desk.train(*one)), history(desk.train(*one, "--l1", "0.5", "--l2", "0.5"))
    assert usual[0]["train"] == penalised[0]["train"]
    assert usual[1]["train"] != penalised[1]["train"]


def test_class_weights_count_the_training_clips(desk: Desk, tmp_path: Path) -> None:
    """On genres of equal size they are all 1 and move nothing but rounding; on others they move the loss."""
    uneven = tmp_path / "uneven"
    shutil.copytree(desk.corpus, uneven)
    for i in range(6):
        (uneven / "low" / f"low{i:02d}.wav").unlink()
    losses = {
        (corpus, weights): history(
            desk.cli.json(
                *("train", "--dataset", "folder", "--data-dir", corpus, *TINY, "--batch-size", "16", *STEADY),
                *("--precision", "fp32", "--epochs", "1", "--class-weights", weights, *desk.places),
            )
        )[0]["train"]["cross_entropy"]
        for corpus in (desk.corpus, uneven)
        for weights in ("none", "balanced")
    }
    assert losses[desk.corpus, "balanced"] == pytest.approx(losses[desk.corpus, "none"], rel=1e-6)
    assert abs(losses[uneven, "balanced"] - losses[uneven, "none"]) > 1e-3


@pytest.mark.slow
def test_resolved_precision_is_recorded_and_part_of_the_id(native_desk: Desk) -> None:
    native = ("--kernels", "native", "--epochs", "0")
    ids = {native_desk.train(*native, "--precision", precision)["id"] for precision in ("fp32", "bf16")}
    assert len(ids) == 2
    assert native_desk.train(*native)["id"] in ids


def test_the_corpus_files_are_part_of_the_id_and_their_place_is_not(desk: Desk, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(desk.corpus, moved)
    first = desk.train("--epochs", "0")
    same = desk.cli.json("train", "--dataset", "folder", "--data-dir", moved, *TINY, "--epochs", "0", *desk.places)
    assert same["id"] == first["id"]
    victim = next(moved.rglob("*.wav"))
    victim.write_bytes(victim.read_bytes()[:-2] + b"\x01\x00")
    other = desk.cli.json("train", "--dataset", "folder", "--data-dir", moved, *TINY, "--epochs", "0", *desk.places)
    assert other["id"] != first["id"]
