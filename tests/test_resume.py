"""C2: stopped anywhere, by any signal, and started again by the same command, training ends with the same bits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import TINY, CommandLine, Desk, Result

from genrecls.checkpoint import Checkpoints, State
from genrecls.config import OptimiserSettings
from genrecls.optimisation import moments, optimiser, restore_moments, update

LONGER = ("--epochs", "6", "--crops-per-clip", "3", "--dropout", "0.3")
"""Eleven steps in each of six epochs."""
WAYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "sgd": ("--optimizer", "sgd", "--lr", "0.02", "--schedule", "plateau", "--plateau-patience", "0", "--l1", "1e-5"),
    "adam": (
        *("--optimizer", "adam", "--schedule", "step-plateau", "--step-epochs", "2", "--patience", "2"),
        *("--plateau-threshold", "1", "--minimum-change", "0.05", "--clip-norm", "1"),
        *("--kernels", "native", "--precision", "bf16"),
    ),
    "varied": (
        *("--schedule", "one-cycle", "--precision", "fp32", "--variants", "1", "--speed-probability", "1"),
        *("--mixup", "0.4", "--time-shift-probability", "0.5", "--class-weights", "balanced"),
    ),
}
"""Every optimiser, schedules that look back, early stopping, both precisions and kernels, augmentation."""


def signals(at: str, also: str = "") -> dict[str, Any]:
    """Variables that let a command send itself signals, and none of them where there is nothing to send."""
    return {name: text for name, text in (("TEST_SIGNAL", at), ("TEST_SIGNAL_ALSO", also)) if text}


class Scene:
    """One command, and what it comes to undisturbed."""

    def __init__(self, desk: Desk, given: tuple[str, ...]) -> None:
        self._desk, self._given = desk, given
        self._runs = desk.runs / "disturbed"
        whole = desk.cli.json(*self._command(desk.runs / "whole"))
        self.wanted = self._bits(whole)

    def train(self, at: str = "", also: str = "") -> Result:
        """Train in the disturbed place. at, also: signal, function and count, as `TEST_SIGNAL`."""
        return self._desk.cli(*self._command(self._runs), "--json", **signals(at, also))

    def end(self) -> tuple[Any, ...]:
        """Train to the end; status and bits."""
        made = json.loads(self.train().stdout)
        return made["status"], self._bits(made)

    @property
    def run(self) -> Path:
        (found,) = self._runs.iterdir()
        return found

    @property
    def states(self) -> list[str]:
        return sorted(path.stem for path in self.run.glob("checkpoints/*.safetensors"))

    def forget(self) -> None:
        """As if nothing had been trained in the disturbed place."""
        shutil.rmtree(self._runs, ignore_errors=True)

    def evaluate(self, at: str = "") -> Result:
        """Score the disturbed run."""
        places = ("--res", self._desk.res, "--data-dir", self._desk.corpus)
        return self._desk.cli("evaluate", self.run, *places, "--json", **signals(at))

    def _command(self, runs: Path) -> tuple[object, ...]:
        given = (*TINY, *LONGER, *self._given)
        return ("train", *self._desk.on_corpus, *given, "--res", self._desk.res, "--runs", runs)

    def _bits(self, made: dict[str, Any]) -> tuple[Any, ...]:
        run = Path(made["run"])
        scored = self._desk.cli.json("evaluate", run, "--res", self._desk.res, "--data-dir", self._desk.corpus)
        assert not (run / "checkpoints").exists()
        assert not list(run.glob(".*.part"))
        files = tuple((run / f"{name}.jsonl").read_bytes() for name in ("metrics", "draws"))
        timed = [json.loads(line)["epoch"] for line in (run / "timing.jsonl").read_text().splitlines()]
        weights = (run / "best.safetensors").read_bytes()
        hashes = (made["weights_sha256"], made["history_sha256"], scored["predictions_sha256"])
        return (*hashes, made["best_epoch"], made["epochs"], made["valid"], timed, weights, *files)


@pytest.fixture(scope="module", params=list(WAYS))
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, trained: Desk, native_cli: CommandLine
) -> Scene:
    folder, way = tmp_path_factory.mktemp("resume"), WAYS[request.param]
    cli = native_cli if "native" in way else trained.cli
    return Scene(Desk(cli, trained.corpus, trained.res, folder), way)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, trained: Desk) -> Scene:
    return Scene(Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("usual")), WAYS["default"])


@pytest.fixture
def fresh(usual: Scene) -> Scene:
    usual.forget()
    return usual


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_lets_the_step_end_and_says_how_to_go_on(fresh: Scene, name: str) -> None:
    done = fresh.train(f"{name} genrecls.trainer.begin_step 16")
    assert done.status == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"Error: Interrupted: the training of {fresh.run} stands at epoch 1, step 5 of 11, and the same command goes "
        "on from there.\n"
    )
    assert fresh.states[-1] == "000001-000005"
    again = fresh.train("SIGTERM genrecls.inference.fragment_logits 2")
    assert "stands at epoch 2, step 11 of 11, and" in again.stderr
    assert fresh.states[-1] == "000002-000011"
    assert fresh.end() == ("resumed", fresh.wanted)


def test_a_second_signal_leaves_at_once_and_loses_nothing_that_was_kept(fresh: Scene) -> None:
    assert fresh.train("SIGTERM genrecls.trainer.begin_step 16").status == 1
    # The first is noticed in a step, the second comes while the state is being written.
    twice = fresh.train("SIGTERM genrecls.trainer.begin_step 3", "SIGTERM os.fsync 20")
    assert twice.status == 1
    assert fresh.end() == ("resumed", fresh.wanted)


def test_what_goes_on_says_so_and_remembers_where_it_has_been(fresh: Scene) -> None:
    fresh.train("SIGKILL genrecls.trainer.begin_step 30")
    begun = json.loads((fresh.run / "environment.json").read_text())
    assert json.loads((fresh.run / "run.json").read_text())["status"] == "training"
    done = fresh.train()
    assert f"Going on with {fresh.run} at epoch " in done.stderr
    environment = json.loads((fresh.run / "environment.json").read_text())
    assert len(environment.pop("resumed")) == 1
    assert environment == begun


def test_without_a_state_training_begins_anew(fresh: Scene) -> None:
    fresh.train("SIGKILL genrecls.trainer.begin_step 7")
    assert fresh.states == []
    assert fresh.end() == ("finished", fresh.wanted)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "bit": content[:-9] + b"\x01" + content[-8:]}[how])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "bit"])
def test_a_torn_state_is_skipped_for_the_one_before_it(fresh: Scene, how: str) -> None:
    fresh.train("SIGTERM genrecls.trainer.begin_step 50")
    newest = fresh.states[-1]
    assert len(fresh.states) == 2
    damage(fresh.run / "checkpoints" / f"{newest}.safetensors", how)
    again = fresh.train("SIGTERM genrecls.trainer.begin_step 1")
    older = fresh.states
    assert f"Going on with {fresh.run} at epoch {int(older[0][:6])}, " in again.stderr
    assert older[0] < newest
    assert fresh.end() == ("resumed", fresh.wanted)


@pytest.mark.slow
def test_where_no_state_is_whole_or_the_history_another_training_begins_anew(fresh: Scene) -> None:
    def stopped() -> None:
        fresh.forget()
        fresh.train("SIGTERM genrecls.trainer.begin_step 50")

    remark = f"What was trained of {fresh._runs}"
    stopped()
    for name in fresh.states:
        damage(fresh.run / "checkpoints" / f"{name}.safetensors", "cut")
    assert remark in fresh.train("SIGTERM genrecls.trainer.begin_step 50").stderr
    history = fresh.run / "metrics.jsonl"
    history.write_text(history.read_text().replace("0", "1", 1))
    done = fresh.train()
    assert remark in done.stderr
    made = json.loads(done.stdout)
    assert (made["status"], fresh._bits(made)) == ("finished", fresh.wanted)


def test_states_of_other_features_are_not_gone_on_with(tmp_path: Path) -> None:
    state = State(2, 3, {"a": torch.arange(3)}, {"costs": [0.1, 1 / 3]})
    Checkpoints(tmp_path, "one").write(state)
    (found,) = Checkpoints(tmp_path, "one").states()
    assert (found.epoch, found.step, found.values) == (2, 3, state.values)
    assert torch.equal(found.tensors["a"], state.tensors["a"])
    assert not list(Checkpoints(tmp_path, "other").states())


def test_two_states_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "one")
    for epoch, step in ((0, 9), (1, 0), (1, 4), (10, 0)):
        checkpoints.write(State(epoch, step, {"a": torch.zeros(1)}, {}))
    assert [(state.epoch, state.step) for state in checkpoints.states()] == [(10, 0), (1, 4)]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_restored_optimiser_steps_as_the_first_would(name: str) -> None:
    settings = OptimiserSettings(name=name)

    def made() -> torch.nn.Conv2d:
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.nn.init.constant_(layer.weight, 0.5)
        torch.nn.init.constant_(layer.bias, 0.1)
        return layer

    def step(layer: torch.nn.Conv2d, moved: torch.optim.Optimizer, number: int) -> None:
        x = torch.linspace(-1, 1, 2 * 3 * 25).reshape(2, 3, 5, 5) * number
        update(moved, settings, layer(x).square().sum(), 0.01)

    whole, halved = made(), made()
    one, other = optimiser(whole, settings), optimiser(halved, settings)
    for number in (1, 2):
        step(whole, one, number)
        step(halved, other, number)
    again = made()
    again.load_state_dict(halved.state_dict())
    third = optimiser(again, settings)
    kept = safetensors.torch.load(safetensors.torch.save({k: v.contiguous() for k, v in moments(other).items()}))
    restore_moments(third, kept)
    assert len(kept) == {"sgd": 2, "adam": 6, "adamw": 6}[name]
    step(whole, one, 3)
    step(again, third, 3)
    assert all(map(torch.equal, whole.parameters(), again.parameters()))
    strides, others = ({name: each.stride() for name, each in moments(each).items()} for each in (one, third))
    assert strides == others


KILLS = (
    *(f"genrecls.trainer.begin_step {count}" for count in (2, 13, 28)),
    "os.replace 1 checkpoints",
    "os.replace 1 best.safetensors",
)
"""For each of the four ways: in a step, before the first state takes its name, before the first best weights do."""


@pytest.mark.slow
@pytest.mark.parametrize("at", KILLS)
def test_killed_at_any_moment_it_ends_with_the_same_bits(scene: Scene, at: str) -> None:
    scene.forget()
    first = scene.train(f"SIGKILL {at}")
    assert first.status == -9
    # And once more where it then stands.
    assert scene.train("SIGKILL genrecls.trainer.begin_step 14").status == -9
    status, bits = scene.end()
    assert status == "resumed"
    assert bits == scene.wanted


@pytest.mark.slow
@pytest.mark.parametrize("at", KILLS)
def test_ended_by_sigterm_at_any_moment_it_ends_with_the_same_bits(scene: Scene, at: str) -> None:
    scene.forget()
    first = scene.train(f"SIGTERM {at}")
    assert first.status == 1
    assert first.stderr.startswith("Error: Interrupted: the training of ") or "Interrupted" in first.stderr
    assert scene.end() == ("resumed", scene.wanted)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["os.fsync 1", "os.replace 1", "os.fsync 3", "os.replace 2"])
def test_killed_while_it_is_scored_it_is_scored_the_same(usual: Scene, at: str) -> None:
    if not (usual._runs.exists() and (usual.run / "evaluation").exists()):
        usual.forget()
        usual.end()
    whole = usual.evaluate()
    shutil.rmtree(usual.run / "evaluation")
    assert usual.evaluate(f"SIGKILL {at}").status == -9
    assert usual.evaluate().stdout == whole.stdout
