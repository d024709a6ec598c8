"""Several processes train one model: as many to the same bits, others by the same draws to nearly the same numbers.

The processes are started as torchrun starts them: by its environment variables, and with its store in another process.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed
from conftest import TINY, Command, CommandLine, Desk, Result

from genrecls.command import train_command
from genrecls.kernels import THREADS
from genrecls.run import Run

MLP = (
    *("--model", "mlp", "--fragment", "1", "--crops-per-clip", "2", "--threads", "1", "--precision", "fp32"),
    *("--schedule", "constant", "--warmup", "0"),
)
"""A model without BatchNorm and dropout, the loss of whose epochs can be compared."""
Started = Callable[..., list[Command]]


@pytest.fixture
def start(cli: CommandLine) -> Started:
    """Starts a command in n processes. others: further words for the processes after the first."""
    stores = []

    def started(n: int, *arguments: object, others: tuple[object, ...] = ()) -> list[Command]:
        store = torch.distributed.TCPStore(
            "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60)
        )
        stores.append(store)
        return [
            cli.start(
                *arguments,
                *(others if rank else ()),
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(n),
                LOCAL_WORLD_SIZE=str(n),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(store.port),
                TORCHELASTIC_USE_AGENT_STORE="True",
                OMP_NUM_THREADS="1",
            )
            for rank in range(n)
        ]

    return started


def ends(commands: list[Command]) -> list[Result]:
    return [command.wait(120) for command in commands]


@pytest.fixture
def train(start: Started, desk: Desk) -> Callable[..., Any]:
    """Trains in n processes; the JSON of the first, after a look at what the others said."""

    def trained(n: int, *arguments: object, runs: Path = desk.runs, corpus: Path = desk.corpus) -> Any:
        where = ("--dataset", "folder", "--data-dir", corpus, "--res", desk.res, "--runs", runs)
        first, *others = ends(start(n, "train", *where, *arguments, "--json"))
        assert first.status == 0, first.stderr
        assert all(other == Result(0, "", "") for other in others)
        return json.loads(first.stdout)

    return trained


def losses(made: dict[str, Any]) -> list[float]:
    lines = Path(made["run"], "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train"]["cross_entropy"] for line in lines]


def draws(made: dict[str, Any]) -> str:
    return Path(made["run"], "draws.jsonl").read_text()


@pytest.mark.slow
def test_as_many_processes_give_the_same_bits(train: Callable[..., Any], tmp_path: Path) -> None:
    given = (*TINY, "--dropout", "0.2", "--batch-size", "12")
    one, two = (train(3, *given, runs=tmp_path / name) for name in "ab")
    names = ("initial.safetensors", "best.safetensors", "metrics.jsonl", "draws.jsonl", "config.toml", "spans.csv")
    for name in names:
        assert Path(one["run"], name).read_bytes() == Path(two["run"], name).read_bytes(), name
    # A second time the run is found, by all of them.
    again = train(3, *given, runs=tmp_path / "a")
    assert again == {**one, "status": "found"}


@pytest.fixture
def uneven(desk: Desk, tmp_path: Path) -> Path:
    """Genres of different sizes, so that class weights differ, and their sums in the parts of a batch."""
    shutil.copytree(desk.corpus, tmp_path / "uneven")
    for i in range(8):
        (tmp_path / "uneven" / "low" / f"low{i:02d}.wav").unlink()
    return tmp_path / "uneven"


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        ("--class-weights", "balanced", "--clip-norm", "0.5", "--l1", "0.001"),
        pytest.param(("--optimizer", "sgd", "--lr", "0.05"), marks=pytest.mark.slow),
    ],
    ids=["weighted", "plain"],
)
def test_other_numbers_of_processes_give_nearly_the_same(
    train: Callable[..., Any], uneven: Path, given: tuple[str, ...]
) -> None:
    one, two, four = (train(n, *MLP, *given, "--batch-size", "8", "--epochs", "1", corpus=uneven) for n in (1, 2, 4))
    assert draws(one) == draws(two) == draws(four)
    assert one["initial_weights_sha256"] == two["initial_weights_sha256"] == four["initial_weights_sha256"]
    assert len({one["id"], two["id"], four["id"]}) == 3
    for other in (two, four):
        assert losses(other)[0] == pytest.approx(losses(one)[0], rel=1e-4)
    # An epoch of one step has the loss of the first step, and then that of the weights that it made.
    steps = [train(n, *MLP, *given, "--batch-size", "40", "--epochs", "2", corpus=uneven) for n in (1, 2, 4)]
    for other in steps[1:]:
        assert losses(other)[0] == pytest.approx(losses(steps[0])[0], rel=1e-6)
        assert losses(other)[1] == pytest.approx(losses(steps[0])[1], rel=1e-4)


@pytest.mark.slow
def test_batch_normalisation_by_parts_moves_the_first_loss_a_little(train: Callable[..., Any]) -> None:
    """The default model and batch, of which each process normalises its part."""
    given = ("--fragment", "1", "--threads", "1", "--precision", "fp32", "--crops-per-clip", "2", "--batch-size", "32")
    one, two, four = (losses(train(n, *given, "--epochs", "1"))[0] for n in (1, 2, 4))
    assert two == pytest.approx(one, rel=5e-3)
    assert four == pytest.approx(one, rel=5e-3)
    assert len({one, two, four}) == 3


@pytest.mark.slow
def test_validation_is_that_of_one_process(train: Callable[..., Any], desk: Desk) -> None:
    """Three processes for seven batches; and for a single one, of which two have none."""
    for overlap in ("0.97", "0.5"):
        made = train(3, *TINY, "--batch-size", "12", "--epochs", "1", "--overlap", overlap)
        scored = desk.cli.json("evaluate", made["run"], "--subset", "valid", "--res", desk.res)
        assert {name: scored["clip"][name] for name in made["valid"]} == made["valid"]
    assert scored["fragments"] <= 16


def test_one_process_of_torchruns_is_one_without_it(train: Callable[..., Any], desk: Desk, tmp_path: Path) -> None:
    made = train(1, *TINY, runs=tmp_path / "other")
    alone = desk.train()
    assert {**made, "run": "", "seconds": 0} == {**alone, "run": "", "seconds": 0}


def test_the_record_says_how_many(train: Callable[..., Any], desk: Desk) -> None:
    made = train(2, *TINY, "--epochs", "0", "--threads", "0")
    assert "ranks = 2\n" in Path(made["run"], "config.toml").read_text()
    environment = json.loads(Path(made["run"], "environment.json").read_text())
    assert environment["ranks"] == 2
    # As many for each process as without torchrun: their number is of the tool and not of the machine.
    assert environment["switches"]["threads"] == THREADS
    run = Run(Path(made["run"]))
    command = train_command(run.config, run.environment)
    assert command.startswith("torchrun --standalone --nproc-per-node=2 -m genrecls train ")
    assert "ranks" not in command
    refused = desk.cli("reproduce", made["run"], *desk.places)
    assert refused.status == 1
    assert "was trained by 2 processes together, and reproduce has one: train it again" in refused.stderr
    # Its own settings are a recipe for as many, and only for as many.
    recipe = ("--recipe", Path(made["run"], "config.toml"))
    assert train(2, *recipe)["status"] == "found"
    refused = desk.cli("train", *recipe, *desk.on_corpus, *desk.places)
    assert refused.status == 2
    assert "compute.ranks is 2, and the processes started together are 1: train by torchrun" in refused.stderr


def test_the_features_are_made_once(train: Callable[..., Any], start: Started, desk: Desk, tmp_path: Path) -> None:
    res = tmp_path / "res"
    commands = start(3, "train", *desk.on_corpus, *TINY, "--batch-size", "12", "--res", res, "--runs", desk.runs)
    first, *others = ends(commands)
    assert first.status == 0, first.stderr
    assert all(other == Result(0, "", "") for other in others)
    assert len(list((res / "cache").iterdir())) == 1


def said(results: list[Result]) -> str:
    """The one sentence of all processes."""
    assert [result.stdout for result in results] == [""] * len(results)
    lines = [line for result in results for line in result.stderr.splitlines()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("n", "given", "sentence"),
    [
        (3, ("--batch-size", "8"), "which 3 processes cannot share evenly with at least 2 crops each"),
        (2, ("--batch-size", "2"), "choose a multiple of 2 from 4."),
        (2, ("--set", "compute.ranks=4"), "compute.ranks is 4, and the processes started together are 2"),
        (2, ("--lr", "-1"), "--lr"),
    ],
)
def test_wrong_usage_is_said_once(start: Started, desk: Desk, n: int, given: tuple[str, ...], sentence: str) -> None:
    results = ends(start(n, "train", *desk.on_corpus, *TINY, *given, *desk.places))
    assert [result.status for result in results] == [2] * n
    assert sentence in said(results)


@pytest.mark.parametrize("command", ["evaluate", "predict", "runs"])
def test_other_commands_are_for_one_process(start: Started, command: str) -> None:
    results = ends(start(2, command))
    assert [result.status for result in results] == [2, 2]
    assert f"torchrun is for `genrecls train` alone: start `genrecls {command}` without it." in said(results)


def test_an_environment_that_says_nonsense(desk: Desk) -> None:
    for rank, size in (("0", "2"), ("2", "1"), ("x", "1")):
        result = desk.cli("train", *desk.on_corpus, *TINY, *desk.places, RANK=rank, WORLD_SIZE=size)
        assert result.status == 2
        assert "unset RANK and WORLD_SIZE" in said([result])


def test_processes_that_would_train_different_runs(start: Started, desk: Desk) -> None:
    commands = start(2, "train", *desk.on_corpus, *TINY, *desk.places, others=("--seed", "1"))
    results = ends(commands)
    assert [result.status for result in results] == [1, 1]
    assert re.search(r"Process 1 would train another run \(\w{12}\) than process 0 \(\w{12}\)", said(results))


def test_one_that_fails_alone_ends_all(start: Started, desk: Desk, tmp_path: Path) -> None:
    commands = start(2, "train", *desk.on_corpus, *TINY, *desk.places, others=("--data-dir", tmp_path / "nowhere"))
    results = ends(commands)
    assert [result.status for result in results] == [1, 2]
    assert "nowhere" in said(results)


@pytest.fixture
def stopped_while(start: Started, desk: Desk) -> Callable[..., list[Result]]:
    """Trains in n processes until there is a state to go on from, and then sends one of them a signal."""

    def stopped(n: int, victim: int, number: int, *arguments: object) -> list[Result]:
        commands = start(n, "train", *desk.on_corpus, *arguments, *desk.places)
        deadline = time.monotonic() + 60
        while not list(desk.runs.glob("*/checkpoints/*.safetensors")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        pid = commands[victim].process.pid
        assert pid is not None
        os.kill(pid, number)
        return ends(commands)

    return stopped


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)], ids=["SIGTERM", "SIGKILL"]
)
def test_a_stopped_training_ends_with_the_same_bits(
    train: Callable[..., Any], stopped_while: Callable[..., list[Result]], tmp_path: Path, number: int
) -> None:
    """The signal reaches the last process alone. Three, whose sums depend on their order as those of two do not."""
    given = (*TINY, "--batch-size", "6", "--dropout", "0.2", "--epochs", "10")
    results = stopped_while(3, 2, number, *given)
    if number == signal.SIGTERM:
        assert [result.status for result in results] == [1] * 3
        assert re.search(
            r"Error: Interrupted: the training of .* stands at epoch \d+, step \d of \d, and", said(results)
        )
    else:
        assert [result.status for result in results] == [1, 1, -signal.SIGKILL]
        assert "Another of the 3 processes" in said(results)
    resumed = train(3, *given)
    whole = train(3, *given, runs=tmp_path / "whole")
    assert (resumed["status"], whole["status"]) == ("resumed", "finished")
    assert {**resumed, "status": "", "run": "", "seconds": 0} == {**whole, "status": "", "run": "", "seconds": 0}
    for name in ("best.safetensors", "metrics.jsonl", "draws.jsonl"):
        assert Path(resumed["run"], name).read_bytes() == Path(whole["run"], name).read_bytes(), name


@pytest.mark.slow
def test_torchrun_itself(desk: Desk) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "genrecls"),
        *map(str, ("train", *desk.on_corpus, *TINY, *desk.places, "--json")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    wrong = subprocess.run([*command, "--batch-size", "9"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.count("Error: batches.batch_size (--batch-size) is 9, which 2 processes cannot share") == 1
