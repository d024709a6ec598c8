"""The seal of a run: what was changed since training and evaluation is named, and no figure comes of it."""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import TINY, Desk, reseal

from genrecls import cachefiles, stamp
from genrecls.digests import file_sha256
from genrecls.lock import exclusive
from genrecls.predict import Predictor
from genrecls.run import Run
from genrecls.seal import SEALED_BY_EVALUATE, TRAINED, UNSEALED
from genrecls.stamp import STAMP
from genrecls.weights import weights_sha256

Deed = Callable[[Path], object]


@pytest.fixture(scope="module")
def scored(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two scored runs that differ by their seed; not to be written to."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("scored"))
    for seed in (0, 1):
        made = desk.train("--seed", seed)
        desk.cli.json("evaluate", made["run"], *desk.places)
    return desk


@pytest.fixture
def copy(scored: Desk, tmp_path: Path) -> Desk:
    """The two, to be changed."""
    shutil.copytree(scored.runs, tmp_path / "runs")
    return Desk(scored.cli, scored.corpus, scored.res, tmp_path / "runs")


def pair(desk: Desk) -> tuple[Path, Path]:
    """A run to be changed, and another."""
    first, second = sorted(desk.runs.iterdir())
    return first, second


def edited(name: str, *changes: tuple[str, str]) -> Deed:
    """Replace texts in a file, each of which must be there."""

    def edit(run: Path) -> None:
        text = (run / name).read_text()
        for old, new in changes:
            assert re.search(old, text, re.MULTILINE), old
            text = re.sub(old, new, text, count=1, flags=re.MULTILINE)
        (run / name).write_text(text)

    return edit


def flipped(name: str, bit: int = -1) -> Deed:
    def flip(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        (run / name).write_bytes(content)

    return flip


def nan_in(name: str, tensor: str) -> Deed:
    def plant(run: Path) -> None:
        tensors = safetensors.torch.load((run / name).read_bytes())
        tensors[tensor].view(-1)[0] = torch.nan
        (run / name).write_bytes(safetensors.torch.save(tensors))

    return plant


def genres_turned(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["genres"].reverse()
    (run / "run.json").write_text(json.dumps(record, indent=2) + "\n")


def other_run(name: str) -> Deed:
    """The file of another run: whole in itself, and not this run's."""
    return lambda run: shutil.copy(next(p for p in run.parent.iterdir() if p != run) / name, run / name)


TRAINING = {
    "a mean that is NaN": ("normalisation.safetensors", nan_in("normalisation.safetensors", "mean")),
    "a deviation that is NaN": ("normalisation.safetensors", nan_in("normalisation.safetensors", "deviation")),
    "one bit of the normalisation": ("normalisation.safetensors", flipped("normalisation.safetensors")),
    "one bit of the weights": ("best.safetensors", flipped("best.safetensors")),
    "another run's weights": ("best.safetensors", other_run("best.safetensors")),
    "another overlap": ("config.toml", edited("config.toml", (r"^overlap = 0\.5$", "overlap = 0.25"))),
    "another fragment": ("config.toml", edited("config.toml", (r"^fragment = 1\.0$", "fragment = 0.75"))),
    "another normalisation": (
        "config.toml",
        edited("config.toml", ('^normalisation = "corpus"', 'normalisation = "none"')),
    ),
    "genres in another order": ("run.json", genres_turned),
    "another id": ("run.json", edited("run.json", ('"id": "(.)', '"id": "x'))),
    "not finished": ("run.json", edited("run.json", ('"finished"', '"training"'))),
    "no seal": ("run.json", edited("run.json", ('"seal": ', '"leaf": '))),
    "no digests": ("run.json", edited("run.json", ('"files": ', '"tiles": '))),
}
"""What predict and evaluate both use: the file that is named, and what is done to it."""
OF_THE_SPLIT = {
    "a test line removed": ("spans.csv", edited("spans.csv", (r"^.*,test\n", ""))),
    "a test line doubled": ("spans.csv", edited("spans.csv", (r"^(.*,test\n)", r"\1\1"))),
    "a training line relabelled": ("spans.csv", edited("spans.csv", (",train$", ",test"))),
    "where the corpus lay": ("environment.json", edited("environment.json", ('"data_dir": "', '"data_dir": "/else'))),
}
OF_EVALUATION = {
    "an accuracy typed in": (
        "evaluation/metrics.json",
        edited("evaluation/metrics.json", (r'"accuracy": [0-9.]+', '"accuracy": 0.99')),
    ),
    "another run's figures": ("evaluation/metrics.json", other_run("evaluation/metrics.json")),
    "a prediction": (
        "evaluation/predictions.csv",
        edited("evaluation/predictions.csv", (r"^(\S+,\w+),\w+,3", r"\1,low,3")),
    ),
}


def refused(desk: Desk, named: Path, *command: object) -> None:
    """It ends with exit status 1, nothing on stdout and one sentence that names the file."""
    done = desk.cli(*command, "--json")
    assert (done.status, done.stdout) == (1, ""), done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert str(named) in done.stderr


@pytest.mark.parametrize("what", TRAINING)
def test_what_decides_an_answer(copy: Desk, tmp_path: Path, what: str) -> None:
    name, deed = TRAINING[what]
    run, _ = pair(copy)
    deed(run)
    before = {path: file_sha256(path) for path in copy.runs.rglob("*") if path.is_file()}
    refused(copy, run / name, "predict", run, copy.corpus / "high" / "high00.wav")
    refused(copy, run / name, "evaluate", run, *copy.places)
    refused(copy, run / name, "export", run, "--out", tmp_path / "model.onnx")
    assert {path: file_sha256(path) for path in copy.runs.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("what", OF_THE_SPLIT)
def test_what_decides_who_is_tested(copy: Desk, tmp_path: Path, what: str) -> None:
    name, deed = OF_THE_SPLIT[what]
    run, _ = pair(copy)
    deed(run)
    refused(copy, run / name, "evaluate", run, *copy.places)
    refused(copy, run / name, "report", run, "--out", tmp_path / "report.html", *copy.places)


@pytest.mark.parametrize("what", OF_EVALUATION)
def test_what_evaluation_found(copy: Desk, tmp_path: Path, what: str) -> None:
    """Nobody believes it, and evaluation makes it again."""
    name, deed = OF_EVALUATION[what]
    run, other = pair(copy)
    whole = (run / name).read_bytes()
    deed(run)
    assert (run / name).read_bytes() != whole
    refused(copy, run / name, "report", run, "--out", tmp_path / "report.html", *copy.places)
    refused(copy, run / name, "compare", run, other)
    copy.cli.json("evaluate", run, *copy.places)
    assert (run / name).read_bytes() == whole
    copy.cli.json("compare", run, other)


@pytest.mark.parametrize("what", [*TRAINING, "an accuracy typed in", "another run's figures"])
def test_no_list_and_no_table_of_results_has_its_figures(copy: Desk, what: str) -> None:
    name, deed = (TRAINING | OF_EVALUATION)[what]
    run, other = pair(copy)
    deed(run)
    listed = {each["run"]: each for each in copy.cli.json("runs", "--runs", copy.runs)}
    assert listed[str(other)]["status"] == "finished"
    if name.endswith(".safetensors"):
        return  # Its figures are what evaluation found, which no later change to what made them moves.
    assert (listed[str(run)]["status"], listed[str(run)]["valid"], listed[str(run)]["test"]) == ("damaged", None, None)
    assert str(run / name) in listed[str(run)]["reason"]
    text = copy.cli("runs", "--markdown", "--runs", copy.runs)
    assert text.status == 0
    assert "1 run is left out: damaged." in text.stderr
    assert "0.990" not in text.stdout
    assert "\n| 2 |" not in text.stdout


def test_training_does_not_find_a_run_that_was_changed(copy: Desk) -> None:
    run, _ = pair(copy)
    seed = Run(run).config.training.seed
    for name in ("normalisation.safetensors", "timing.jsonl"):
        whole = (run / name).read_bytes()
        flipped(name)(run)
        given = (*copy.on_corpus, *TINY, "--seed", seed)
        refused(copy, run / name, "train", *given, *copy.places)
        (run / name).write_bytes(whole)
        assert copy.cli.json("train", *given, *copy.places)["status"] == "found"


def test_every_file_of_a_run_is_sealed_or_has_a_reason_not_to_be(scored: Desk) -> None:
    run, _ = pair(scored)
    record = json.loads((run / "run.json").read_text())
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert set(record["files"]) == {*TRAINED, "evaluation/metrics.json", "evaluation/predictions.csv"}
    assert {name for name in names if not name.startswith(SEALED_BY_EVALUATE)} <= {*TRAINED, *UNSEALED}
    assert not set(TRAINED) & set(UNSEALED)
    for name, digest in record["files"].items():
        assert file_sha256(run / name) == digest


def test_each_subset_is_sealed_beside_the_others(copy: Desk) -> None:
    run, _ = pair(copy)
    before = json.loads((run / "run.json").read_text())
    copy.cli.json("evaluate", run, "--subset", "valid", *copy.places)
    after = json.loads((run / "run.json").read_text())
    added = {"evaluation/metrics-valid.json", "evaluation/predictions-valid.csv"}
    assert set(after["files"]) == {*before["files"], *added}
    assert {name: digest for name, digest in after["files"].items() if name not in added} == before["files"]
    assert after["seal"] != before["seal"]
    for name in ("seal", "files"):
        del before[name], after[name]
    assert before == after


def test_evaluation_waits_for_whoever_writes_to_the_run(copy: Desk) -> None:
    run, _ = pair(copy)
    whole = (run / "run.json").read_bytes()
    with exclusive(run / ".lock"):
        under_way = copy.cli.start("evaluate", run, *copy.places)
        waiting = threading.Event()
        said = under_way.output / "stderr"
        while not said.exists() or "waiting for it" not in said.read_text():
            assert under_way.process.is_alive()
            waiting.wait(0.02)
        assert (run / "run.json").read_bytes() == whole
    done = under_way.wait()
    assert done.status == 0
    assert done.stderr == f"Another process writes to the run {run}: waiting for it.\n"
    assert (run / "run.json").read_bytes() == whole


def test_what_a_forger_forgets(copy: Desk) -> None:
    """A seal that fits is no leave for another id, for numbers that are none, or for a split with a line twice."""
    run, _ = pair(copy)
    whole = {name: (run / name).read_bytes() for name in ("run.json", *TRAINED)}
    for what, words in (
        ("another overlap", r"config\.toml is damaged \(its settings are those of the run"),
        ("a mean that is NaN", r"normalisation\.safetensors is damaged \(a mean in it is no finite number\)"),
        ("a deviation that is NaN", r"normalisation\.safetensors is damaged \(a deviation in it is no finite number\)"),
        ("one bit of the weights", r"best\.safetensors is damaged \(its weights are not those that training wrote"),
        ("a test line doubled", r"spans\.csv is damaged \(it has a line twice\)"),
    ):
        _, deed = (TRAINING | OF_THE_SPLIT)[what]
        deed(run)
        reseal(run)
        done = copy.cli("evaluate", run, *copy.places)
        assert done.status == 1
        assert re.search(words, done.stderr), done.stderr
        for name, content in whole.items():
            (run / name).write_bytes(content)


def test_a_deviation_of_nothing_divides_by_zero(copy: Desk) -> None:
    run, _ = pair(copy)
    path = run / "normalisation.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    tensors["deviation"][0] = 0
    path.write_bytes(safetensors.torch.save(tensors))
    reseal(run)
    refused(copy, path, "predict", run, copy.corpus / "high" / "high00.wav")


def test_weights_that_are_no_numbers_are_none_even_where_their_hash_fits(copy: Desk) -> None:
    run, _ = pair(copy)
    nan_in("best.safetensors", "head.bias")(run)
    digest = weights_sha256(safetensors.torch.load((run / "best.safetensors").read_bytes()))
    edited("run.json", (r'"weights_sha256": "\w+"', f'"weights_sha256": "{digest}"'))(run)
    reseal(run)
    refused(copy, run / "best.safetensors", "predict", run, copy.corpus / "high" / "high00.wav")
    refused(copy, run / "best.safetensors", "evaluate", run, *copy.places)


def test_answers_that_are_no_numbers_are_none(scored: Desk) -> None:
    """Weights that are all finite, and a sum of them that is not."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        predictor = Predictor(Run(pair(scored)[0]))
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
    head = predictor._model.get_submodule("head")
    assert isinstance(head, torch.nn.Linear)
    head.weight.data.fill_(3e38)
    head.bias.data.fill_(3e38)
    (made,) = predictor.predict(scored.corpus / "high" / "high00.wav")
    assert (made.status, made.genre, made.ranking) == ("non-finite", None, [])
    assert made.reason.startswith("The model's answers to 3 of 3 fragments are no finite numbers")


@pytest.fixture
def own_cache(copy: Desk, tmp_path: Path) -> Desk:
    """The two runs with a cache of the test's own, to be changed."""
    shutil.copytree(copy.res, tmp_path / "res", copy_function=shutil.copy)
    return replace(copy, res=tmp_path / "res")


def cache_of(desk: Desk) -> Path:
    record = json.loads((pair(desk)[0] / "run.json").read_text())
    return desk.res / "cache" / record["cache_arrays"]["mel.npy"]["cache"]


def left_out(desk: Desk, run: Path, folder: Path) -> list[str]:
    """What a report says that it lacks."""
    made = desk.cli.json("report", run, "--no-audio", "--out", folder / "report.html", *desk.places)
    sentences: list[str] = made["runs"][0]["left_out"]
    return sentences


def zeroed(path: Path) -> None:
    """A part in its middle, as a disk may lose it: of the same size, and with the same time of its last change."""
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with open(path, "r+b") as handle:
        handle.seek(path.stat().st_size // 2)
        handle.write(bytes(512))
    os.utime(path, ns=times)


def test_a_cache_whose_array_was_changed_is_used_by_nobody(own_cache: Desk, tmp_path: Path) -> None:
    desk, (run, _) = own_cache, pair(own_cache)
    array = cache_of(desk) / "mel.npy"
    desk.cli.json("evaluate", run, *desk.places)  # which stamps the copy
    zeroed(array)
    for command in (
        ("evaluate", run),
        ("train", *desk.on_corpus, *TINY, "--seed", "7"),
        ("reproduce", run, "--cached"),
    ):
        refused(desk, array, *command, *desk.places)
    assert any(str(array) in sentence for sentence in left_out(desk, run, tmp_path))


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("index.csv", ("high/high00.wav,high", "high/high00.wav,low")),
        ("cache.json", ('"audio_seconds": ', '"audio_seconds": 1')),
        ("cache.json", ('"sha256": "', '"sha256": "0')),
    ],
)
def test_what_lies_beside_an_array_is_sealed(own_cache: Desk, name: str, edit: tuple[str, str]) -> None:
    edited(name, edit)(cache_of(own_cache))
    done = own_cache.cli("evaluate", pair(own_cache)[0], *own_cache.places)
    assert done.status == 1
    assert f"The cache {cache_of(own_cache)} is damaged ({name}: it is not what preprocess wrote)" in done.stderr


def test_an_array_is_hashed_once(own_cache: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    array = cache_of(own_cache) / "mel.npy"
    known = json.loads((array.parent / "cache.json").read_text())["arrays"]["mel.npy"]["sha256"]
    hashed: list[object] = []
    usual = hashlib.file_digest

    def counted(file: Any, algorithm: str) -> Any:
        hashed.append(file)
        return usual(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    # A copy is another file than the one that was stamped.
    assert [stamp.holds(array, known) for _ in range(3)] == [True] * 3
    assert len(hashed) == 1
    whole = (array.parent / STAMP).read_bytes()
    other_size, other_digest = whole.replace(b'"size": ', b'"size": 1'), whole.replace(known.encode(), b"0" * 64)
    for content in (b"", b"[" * 10**6, other_size, other_digest):
        (array.parent / STAMP).write_bytes(content)
        assert stamp.holds(array, known)
    assert len(hashed) == 5
    assert not stamp.holds(array, "0" * 64)
    os.utime(array)
    assert stamp.holds(array, known)
    assert len(hashed) == 7
    zeroed(array)
    assert not stamp.holds(array, known)
    assert json.loads((array.parent / STAMP).read_text())["mel.npy"]["sha256"] == known


def test_building_a_cache_stamps_it(scored: Desk) -> None:
    array = cache_of(scored) / "mel.npy"
    stamped = json.loads((array.parent / STAMP).read_text())["mel.npy"]
    assert stamped["ctime_ns"] == array.stat().st_ctime_ns
    assert stamped["sha256"] == file_sha256(array)


def test_a_cache_made_anew_with_other_bits(own_cache: Desk, tmp_path: Path) -> None:
    """Whole in itself, and of the same key: portable kernels never make one, native ones of another processor may."""
    desk, (run, _) = own_cache, pair(own_cache)
    place = cache_of(desk)
    rebuilt(place)
    refused(desk, place / "mel.npy", "evaluate", run, *desk.places)
    assert any(str(place / "mel.npy") in sentence for sentence in left_out(desk, run, tmp_path))
    done = desk.cli("reproduce", run, "--cached", *desk.places)
    assert done.status == 1
    assert "NOT identical, first in the features" in done.stdout


def rebuilt(place: Path) -> None:
    """Another value in the array, with digests that fit."""
    array = place / "mel.npy"
    zeroed(array)
    details = json.loads((place / "cache.json").read_text())
    details["arrays"]["mel.npy"]["sha256"] = file_sha256(array)
    del details["seal"]
    (place / "cache.json").write_text(cachefiles.details_text(details))


@pytest.mark.slow
def test_other_bits_are_a_remark_of_native_kernels(native_desk: Desk, tmp_path: Path) -> None:
    desk = replace(native_desk, res=tmp_path / "res")
    made = desk.train("--kernels", "native", "--precision", "fp32")
    first = desk.cli("evaluate", made["run"], *desk.places)
    assert (first.status, first.stderr) == (0, "")
    (place,) = (desk.res / "cache").glob("folder-*")
    rebuilt(place)
    done = desk.cli("evaluate", made["run"], *desk.places)
    assert done.status == 0
    assert done.stderr == (
        f"{place / 'mel.npy'} has other bits than the features that {made['run']} was trained on, as native kernels of "
        "another processor make them.\n"
    )


def test_training_goes_on_with_the_features_that_it_began_with(desk: Desk, tmp_path: Path) -> None:
    desk = replace(desk, res=tmp_path / "res")
    given = ("train", *desk.on_corpus, *TINY, *desk.places)
    stopped = desk.cli(*given, TEST_SIGNAL="SIGTERM genrecls.trainer.update 3")
    assert stopped.status == 1, stopped.stderr
    (place,) = (desk.res / "cache").glob("folder-*")
    rebuilt(place)
    refused(desk, place / "mel.npy", *given)
