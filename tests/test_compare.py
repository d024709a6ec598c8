"""`genrecls compare`: what two runs share is read from their records, and a planted difference is found there."""

import json
import math
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import PITCHES, TINY_SE_RESNET, CommandLine, Desk, reseal

from genrecls import weights
from genrecls.compare import SIGNIFICANCE, compare, conclusion, difference, mcnemar
from genrecls.digests import text_sha256
from genrecls.errors import GenreclsError
from genrecls.isolation import Moved
from genrecls.metrics import bootstrap_interval
from genrecls.run import Run
from genrecls.seeding import hash64
from genrecls.weights import weights_sha256

Runs = Callable[..., Path]


@pytest.fixture(scope="module")
def desk(cli: CommandLine, corpus: Path, shared_res: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Runs of this module; not to be written to."""
    return Desk(cli, corpus, shared_res, tmp_path_factory.mktemp("compared"), TINY_SE_RESNET)


@pytest.fixture(scope="module")
def run_of(desk: Desk) -> Runs:
    """Trains the tiny run with some flags; asked for the same again, the run is found."""

    def run(*arguments: object) -> Path:
        usual = () if "--dropout" in arguments else ("--dropout", "0.1")
        return Path(desk.train(*usual, *arguments)["run"])

    return cache(run)


@pytest.fixture(scope="module")
def scored(desk: Desk, run_of: Runs) -> tuple[Path, Path]:
    """Two scored runs that differ by their SE ratio."""
    pair = run_of(), run_of("--se-ratio", "2")
    for path in pair:
        desk.cli.json("evaluate", path, *desk.places)
    return pair


@pytest.fixture
def planted(scored: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the two scored runs, to be written to."""
    copies = tmp_path / "a", tmp_path / "b"
    for source, copy in zip(scored, copies, strict=True):
        shutil.copytree(source, copy)
    return copies


def compared(a: Path, b: Path) -> dict[str, Any]:
    """With a seal that fits what was planted."""
    for run in (a, b):
        with suppress(ValueError, TypeError):
            reseal(run)
    return compare(Run(a), Run(b)).values()


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def replace_initial(run: Path, tensors: dict[str, torch.Tensor]) -> None:
    """With the record to match."""
    (run / "initial.safetensors").write_bytes(safetensors.torch.save(tensors))
    digest = weights_sha256(tensors)
    edit(run / "run.json", lambda record: record.update(initial_weights_sha256=digest))


def by(found: dict[str, Any], words: str) -> list[str]:
    """The settings that account for what moved, of the one thing that begins so."""
    (causes,) = [each["by"] for each in found["moved"] if each["what"].startswith(words)]
    settings: list[str] = causes
    return settings


def test_another_se_ratio_shares_all_that_it_does_not_touch(desk: Desk, scored: tuple[Path, Path]) -> None:
    found = desk.cli.json("compare", *(path.name.rpartition("-")[2][:10] for path in scored), "--runs", desk.runs)
    assert found["config_difference"] == {"model.se_ratio": {"a": 4, "b": 2}}
    assert found["environment_difference"] == {}
    lines = [json.loads(line) for line in (scored[0] / "draws.jsonl").read_text().splitlines()]
    assert found["shared_streams"] == [name for name in lines[0] if name != "epoch"]
    assert found["streams"]["order"] == {"equal_epochs": 2, "first_difference": None}
    assert found["same_corpus"]
    assert found["split"]["same"]
    assert found["split"]["both"] == {"train": 30, "valid": 3, "test": 3}
    assert found["inputs"]["shared"] == ["mel.npy"]
    assert found["normalisation"]["shared"] == ["deviation", "mean"]
    initial = found["initial_weights"]
    assert initial["changed"] == initial["only_a"] == initial["only_b"] == []
    assert "stem.weight" in initial["shared"]
    assert initial["reshaped"]
    assert all(".se." in name for name in initial["reshaped"])
    assert found["dropout"]["shared"] == ["dropout"]
    assert found["uncontaminated"]
    assert [each["by"] for each in found["moved"]] == [["model.se_ratio"]]
    assert "differ in model.se_ratio alone (4 against 2), uncontaminated" in found["conclusion"]


def test_the_difference_is_that_of_the_two_scores(desk: Desk, scored: tuple[Path, Path]) -> None:
    found = desk.cli.json("compare", *scored)
    accuracies = [json.loads((path / "evaluation/metrics.json").read_text())["clip"]["accuracy"] for path in scored]
    made = found["difference"]
    assert [made["accuracy_a"], made["accuracy_b"]] == accuracies
    assert made["accuracy"] == pytest.approx(accuracies[1] - accuracies[0])
    assert made["low"] <= made["accuracy"] <= made["high"]
    assert made["p_value"] == mcnemar(made["only_a"], made["only_b"])
    assert (made["clips"], found["no_difference"]) == (3, None)
    turned = desk.cli.json("compare", *reversed(scored))["difference"]
    assert turned["accuracy"] == -made["accuracy"]
    assert (turned["low"], turned["high"]) == pytest.approx((-made["high"], -made["low"]))


def test_the_text_is_aligned_and_ends_with_the_conclusion(desk: Desk, scored: tuple[Path, Path]) -> None:
    done = desk.cli("compare", *scored)
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"A  {scored[0]}"
    at = lines[3].index("A")
    assert lines[4][:at].strip() == "model.se_ratio"
    assert lines[4][at:].split() == ["4", "2"]
    assert re.search(r"^comparison +uncontaminated$", done.stdout, re.MULTILINE)
    assert re.search(r"^draws +all 22 streams equal in all 2 epochs that both had$", done.stdout, re.MULTILINE)
    assert lines[-1] == desk.cli.json("compare", *scored)["conclusion"]
    assert len(re.findall(r"\.(?:\s|$)", lines[-1])) == 1


def test_another_seed_moves_every_draw_and_every_drawn_weight(run_of: Runs) -> None:
    found = compared(run_of(), run_of("--seed", "1"))
    assert found["config_difference"] == {"training.seed": {"a": 0, "b": 1}}
    assert found["shared_streams"] == []
    assert {each["first_difference"] for each in found["streams"].values()} == {0}
    initial = found["initial_weights"]
    assert initial["changed"] == initial["drawn"]
    assert "stem.weight" in initial["changed"]
    assert found["dropout"]["changed"] == ["dropout"]
    assert found["split"]["same"]
    assert all(each["by"] == ["training.seed"] for each in found["moved"])
    assert len(found["moved"]) == 3
    assert found["uncontaminated"]


@pytest.mark.slow
def test_another_dropout_moves_nothing_and_none_leaves_no_mask(run_of: Runs) -> None:
    found = compared(run_of(), run_of("--dropout", "0.3"))
    assert found["config_difference"] == {"model.dropout": {"a": 0.1, "b": 0.3}}
    assert found["dropout"]["shared"] == ["dropout"]
    assert found["moved"] == []
    assert len(found["shared_streams"]) == len(found["streams"])
    without = compared(run_of(), run_of("--dropout", "0"))
    assert without["dropout"]["only_a"] == ["dropout"]
    assert by(without, "the shape or presence of the dropout masks") == ["model.dropout"]
    assert without["uncontaminated"]


def test_another_fragment_takes_the_same_draws_to_other_places(run_of: Runs) -> None:
    found = compared(run_of(), run_of("--fragment", "1.2"))
    assert len(found["shared_streams"]) == len(found["streams"])
    assert found["initial_weights"]["changed"] == []
    assert by(found, "where crops begin") == ["batches.fragment"]
    assert found["uncontaminated"]


@pytest.mark.slow
def test_another_corpus_moves_the_split_and_with_it_the_draws(run_of: Runs) -> None:
    found = compared(run_of(), run_of("--exclude-genres", "middle"))
    assert not found["same_corpus"]
    assert found["shared_streams"] == []
    assert found["initial_weights"]["reshaped"] == ["head.bias", "head.weight"]
    assert found["initial_weights"]["changed"] == []
    causes = {name for each in found["moved"] for name in each["by"]}
    assert causes == {"dataset.exclude_genres"}
    assert found["uncontaminated"]
    assert found["difference"] is None
    text = compare(Run(run_of()), Run(run_of("--exclude-genres", "middle"))).conclusion
    assert "dataset.exclude_genres alone" in text


@pytest.mark.slow
def test_other_files_are_told_though_no_setting_differs(
    desk: Desk, run_of: Runs, tmp_path: Path, make_clip: Callable[..., None]
) -> None:
    shutil.copytree(desk.corpus, tmp_path / "corpus")
    make_clip(tmp_path / "corpus" / "low" / "low03.wav", 2 * PITCHES["low"])
    other = Desk(desk.cli, tmp_path / "corpus", desk.res, tmp_path / "runs", TINY_SE_RESNET)
    changed = other.train("--dropout", "0.1")
    found = compared(run_of(), Path(changed["run"]))
    assert found["config_difference"] == {}
    assert found["split"]["same"]
    assert by(found, "the arrays mel.npy") == ["the corpus"]
    assert len(found["shared_streams"]) == len(found["streams"])
    assert "differ in the files or labels of the corpus alone" in found["conclusion"]
    for path, corpus in ((run_of(), desk.corpus), (Path(changed["run"]), other.corpus)):
        desk.cli.json("evaluate", path, *other.places, "--data-dir", corpus)
    found = compared(run_of(), Path(changed["run"]))
    assert found["difference"] is None
    assert "cannot show that they are the same files" in found["no_difference"]


@pytest.mark.parametrize(
    ("given", "setting", "common"),
    [(("--split-seed", "1"), "split.seed", None), (("--crops-per-clip", "2"), "batches.crops_per_clip", (30, 1))],
)
def test_draws_of_what_both_had_are_confirmed_by_the_hashes(
    run_of: Runs, given: tuple[str, ...], setting: str, common: tuple[int, int] | None
) -> None:
    made = compare(Run(run_of()), Run(run_of(*given)))
    found = made.values()
    assert found["shared_streams"] == []
    assert by(found, "the draws of order") == [setting]
    assert found["uncontaminated"]
    clips = len(set(made.isolation.a.training_clips) & set(made.isolation.b.training_clips))
    assert made.isolation.common_crops == (common or (clips, 1))
    assert clips >= 24


def test_more_epochs_move_no_draw(run_of: Runs) -> None:
    found = compared(run_of(), run_of("--epochs", "3"))
    assert found["epochs"] == {"a": 2, "b": 3, "common": 2}
    assert {each["equal_epochs"] for each in found["streams"].values()} == {2}
    assert len(found["shared_streams"]) == 22
    assert found["moved"] == []


def test_another_model_and_runs_without_an_epoch(desk: Desk) -> None:
    flags = ("--fragment", "1", "--epochs", "0")
    a, b = (Path(desk.train(*flags, "--model", name, tiny=False)["run"]) for name in ("cnn1d-gru", "cnn1d-lstm"))
    found = compared(a, b)
    assert (found["streams"], found["shared_streams"], found["epochs"]["common"]) == ({}, [], 0)
    assert found["initial_weights"]["only_a"]
    assert found["initial_weights"]["only_b"]
    assert found["uncontaminated"]
    assert {name for each in found["moved"] for name in each["by"]} == {"model.name"}
    assert found["config_difference"]["model.name"] == {"a": "cnn1d-gru", "b": "cnn1d-lstm"}
    assert "differ in model.name alone (cnn1d-gru against cnn1d-lstm)" in found["conclusion"]
    assert "was not trained" in found["conclusion"]


@pytest.mark.slow
def test_pieces_of_clips_are_moved_by_the_fragment(run_of: Runs) -> None:
    a, b = (run_of("--split", "contaminated", "--fragment", seconds) for seconds in ("1", "0.8"))
    found = compared(a, b)
    assert by(found, "the split") == ["batches.fragment"]
    assert found["uncontaminated"]


def moved_draw(line: str) -> str:
    value = json.loads(line)
    value["augment.mixup.weight"] = "0" * 64
    return json.dumps(value) + "\n"


def test_a_draw_that_nothing_accounts_for_is_contamination(desk: Desk, planted: tuple[Path, Path]) -> None:
    path = planted[1] / "draws.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first + moved_draw(second))
    reseal(planted[1])
    found = desk.cli.json("compare", *planted)
    assert not found["uncontaminated"]
    assert found["contamination"] == ["the draws of augment.mixup.weight"]
    assert found["streams"]["augment.mixup.weight"] == {"equal_epochs": 1, "first_difference": 1}
    assert "augment.mixup.weight" not in found["shared_streams"]
    assert "order" in found["shared_streams"]
    assert "contaminated by the draws of augment.mixup.weight" in found["conclusion"]
    text = desk.cli("compare", *planted).stdout
    assert re.search(r"^augment\.mixup\.weight +1 +1$", text, re.MULTILINE)
    assert re.search(r"^comparison +contaminated$", text, re.MULTILINE)


def test_another_seed_does_not_excuse_draws_that_are_not_its_own(run_of: Runs, tmp_path: Path) -> None:
    shutil.copytree(run_of("--seed", "1"), tmp_path / "b")
    path = tmp_path / "b" / "draws.jsonl"
    # As if the order had been drawn with the seed of the other.
    order = json.loads((run_of() / "draws.jsonl").read_text().splitlines()[1])["order"]
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first + json.dumps({**json.loads(second), "order": order}) + "\n")
    found = compared(run_of(), tmp_path / "b")
    assert found["contamination"] == ["the draws of order"]
    assert found["streams"]["order"] == {"equal_epochs": 1, "first_difference": 0}


def test_an_initial_weight_that_nothing_accounts_for_is_contamination(planted: tuple[Path, Path]) -> None:
    run = Run(planted[1])
    tensors = weights.read_initial(run)
    tensors["stem.weight"][0, 0, 0, 0] += 1e-7
    replace_initial(run.path, tensors)
    found = compared(*planted)
    assert found["initial_weights"]["changed"] == ["stem.weight"]
    assert found["contamination"] == ["the initial values of stem.weight"]


def test_split_array_and_figures_that_nothing_accounts_for_are_contamination(planted: tuple[Path, Path]) -> None:
    run = Run(planted[1])
    figures = weights.read(run, "normalisation")
    spans = (run.path / "spans.csv").read_text().replace(",valid\n", ",train\n", 1)
    (run.path / "spans.csv").write_text(spans)
    edit(run.path / "run.json", lambda record: record["cache_arrays"]["mel.npy"].update(sha256="0" * 64))
    figures["mean"][0] += 1
    (run.path / "normalisation.safetensors").write_bytes(safetensors.torch.save(figures))
    found = compared(*planted)
    # The draws are recorded as of the clips that did train, which are not those of the changed split.
    assert found["contamination"] == ["the split", "the arrays mel.npy", "the normalisation"]
    assert found["split"]["both"] == {"train": 30, "valid": 2, "test": 3}


def test_other_software_is_named(planted: tuple[Path, Path]) -> None:
    edit(planted[1] / "environment.json", lambda found: found["packages"].update(torch="2.10.0"))
    found = compared(*planted)
    assert found["environment_difference"]["packages.torch"]["b"] == "2.10.0"
    assert "made with different software or hardware (packages.torch)" in found["conclusion"]


def test_dropout_of_a_model_that_is_no_longer_built_so_cannot_be_verified(planted: tuple[Path, Path]) -> None:
    tensors = weights.read_initial(Run(planted[0]))
    tensors["elder.weight"] = tensors.pop("head.weight")
    replace_initial(planted[0], tensors)
    found = compared(*planted)
    assert found["dropout"] is None
    assert "dropout masks, which cannot be verified" in found["conclusion"]


def test_other_test_clips_and_no_score_give_no_difference(run_of: Runs, planted: tuple[Path, Path]) -> None:
    found = compared(planted[0], run_of("--seed", "1"))
    assert found["difference"] is None
    assert "is not scored (run `genrecls evaluate" in found["no_difference"]
    assert found["no_difference"] in found["conclusion"]
    table = planted[1] / "evaluation" / "predictions.csv"
    shorter = "".join(table.read_text().splitlines(keepends=True)[:-1])
    table.write_text(shorter)
    digest = text_sha256(shorter)
    edit(planted[1] / "evaluation" / "metrics.json", lambda found: found.update(predictions_sha256=digest))
    assert "their test clips are not the same (3 and 2, 2 of them in both)" in compared(*planted)["no_difference"]


def test_what_is_no_run_and_the_same_run_twice(desk: Desk, scored: tuple[Path, Path], tmp_path: Path) -> None:
    done = desk.cli("compare", scored[0], scored[0].name, "--runs", desk.runs)
    assert (done.status, done.stdout) == (2, "")
    assert "is given twice: name two runs" in done.stderr
    (tmp_path / "empty").mkdir()
    done = desk.cli("compare", scored[0], tmp_path / "empty")
    assert (done.status, done.stdout) == (1, "")
    assert "is no run directory" in done.stderr
    assert desk.cli("compare", scored[0]).status == 2


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "run.json",
            lambda text: text.replace('"finished"', '"training"'),
            r"is not finished: run its `genrecls train`",
        ),
        ("run.json", lambda text: text[:40], r"run\.json is damaged"),
        ("run.json", lambda text: text.replace('"sha256"', '"md5"'), r"run\.json is damaged"),
        ("config.toml", lambda text: "x", r"config\.toml is damaged"),
        (
            "draws.jsonl",
            lambda text: text.splitlines()[0],
            r"draws\.jsonl is damaged \(its lines are not those of the 2",
        ),
        ("draws.jsonl", lambda text: text[:-30], r"draws\.jsonl is damaged"),
        ("draws.jsonl", lambda text: "3\n4\n", r"draws\.jsonl is damaged"),
        ("draws.jsonl", None, r"has no draws\.jsonl"),
        ("spans.csv", lambda text: text[:200], r"spans\.csv is damaged"),
        ("initial.safetensors", lambda text: "x" * 20, r"initial\.safetensors is damaged"),
        ("normalisation.safetensors", None, r"has no normalisation\.safetensors"),
        (
            "evaluation/predictions.csv",
            lambda text: text[:99],
            r"predictions\.csv is damaged \(metrics\.json is of others\): run `genrecls evaluate",
        ),
        ("evaluation/predictions.csv", None, r"has no evaluation/predictions\.csv: run `genrecls evaluate"),
        ("evaluation/metrics.json", lambda text: "{}", r"metrics\.json is damaged \(it lacks"),
    ],
)
def test_damaged_runs_are_named(
    planted: tuple[Path, Path], name: str, change: Callable[[str], str] | None, words: str
) -> None:
    path = planted[1] / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text(encoding="utf-8", errors="replace")))
    with pytest.raises(GenreclsError, match=words) as caught:
        compared(*planted)
    assert str(caught.value).count("\n") == 0


def test_initial_weights_that_training_did_not_write(planted: tuple[Path, Path]) -> None:
    run = Run(planted[0])
    tensors = weights.read_initial(run)
    tensors["head.weight"] += 1
    (run.path / "initial.safetensors").write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(GenreclsError, match=r"initial\.safetensors is damaged \(its weights are not those"):
        compared(*planted)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"),
    [
        (59, 121, 2 * sum(math.comb(180, k) for k in range(60)) / 2**180),
        (0, 5, 2 / 32),
        (0, 6, 2 / 64),
        (1, 7, 2 * 9 / 256),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_against_known_values(only_a: int, only_b: int, p_value: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p_value, rel=1e-9)
    assert mcnemar(only_b, only_a) == pytest.approx(p_value, rel=1e-9)


def coins(clips: int, share: float, key: int) -> Any:
    return (hash64(key, np.arange(clips)) >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share


def test_the_interval_of_a_paired_difference() -> None:
    a, b = coins(400, 0.6, 1), coins(400, 0.7, 2)
    made = difference(a, b)
    assert made.accuracy == pytest.approx(b.mean() - a.mean())
    assert (made.only_a, made.only_b) == (int((a & ~b).sum()), int((b & ~a).sum()))
    spread = np.std(b.astype(float) - a) / np.sqrt(400)
    assert made.low == pytest.approx(made.accuracy - 1.96 * spread, abs=0.2 * spread)
    assert made.high == pytest.approx(made.accuracy + 1.96 * spread, abs=0.2 * spread)
    # Clips are resampled with both answers: where these go together, the interval is narrower than of one alone.
    almost = a.copy()
    almost[:4] = ~almost[:4]
    near, (low, high) = difference(a, almost), bootstrap_interval(a.astype(float), np.arange(400))
    assert near.high - near.low < (high - low) / 3


def test_a_difference_of_all_and_of_none() -> None:
    right, wrong = np.ones(20, dtype=bool), np.zeros(20, dtype=bool)
    every = difference(wrong, right)
    assert (every.accuracy, every.low, every.high, every.only_b) == (1, 1, 1, 20)
    assert every.beyond_chance
    none = difference(right, right)
    assert (none.accuracy, none.low, none.high, none.p_value) == (0, 0, 0, 1)
    assert not none.beyond_chance


def test_a_true_null_is_rejected_no_more_often_than_said() -> None:
    rejected = 0
    for i in range(1000):
        a, b = coins(200, 0.6, 2 * i), coins(200, 0.6, 2 * i + 1)
        rejected += mcnemar(int((a & ~b).sum()), int((b & ~a).sum())) < SIGNIFICANCE
    # The exact test keeps below the level, for it counts whole clips.
    assert 20 <= rejected <= 50


def conclude(scored: tuple[Path, Path], right_b: Any, **changed: Any) -> str:
    isolation = compare(*map(Run, scored)).isolation
    for name, value in changed.items():
        setattr(isolation, name, value)
    return conclusion(isolation, difference(np.arange(20) < 5, right_b), "")


def test_what_may_be_concluded(scored: tuple[Path, Path]) -> None:
    better = np.ones(20, dtype=bool)
    text = conclude(scored, better)
    assert "B's accuracy is 75.0 points higher, beyond chance (p < 0.0001)" in text
    assert text.endswith(
        "which model.se_ratio brought about for this seed, and only several seeds can show whether it does for any."
    )
    text = conclude(scored, np.arange(20) < 6)
    assert text.endswith("not different beyond chance (p = 1), which shows no effect and rules none out.")
    two = {"model.se_ratio": {"a": 4, "b": 2}, "optimiser.lr": {"a": 0.1, "b": 0.2}}
    text = conclude(scored, better, settings=two)
    assert "differ in 2 settings (model.se_ratio, optimiser.lr)" in text
    assert text.endswith("and which of these brought it about cannot be told.")
    text = conclude(scored, better, settings={"training.seed": {"a": 0, "b": 1}})
    assert text.endswith("which is what another seed does, and says nothing of any other setting.")
    text = conclude(scored, better, environment={"packages.torch": {"a": "2.11.0", "b": "2.10.0"}})
    assert text.endswith("and which of these brought it about cannot be told.")
    text = conclude(scored, better, moved=(Moved("the split", ()),))
    assert "contaminated by the split" in text
    assert text.endswith("and what brought it about cannot be told.")
