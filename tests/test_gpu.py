"""C1 and C5 on CUDA: the same bits twice, and the draws and first weights of the CPU."""

import json
from pathlib import Path

import pytest
import torch
from conftest import Desk
from test_models import fragments, made
from test_modes import flags_of

from genrecls.models.dropout import begin_step, keyed_uniform
from genrecls.models.registry import entries

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_dropout_draws_the_same_on_both() -> None:
    on_cpu = keyed_uniform((33, 65, 7), 12345, torch.device("cpu"))
    assert torch.equal(on_cpu, keyed_uniform((33, 65, 7), 12345, torch.device("cuda")).cpu())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", list(entries()))
def test_a_model_trains_to_the_same_bits_twice(monkeypatch: pytest.MonkeyPatch, name: str, precision: str) -> None:
    # As seeding.fix_cublas_workspace has it. For this test alone: processes of others inherit the environment.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    def trained() -> dict[str, torch.Tensor]:
        model = made(name).to("cuda").to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.001)
        for step in range(3):
            begin_step(model, 0, step)
            with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
                logits = model(*(x.to("cuda") for x in fragments(name))).float()
            torch.nn.functional.cross_entropy(logits, torch.arange(4, device="cuda")).backward()
            optimiser.step()
            optimiser.zero_grad()
        return {key: value.cpu() for key, value in model.state_dict().items()}

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        once, again = trained(), trained()
    finally:
        torch.use_deterministic_algorithms(before)
    assert all(torch.equal(once[key], again[key]) for key in once)


@pytest.mark.parametrize("name", list(entries()))
def test_a_run_repeats_on_cuda_and_begins_as_on_the_cpu(desk: Desk, tmp_path: Path, name: str) -> None:
    """In error mode, from the command line: augmentation, loss, optimiser and validation are in it, too."""
    given = ("train", *desk.on_corpus, *flags_of(name), "--deterministic", "error", "--res", desk.res)
    runs = [
        desk.cli.json(*given, "--device", device, "--runs", tmp_path / place)
        for device, place in (("cuda", "one"), ("cuda", "two"), ("cpu", "cpu"))
    ]
    one, two, cpu = runs
    for figure in ("id", "weights_sha256", "history_sha256", "initial_weights_sha256"):
        assert one[figure] == two[figure]
    assert one["initial_weights_sha256"] == cpu["initial_weights_sha256"]
    assert one["id"] != cpu["id"]
    draws = [(Path(run["run"]) / "draws.jsonl").read_text() for run in runs]
    assert draws[0] == draws[1] == draws[2]
    scored = [desk.cli.json("evaluate", run["run"], "--res", desk.res)["predictions_sha256"] for run in runs[:2]]
    assert scored[0] == scored[1]


@pytest.mark.parametrize(("mode", "switched"), [("error", True), ("warn", True), ("off", False)])
def test_the_switches_stand_while_cuda_runs(desk: Desk, mode: str, switched: bool) -> None:
    made = desk.train("--device", "cuda", "--deterministic", mode)
    switches = json.loads(Path(made["run"], "environment.json").read_text())["switches"]
    assert switches["deterministic_algorithms"] is switches["cudnn_deterministic"] is switched
    assert switches["cudnn_benchmark"] is switches["matmul_allow_tf32"] is switches["cudnn_allow_tf32"] is False
