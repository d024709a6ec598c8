"""`make bench`: its references compute what genrecls computes, its rows are judged, and what cannot be is said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CommandLine

import bench
import corpus as bench_corpus
import measures
import npy_clips
import rows as bench_rows
import scaling
import torchaudio_loop
from architecture import built, plain
from genrecls.models.registry import entries
from measures import MeasureError, Speed
from rows import QUICK, Row


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bench_corpus.make(tmp_path_factory.mktemp("bench") / "clips", 40, 4)


@pytest.fixture
def in_forks(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in processes that start quickly."""
    monkeypatch.setattr(measures, "genrecls", lambda *given: cli.json(*given))


def row(ours: float, reference: float, floor: float | None = 2.0, **more: Any) -> Row:
    return Row("work", "reference", floor, "clips/s", lambda: Speed(ours, 1), lambda: Speed(reference, 1), **more)


def test_genrecls_computes_what_the_torchaudio_loop_does(
    cli: CommandLine, clips: Path, tmp_path: Path, in_forks: None
) -> None:
    speed = torchaudio_loop.main(str(clips), str(tmp_path / "features.npy"), torch.get_num_threads())
    assert speed["amount"] == 40
    made = cli.json("preprocess", "folder", "--data-dir", clips, "--res", tmp_path, "--jobs", "1")
    mel = np.load(Path(made["cache"], "mel.npy")).astype(np.float32)
    np.testing.assert_allclose(mel, np.load(tmp_path / "features.npy"), rtol=0, atol=0.01)
    assert measures.preprocess(clips, 1).amount == 40


def test_a_training_row_has_two_sides(clips: Path, tmp_path: Path, in_forks: None) -> None:
    """Whole batches of two crops of each training clip, over all epochs but the first."""
    model: dict[str, object] = {"name": "mlp2", "input": "feature", "nodes": "8"}
    given = ("--model", "mlp2", "--set", "model.input=feature", "--set", "model.nodes=8", "--fragment", "3")
    more = ("--split", "random", "--batch-size", "8", "--crops-per-clip", "2", "--epochs", "3", "--threads", "1")
    ours = measures.train(clips, *given, *more)
    theirs = npy_clips.main(str(clips), str(tmp_path), model, 0.8, 2, 8, 0, torch.get_num_threads())
    assert theirs["amount"] == 2 * 2 * 32
    assert ours.amount == pytest.approx(2 * 2 * 20)


@pytest.mark.slow
def test_a_fixed_batch_is_trained_on_with_dropout() -> None:
    model = {"name": "mlp2", "input": "feature", "nodes": "8"}
    speed = measures.reference("fixed_batch", model=model, batch_size=4, threads=1, precision="fp32", steps=2)
    assert speed.amount == 8


def test_the_plain_network_is_the_same_one() -> None:
    settings: dict[str, object] = {"name": "se-resnet", "width": 4, "se_ratio": 4}
    features = torch.rand(2, 1, 32, 40)
    ours, theirs = built(settings, features[0]).eval(), plain(settings, features[0]).eval()
    theirs.load_state_dict(ours.state_dict())
    assert torch.allclose(ours(features), theirs(features), atol=1e-5)


def test_every_row_of_a_full_bench_is_there(clips: Path) -> None:
    made = bench_rows.rows(clips, clips, replace(QUICK, recipes=True))
    floors = sorted(each.floor for each in made if each.floor is not None)
    assert floors == sorted([3.5, 2.5, 2.5, 1.2, 5.0, 0.95, 10.0, 1.0, 1 / 1.5, 0.8])
    steps = {each.work.split()[4].rstrip(",") for each in made if each.work.startswith("a training step of ")}
    assert steps == entries().keys()
    gpu = [each for each in made if "GPU" in each.work]
    assert [bool(each.skipped) for each in gpu] == [not torch.cuda.is_available()]


def test_a_ratio_is_of_medians_and_held_against_its_floor() -> None:
    rates = iter([1.0, 100.0, 3.0])
    result = bench.measured(replace(row(0, 1), ours=lambda: Speed(next(rates), 1)), 3)
    assert (result["ratio"], result["unit"]) == (3.0, "clips/s")
    assert set(result) == {"work", "reference", "ratio", "floor", "unit", "figures"}
    skipped = bench.measured(row(0, 1, skipped="no CUDA device"), 3)
    results = [result, bench.measured(row(1, 1), 1), bench.measured(row(1, 9, None), 1), skipped]
    assert bench.below(results) == [results[1]]
    table = bench.table(results, bench.machine())
    assert table.count("(**under**)") == 1
    assert "skipped: no CUDA device" in table


def costs_of(*seconds: float, memory: tuple[float, ...] = (300, 300, 300, 300)) -> list[scaling.Cost]:
    sizes = (100, 1000, 3000, 10000)
    made = [scaling.Cost("preprocess", *each, 1) for each in zip(sizes, seconds, memory, strict=True)]
    made += [scaling.Cost(name, clips, 3.0, 500, 1) for name in ("train", "evaluate") for clips in sizes]
    return made


def test_what_grows_faster_than_the_corpus_is_said() -> None:
    assert scaling.too_fast(costs_of(4, 5, 19, 68)) == []
    assert scaling.too_fast(costs_of(4, 10, 24, 90)) == [
        "seconds of preprocess grow faster than the corpus: 9.43 instead of 7 for a thousand clips more."
    ]
    (memory,) = scaling.too_fast(costs_of(4, 10, 24, 60, memory=(300, 320, 335, 380)))
    assert memory == "preprocess takes 300 MiB for 100 clips and 380 for 10000."
    assert "| preprocess | 10,000 | 80.0 | 8.00 | 300 | 1.0 |" in scaling.table(costs_of(4, 10, 24, 80))


@pytest.mark.slow
def test_costs_are_measured(tmp_path: Path) -> None:
    costs = scaling.measured(tmp_path, (40, 60), 1)
    assert [(cost.command, cost.clips) for cost in costs] == [
        (name, clips) for clips in (40, 60) for name in scaling.COMMANDS
    ]
    frames = 5 * 22050 // 512 + 1
    assert all(cost.memory > 100 and cost.seconds > 0 for cost in costs)
    mel = [cost.disk * 2**20 for cost in costs if cost.command == "preprocess"]
    assert mel[1] - mel[0] > 20 * frames * 128 * 2


@pytest.mark.parametrize(("ours", "status"), [(3.0, 0), (1.0, 1)])
def test_the_exit_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours: float, status: int) -> None:
    monkeypatch.setattr(bench, "FULL", replace(QUICK, trained=10, clips=10))
    monkeypatch.setattr(scaling, "measured", lambda *_: [])
    monkeypatch.setattr(bench, "rows", lambda *_: [row(ours, 1)])
    assert bench.main(["--out", str(tmp_path), "--repeats", "1"]) == status
    assert bench.main(["--out", str(tmp_path), "--quick"]) == 0
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["rows"][0]["figures"]["medians"] == {"genrecls": ours, "reference": 1.0}
    assert kept["machine"]["cores"] >= 1
    assert "| work | reference |" in (tmp_path / "RESULTS.md").read_text()


def test_what_is_measured_again_takes_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "FULL", replace(QUICK, trained=10, clips=10))
    monkeypatch.setattr(scaling, "measured", lambda *_: costs_of(4, 10, 24, 80))

    def measure(first: float, *only: str) -> list[float]:
        made = [replace(row(first, 1), work=f"work {i}") for i in range(3)]
        monkeypatch.setattr(bench, "rows", lambda *_: made)
        bench.main(["--out", str(tmp_path), "--repeats", "1", *only])
        kept = json.loads((tmp_path / "results.json").read_text())
        assert len(kept["scaling"]) == 12
        assert (tmp_path / "RESULTS.md").read_text().count("| work ") == 4
        return [each["ratio"] for each in kept["rows"]]

    assert measure(3.0) == [3.0, 3.0, 3.0]
    assert measure(5.0, "--only", "work 1") == [3.0, 5.0, 3.0]


def test_figures_of_another_machine_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(
        json.dumps({"machine": {"cores": 9, "load": 1}, "rows": [{}], "scaling": []})
    )
    assert bench.merged([], [], {"cores": 2, "load": 1}, tmp_path / "results.json") == ([], [])


def test_a_side_that_fails_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Speed:
        raise MeasureError("it broke")

    monkeypatch.setattr(bench, "rows", lambda *_: [replace(row(1, 1), ours=fail), row(3, 1)])
    monkeypatch.setattr(scaling, "measured", lambda *_: [])
    assert bench.main(["--out", str(tmp_path), "--quick"]) == 1
    assert "it broke" in capsys.readouterr().err
    assert [each["ratio"] for each in json.loads((tmp_path / "results.json").read_text())["rows"]] == [None, 3.0]
