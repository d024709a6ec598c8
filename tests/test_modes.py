"""`--deterministic error|warn|off`: what each does to an operation without a deterministic kernel, and to the switches.

Every model of the registry trains in error mode, twice to the same bits, and none uses an operation that CUDA has no
deterministic kernel for: that is read off the operations of a step, so that it holds without a GPU.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FORKS, SHORT, TINY, CommandLine, Desk, Result
from small import SMALL
from test_models import fragments, made, settings
from torch.utils._python_dispatch import TorchDispatchMode

import drift
from genrecls import seeding
from genrecls.config import ModelSettings
from genrecls.models import registry
from genrecls.models.building import Model
from genrecls.models.dropout import begin_step
from genrecls.models.registry import entries
from genrecls.models.shapes import InputShape

WITHOUT_KERNEL = {
    *(f"adaptive_{kind}_pool{n}d_backward" for kind in ("avg", "max") for n in (2, 3)),
    *("avg_pool3d_backward", "max_pool3d_with_indices_backward"),
    *(f"fractional_max_pool{n}d_backward" for n in (2, 3)),
    *(f"max_unpool{n}d" for n in (2, 3)),
    *(f"upsample_{kind}_backward" for kind in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
    *(f"reflection_pad{n}d_backward" for n in (1, 2, 3)),
    *("nll_loss2d_forward", "nll_loss2d_backward", "ctc_loss_backward", "embedding_bag", "put", "histc", "bincount"),
    *("median", "nanmedian", "kthvalue", "grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    *("cumsum", "scatter_reduce"),
}
"""Operations that raise on CUDA in error mode, by their names inside PyTorch.

From the documentation of torch.use_deterministic_algorithms in PyTorch 2.11, beside quantised ones.
"""


class Operations(TorchDispatchMode):
    """Records the names of all operations, those of the backward pass included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.names.add(function.overloadpacket.__name__.strip("_"))
        return function(*args, **(kwargs or {}))


def operations_of_a_step(model: torch.nn.Module, batch: list[torch.Tensor]) -> set[str]:
    begin_step(model.train(), 0, 0)
    with Operations() as seen:
        logits = model(*batch)
        genre = torch.arange(len(logits)) % logits.shape[1]
        weight = torch.ones(logits.shape[1])
        torch.nn.functional.cross_entropy(
            logits, genre, weight=weight, label_smoothing=0.1, reduction="none"
        ).mean().backward()
    assert {"log_softmax", "nll_loss_backward"} <= seen.names
    return seen.names


@pytest.mark.parametrize("name", list(entries()))
def test_no_step_needs_a_kernel_that_cuda_lacks(name: str) -> None:
    assert not operations_of_a_step(made(name), fragments(name)) & WITHOUT_KERNEL


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 3), "adaptive_avg_pool2d_backward"),
        (lambda x: torch.nn.functional.adaptive_max_pool2d(x, 3), "adaptive_max_pool2d_backward"),
        (lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"), "upsample_bilinear2d_backward"),
        (lambda x: torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), "reflection_pad2d_backward"),
        (lambda x: x.cumsum(dim=3), "cumsum"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_step_that_needs_one_is_seen(change: Callable[[torch.Tensor], torch.Tensor], found: str) -> None:
    class Changed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(1, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return change(self.convolution(x)).mean(dim=(2, 3))

    assert operations_of_a_step(Changed(), [torch.ones(2, 1, 8, 8)]) & WITHOUT_KERNEL == {found}


def flags_of(name: str) -> list[str]:
    """A short run of a small version of the model, with dropout where it has any and everything else at its default."""
    taken = settings(name).inputs
    left_out = () if "feature" in taken else ("--n-mels", "32")
    given = ["--model", name, *(word for word in SHORT if word not in left_out)]
    for field, value in SMALL[name].items():
        given += ["--set", f"model.{field}={value}"]
    return given


@pytest.mark.slow
@pytest.mark.parametrize("name", list(entries()))
def test_two_processes_train_to_one_hash_in_error_mode(desk: Desk, tmp_path: Path, name: str) -> None:
    """Weights, history and predictions."""
    given = ("train", *desk.on_corpus, *flags_of(name), "--deterministic", "error", "--res", desk.res)
    hashes = []
    for place in ("one", "two"):
        trained = desk.cli.json(*given, "--runs", tmp_path / place)
        scored = desk.cli.json("evaluate", trained["run"], "--res", desk.res)
        assert trained["status"] == "finished"
        names = ("id", "initial_weights_sha256", "weights_sha256", "history_sha256")
        hashes.append(({key: trained[key] for key in names}, scored["predictions_sha256"]))
    assert hashes[0] == hashes[1]
    found, _ = hashes[0]
    assert found["weights_sha256"] != found["initial_weights_sha256"]


@dataclass(frozen=True)
class UnpoolingSettings(ModelSettings):
    pass


class Unpooling(Model):
    """A model with an operation that has no deterministic kernel, not even on the CPU."""

    def __init__(self, settings: UnpoolingSettings, shape: InputShape) -> None:
        super().__init__()
        self.head = torch.nn.Linear(shape.bins, shape.genres)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        pooled, place = torch.nn.functional.max_pool2d(feature, 2, return_indices=True)
        again = torch.nn.functional.max_unpool2d(pooled, place, (2, 2), output_size=feature.shape[2:])
        return self.head(again.mean(dim=(1, 3)))


def _with_unpooling(arguments: list[str], output: str) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    registry.register("unpooling", network=f"{__name__}:Unpooling", origin="a test", reported="none")(UnpoolingSettings)
    from genrecls.cli.main import main

    main(arguments)


def train_unpooling(desk: Desk, output: Path, *arguments: str) -> Result:
    output.mkdir()
    words = [
        "train",
        *desk.on_corpus,
        "--model",
        "unpooling",
        *flags_of("mlp")[2:],
        "--epochs",
        1,
        *arguments,
        *desk.places,
    ]
    process = FORKS.Process(target=_with_unpooling, args=([str(word) for word in words], str(output)))
    process.start()
    process.join()
    assert process.exitcode is not None
    return Result(process.exitcode, (output / "stdout").read_text(), (output / "stderr").read_text())


def test_what_each_mode_does_to_an_operation_without_a_kernel(desk: Desk, tmp_path: Path) -> None:
    refused = train_unpooling(desk, tmp_path / "error")
    assert (refused.status, refused.stdout) == (1, "")
    assert refused.stderr == (
        "Error: The operation max_unpooling2d_forward_out of PyTorch has no deterministic kernel here: mend that, or "
        "accept it with --deterministic warn.\n"
    )
    warned = train_unpooling(desk, tmp_path / "warn", "--deterministic", "warn", "--quiet")
    assert warned.status == 0
    assert warned.stderr == (
        "Warning: the operation max_unpooling2d_forward_out of PyTorch has no deterministic kernel here, so that a "
        "repetition may come out otherwise.\n"
    )
    silent = train_unpooling(desk, tmp_path / "off", "--deterministic", "off", "--quiet")
    assert (silent.status, silent.stderr) == (0, "")


def test_modes_are_recorded_and_told_apart(desk: Desk) -> None:
    made = {mode: desk.train("--epochs", "0", "--deterministic", mode) for mode in ("error", "warn", "off")}
    assert len({run["id"] for run in made.values()}) == 3
    assert len({run["initial_weights_sha256"] for run in made.values()}) == 1


def _one_mode_after_the_other(modes: list[str], answer: Any) -> None:
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    answer.put([seeding.make_deterministic(mode, 1) for mode in modes])


def test_off_switches_back_what_an_earlier_mode_set() -> None:
    answer = FORKS.SimpleQueue()
    process = FORKS.Process(target=_one_mode_after_the_other, args=(["off", "error", "off", "warn", "off"], answer))
    process.start()
    fresh, error, off, warn, again = answer.get()
    process.join()
    names = ("deterministic_algorithms", "deterministic_warn_only", "cudnn_deterministic", "cudnn_benchmark")
    assert [error[name] for name in names] == [True, False, True, False]
    assert [warn[name] for name in names] == [True, True, True, False]
    for found in (fresh, off, again):
        assert [found[name] for name in names] == [False, False, False, False]
        # Not an accident of the mode: TF32 is another precision.
        assert not found["matmul_allow_tf32"]
        assert not found["cudnn_allow_tf32"]


@pytest.mark.parametrize(
    ("mode", "chosen", "recorded"),
    [
        ("error", "", ":4096:8"),
        ("warn", "", ":4096:8"),
        ("off", "", None),
        ("error", ":16:8", ":16:8"),
        ("off", ":16:8", ":16:8"),
    ],
)
def test_the_workspace_of_cublas_in_a_run(
    cli: CommandLine, desk: Desk, mode: str, chosen: str, recorded: str | None
) -> None:
    given = ("train", *desk.on_corpus, *TINY, "--epochs", "0", "--deterministic", mode)
    environment = {"CUBLAS_WORKSPACE_CONFIG": chosen} if chosen else {}
    done = cli(*given, *desk.places, "--json", cwd=None, **environment)
    switches = json.loads(Path(done.value["run"], "environment.json").read_text())["switches"]
    assert switches["cublas_workspace_config"] == recorded
    assert switches["deterministic_algorithms"] is (mode != "off")


def test_what_pytorch_says_is_put_in_words() -> None:
    assert seeding.unrepeatable("weights only load failed") is None
    said = (
        "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
        "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it uses "
        "CuBLAS and you have CUDA >= 10.2. To enable deterministic behavior in this case, you must set an environment "
        "variable before running your PyTorch application: CUBLAS_WORKSPACE_CONFIG=:4096:8 or :16:8."
    )
    assert str(seeding.unrepeatable(said)).startswith("cuBLAS repeats itself only with CUBLAS_WORKSPACE_CONFIG")


def run_of(accuracy: float, *losses: float, predicted: str) -> drift.Seen:
    return drift.Seen(losses, accuracy, dict(zip("abcd", predicted, strict=True)))


def test_drift_is_taken_beside_the_same_seed_and_beside_another() -> None:
    seen = {
        drift.BASE: [run_of(0.5, 2.0, 1.0, predicted="xxyy"), run_of(0.75, 2.2, 1.5, predicted="xyyy")],
        "bf16": [run_of(0.5, 2.0, 1.01, predicted="xxyy"), run_of(1.0, 2.2, 1.53, predicted="yyyy")],
    }
    pairs = drift.pairs_of(seen)
    assert [pair.drift(1) for pair in pairs["bf16"]] == pytest.approx([0.01, 0.02])
    assert [pair.gain for pair in pairs["bf16"]] == [0.0, 0.25]
    assert [pair.changed for pair in pairs["bf16"]] == [0.0, 0.25]
    assert [pair.gain for pair in pairs[drift.ANOTHER_SEED]] == [0.25, -0.25]
    rows = [line for line in drift.tables(seen).splitlines() if line]
    assert "| bf16 | 0.0e+00 | 2.0e-02 |" in rows
    assert "| bf16 | 0.750 | +0.125 | +0.000 | +0.250 | 12.5% |" in rows
    assert "| another seed | 1.0e-01 | 5.0e-01 |" in rows
    alone = {name: runs[:1] for name, runs in seen.items()}
    assert set(drift.pairs_of(alone)) == {"bf16"}
    assert drift.shown_epochs(1) == [0]
    assert drift.shown_epochs(10) == [0, 1, 3, 7, 9]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["drift", "mode_cost"])
def test_the_scripts_say_what_they_do(script: str) -> None:
    done = subprocess.run(
        [sys.executable, drift.EXPERIMENTS / f"{script}.py", "--help"], capture_output=True, text=True, check=True
    )
    assert f"Example: python experiments/{script}.py" in done.stdout
    assert "--res" in done.stdout
