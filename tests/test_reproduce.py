"""`genrecls reproduce`: it says bit-identical where that is so, and finds what was planted, wherever it was."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import TINY, Desk, Result, reopen, reseal, unseal

from genrecls.digests import file_sha256
from genrecls.divergence import Difference, compare, contents, own, table, tensors
from genrecls.lock import exclusive
from genrecls.run import Run
from genrecls.weights import weights_sha256

PARTS = (
    *("settings", "corpus", "features", "split", "normalisation", "initial weights", "draws", "history"),
    *("best weights", "predictions", "record"),
)


@pytest.fixture(scope="module")
def scored(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with one scored run of two epochs; not to be written to."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("scored"))
    made = desk.train("--dropout", "0.2")
    desk.cli.json("evaluate", made["run"], *desk.places)
    return desk


@pytest.fixture
def run(scored: Desk, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    (original,) = scored.runs.iterdir()
    return Path(shutil.copytree(original, tmp_path / "runs" / original.name))


def reproduce(desk: Desk, run: Path, *arguments: object) -> Result:
    """With the cache of the tests: what makes features again says so. With a seal that fits what was planted."""
    with suppress(ValueError, KeyError):
        reseal(run)
    return desk.cli("reproduce", run, "--cached", "--res", desk.res, *arguments)


def found(desk: Desk, run: Path, *arguments: object) -> Any:
    """The JSON where something differs."""
    done = reproduce(desk, run, "--json", *arguments)
    assert done.status == 1, done.stderr
    assert done.value["identical"] is False
    assert done.value["first_difference"] == done.value["differences"][0]
    return done.value


def differing(value: Any) -> list[str]:
    return [each["part"] for each in value["differences"]]


def environments(value: Any) -> dict[str, tuple[Any, Any]]:
    return {each["name"]: (each["run"], each["here"]) for each in value["environment_differences"]}


def changed_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def plant(run: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """Change weights of a run; returns their new hash."""
    path = run / f"{name}.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    change(tensors)
    path.write_bytes(safetensors.torch.save(tensors))
    return weights_sha256(tensors)


def halved(name: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[:1].add_(0.5)


class TestIdentical:
    def test_a_run_and_its_repetition(self, scored: Desk, run: Path, tmp_path: Path) -> None:
        """The features are made again, the run is not touched and nothing is left behind."""
        before = {path: (path.stat().st_mtime_ns, file_sha256(path)) for path in run.rglob("*") if path.is_file()}
        (tmp_path / "scratch").mkdir()
        res = tmp_path / "no-res"
        done = scored.cli("reproduce", run, "--res", res, "--json", TMPDIR=str(tmp_path / "scratch"))
        assert done.status == 0, done.stderr
        assert done.stdout.count("\n") == 1
        assert (done.value["identical"], done.value["first_difference"]) == (True, None)
        assert done.value["compared"] == list(PARTS)
        for name in ("differences", "environment_differences", "environment_not_recorded"):
            assert done.value[name] == []
        assert done.value["corpus_changes"] is None
        assert {path: (path.stat().st_mtime_ns, file_sha256(path)) for path in before} == before
        assert {path for path in run.rglob("*") if path.is_file()} == set(before)
        assert list((tmp_path / "scratch").iterdir()) == []
        assert not res.exists()

    def test_in_words_by_the_beginning_of_its_id_and_on_a_corpus_that_moved(self, scored: Desk, tmp_path: Path) -> None:
        (original,) = scored.runs.iterdir()
        moved = shutil.copytree(scored.corpus, tmp_path / "moved")
        done = scored.cli("reproduce", original.name[-12:-6], "--cached", "--data-dir", moved, *scored.places)
        assert done.status == 0, done.stderr
        assert done.stdout.startswith(f"{original}: bit-identical\n")
        assert "The two environments do not differ." in done.stdout
        assert [line.split("  ")[0] for line in done.stdout.splitlines() if "identical (" in line] == list(PARTS)
        assert done.stderr == ""

    @pytest.mark.slow
    def test_variants_and_all_three_tables_of_predictions(self, desk: Desk) -> None:
        made = desk.train("--variants", "1", "--speed-probability", "0.5", "--epochs", "1")
        for subset in ("test", "valid", "train"):
            desk.cli.json("evaluate", made["run"], "--subset", subset, *desk.places)
        done = reproduce(desk, Path(made["run"]), "--json")
        assert done.status == 0, done.stdout
        assert done.value["compared"][-4:] == ["predictions", "valid predictions", "train predictions", "record"]

    def test_no_epochs(self, desk: Desk, tmp_path: Path) -> None:
        """There are initial weights to compare, and no features are made for them."""
        made = Path(desk.train("--epochs", "0")["run"])
        done = desk.cli("reproduce", made, "--res", tmp_path / "res", "--json")
        assert done.status == 0, done.stderr
        assert done.value["compared"] == ["settings", "corpus", "initial weights", "record"]
        plant(made, "initial", halved("blocks.0.0.weight"))
        value = found(desk, made)
        assert (differing(value), value["first_difference"]["tensor"]) == (
            ["initial weights", "record"],
            "blocks.0.0.weight",
        )


class TestPlantedInTheCorpus:
    @pytest.fixture
    def moved(self, scored: Desk, tmp_path: Path) -> Path:
        return Path(shutil.copytree(scored.corpus, tmp_path / "moved"))

    def test_a_changed_file(self, scored: Desk, run: Path, moved: Path) -> None:
        victim = moved / "low" / "low03.wav"
        victim.write_bytes(victim.read_bytes()[:-2] + b"\x01\x00")
        value = found(scored, run, "--data-dir", moved)
        assert differing(value) == ["corpus"]
        only: dict[str, list[str]] = {kind: [] for kind in ("unreadable", "missing", "added", "relabelled")}
        assert value["corpus_changes"] == {"changed": ["low/low03.wav"], **only}
        first = value["first_difference"]
        assert (first["clip"], first["differing"]) == ("low/low03.wav", 1)
        assert "1 clip with other bytes (low/low03.wav)" in first["statement"]
        recorded, here = environments(value)["corpus.fingerprint"]
        assert recorded == json.loads((run / "run.json").read_text())["fingerprint"] != here
        # The features have not been asked for: nothing is trained on another corpus.
        assert value["compared"] == ["settings", "corpus", "record"]

    def test_a_file_changed_in_place_whose_size_and_time_are_as_they_were(
        self, desk: Desk, tmp_path: Path, moved: Path
    ) -> None:
        """What is remembered of the files is not trusted."""
        given = ("--dataset", "folder", "--data-dir", moved, *TINY, "--epochs", "0", *desk.places)
        made = Path(desk.cli.json("train", *given)["run"])
        victim = moved / "low" / "low03.wav"
        times = (victim.stat().st_atime_ns, victim.stat().st_mtime_ns)
        victim.write_bytes(victim.read_bytes()[:-2] + b"\x01\x00")
        os.utime(victim, ns=times)
        assert found(desk, made)["corpus_changes"]["changed"] == ["low/low03.wav"]

    def test_files_gone_new_and_under_another_label(self, scored: Desk, run: Path, moved: Path) -> None:
        for i in range(7):
            (moved / "high" / f"high{i:02d}.wav").unlink()
        shutil.copy(moved / "low" / "low00.wav", moved / "low" / "more.wav")
        changes = found(scored, run, "--data-dir", moved)["corpus_changes"]
        assert changes["missing"] == [f"high/high{i:02d}.wav" for i in range(7)]
        assert (changes["added"], changes["changed"]) == (["low/more.wav"], [])
        text = reproduce(scored, run, "--data-dir", moved).stdout
        assert "7 clips gone (high/high00.wav, " in text
        assert "high/high04.wav and 2 more); 1 clip new (low/more.wav)" in text
        assert "NOT identical, first in the corpus" in text

    def test_other_labels(self, scored: Desk, run: Path, tmp_path: Path) -> None:
        """The same bytes, in other groups."""
        groups = tmp_path / "groups.csv"
        groups.write_text("clip,group\nlow/low00.wav,somebody\n")
        changed_json(run / "environment.json", lambda value: value.update(groups=str(groups)))
        value = found(scored, run)
        assert value["corpus_changes"]["relabelled"] == ["low/low00.wav"]

    def test_the_audio_is_gone(self, scored: Desk, run: Path, tmp_path: Path) -> None:
        changed_json(run / "environment.json", lambda value: value.update(data_dir=str(tmp_path / "gone")))
        value = found(scored, run)
        assert differing(value) == ["corpus"]
        assert "is not there as the run found it" in value["first_difference"]["statement"]
        assert "--data-dir" in value["first_difference"]["statement"]
        assert environments(value)["corpus.fingerprint"][1] is None
        done = reproduce(scored, run, "--data-dir", tmp_path / "nowhere")
        assert done.status == 2
        assert "no such folder" in done.stderr
        # What can be no corpus any more is another one, and not wrong usage.
        (tmp_path / "empty").mkdir()
        assert differing(found(scored, run, "--data-dir", tmp_path / "empty")) == ["corpus"]

    def test_a_run_that_does_not_say_which_files(self, scored: Desk, run: Path, moved: Path) -> None:
        (run / "corpus.csv").unlink()
        (moved / "low" / "low00.wav").unlink()
        value = found(scored, run, "--data-dir", moved)
        assert value["corpus_changes"] is None
        assert "which clips differ is not known" in value["first_difference"]["statement"]
        assert reproduce(scored, run).status == 0


class TestPlantedInTheEnvironment:
    def test_other_versions_and_an_older_record(self, scored: Desk, run: Path) -> None:
        """The bits are the same, and the difference is named all the same."""

        def older(value: dict[str, Any]) -> None:
            value["packages"]["numpy"] = "1.0"
            value["processor"] = "Abacus"
            value["switches"]["threads"] = 7
            value["cuda_packages"]["nvidia-abacus"] = "3"
            del value["libraries"]["libsndfile"]

        changed_json(run / "environment.json", older)
        gone_on = {**json.loads((run / "environment.json").read_text()), "packages": {"numpy": "0.9"}}
        changed_json(run / "environment.json", lambda value: value.update(resumed=[gone_on]))
        done = reproduce(scored, run, "--json")
        assert done.status == 0, done.stdout
        apart = environments(done.value)
        own = {name: values for name, values in apart.items() if not name.startswith("resumed-1.")}
        assert set(own) == {"packages.numpy", "processor", "cuda_packages.nvidia-abacus", "switches.threads"}
        assert apart["packages.numpy"] == ("1.0", np.__version__)
        assert apart["resumed-1.packages.numpy"] == ("0.9", np.__version__)
        assert apart["switches.threads"] == (7, 1)
        assert apart["cuda_packages.nvidia-abacus"] == ("3", None)
        assert done.value["environment_not_recorded"] == ["libraries.libsndfile"]

    def test_another_number_of_threads(self, desk: Desk) -> None:
        """Of initial weights, which it cannot move: that it may move others is the machine's affair."""
        made = Path(desk.train("--epochs", "0")["run"])
        done = reproduce(desk, made, "--threads", "2", "--json")
        assert done.status == 0, done.stdout
        assert environments(done.value) == {"switches.threads": (1, 2)}

    def test_a_device_that_is_not_here(self, scored: Desk, run: Path) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is one")
        done = reproduce(scored, run, "--device", "cuda")
        assert done.status == 1
        assert "PyTorch finds no usable GPU" in done.stderr


class TestPlantedInTheRun:
    @pytest.mark.slow
    @pytest.mark.parametrize("adapted", [True, False])
    def test_a_weight(self, scored: Desk, run: Path, adapted: bool) -> None:
        sha256 = plant(run, "best", halved("head.weight"))
        if adapted:
            changed_json(run / "run.json", lambda value: value.update(weights_sha256=sha256))
        value = found(scored, run)
        assert differing(value) == (["best weights"] if adapted else ["best weights", "record"])
        first = value["first_difference"]
        assert (first["tensor"], first["differing"]) == ("head.weight", 1)
        assert first["largest"] == pytest.approx(0.5)
        assert first["run"] != first["here"]

    def test_much_at_once_in_words(self, scored: Desk, run: Path) -> None:
        changed_json(run / "environment.json", lambda value: value["packages"].update(numpy="1.0"))
        changed_json(run / "environment.json", lambda value: value.pop("ranks"))
        changed_json(run / "run.json", lambda value: value["cache_arrays"]["mel.npy"].update(sha256="0" * 64))
        history(run, lambda lines: lines[1]["valid"]["clip"].update(cross_entropy=3.5))
        done = reproduce(scored, run)
        assert done.status == 1
        assert f"{run}: NOT identical, first in the features\n" in done.stdout
        for line in (
            r"features +DIFFERENT: 1 of 1 arrays differ, mel\.npy for one, though the files are the same",
            r"history +DIFFERENT: 1 of 2 epochs differ, first epoch 1: valid\.clip\.cross_entropy is 3\.5 in the run",
            r"best weights +identical \(\d+ tensors\)",
            r"record +DIFFERENT: run\.json in .* does not fit metrics\.jsonl",
            r"The two environments differ:\n  packages\.numpy  1\.0 in the run, \d\S+ here",
            r"Not recorded by the version that made the run: ranks",
        ):
            assert re.search(rf"^{line}", done.stdout, re.MULTILINE), line
        assert "Epoch 1 is not as the run had it" in done.stderr

    def test_a_setting(self, scored: Desk, run: Path) -> None:
        unseal(run)
        text = (run / "config.toml").read_text()
        (run / "config.toml").write_text(text.replace("seed = 0", "seed = 3"))
        value = found(scored, run)
        assert value["first_difference"]["part"] == "settings"
        assert {"initial weights", "history", "best weights"} <= set(differing(value))


def history(run: Path, change: Callable[[list[Any]], object]) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    change(lines)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class TestEachPart:
    """What is said of one planted difference, by the comparison alone."""

    @pytest.fixture
    def only(self, scored: Desk, run: Path) -> Callable[[], Difference]:
        """The one difference between the damaged copy and the run as it was."""

        def compared() -> Difference:
            (original,) = scored.runs.iterdir()
            reseal(run)
            parts = compare(contents(Run(run)), contents(Run(original)))
            (difference,) = (each.difference for each in parts if each.difference)
            assert json.dumps(difference.values(), allow_nan=False)
            return difference

        return compared

    def test_nothing(self, scored: Desk, run: Path) -> None:
        (original,) = scored.runs.iterdir()
        assert {each.difference for each in compare(contents(Run(run)), contents(Run(original)))} == {None}

    def test_a_tensor_that_is_lacking_and_one_of_another_shape(self, run: Path, only: Callable[[], Difference]) -> None:
        def change(tensors: dict[str, torch.Tensor]) -> None:
            del tensors["head.bias"]
            tensors["head.weight"] = tensors["head.weight"].reshape(-1)

        plant(run, "best", change)
        made = only()
        assert (made.part, made.tensor, made.run) == ("best weights", "head.bias", None)
        assert (made.differing, made.largest) == (2, None)

    def test_one_bit_and_a_nan(self, run: Path, only: Callable[[], Difference]) -> None:
        """Zero and minus zero are equal, and not the same."""
        plant(run, "normalisation", lambda tensors: tensors["mean"].view(-1)[:1].fill_(torch.nan))
        made = only()
        assert (made.part, made.tensor, made.largest) == ("normalisation", "mean", None)
        assert tensors("p", {"a": torch.tensor([0.0])}, {"a": torch.tensor([-0.0])}).difference is not None
        assert tensors("p", {"a": torch.tensor(torch.nan)}, {"a": torch.tensor(torch.nan)}).difference is None

    def test_a_figure_of_the_history(self, run: Path, only: Callable[[], Difference]) -> None:
        history(run, lambda lines: lines[1]["valid"]["clip"].update(cross_entropy=3.5))
        made = only()
        assert (made.part, made.epoch, made.figure, made.run) == ("history", 1, "valid.clip.cross_entropy", 3.5)
        assert (made.differing, made.of, made.largest) == (1, 2, 3.5 - made.here)

    def test_an_epoch_that_is_lacking(self, run: Path, only: Callable[[], Difference]) -> None:
        history(run, lambda lines: lines.pop())
        made = only()
        assert (made.part, made.epoch, made.differing, made.of) == ("history", 1, 1, 2)
        assert "which only the repetition has" in made.statement

    def test_a_draw(self, run: Path, only: Callable[[], Difference]) -> None:
        text = (run / "draws.jsonl").read_text()
        (run / "draws.jsonl").write_text(text.replace('"order": "', '"order": "0', 1))
        made = only()
        assert (made.part, made.epoch, made.figure) == ("draws", 0, "order")

    def test_a_prediction(self, run: Path, only: Callable[[], Difference]) -> None:
        path = run / "evaluation" / "predictions.csv"
        head, line, *rest = path.read_text().splitlines()
        cells = line.split(",")
        cells[-1] = repr(float(cells[-1]) + 0.5)
        path.write_text("\n".join([head, ",".join(cells), *rest]) + "\n")
        made = only()
        assert (made.part, made.clip, made.figure) == ("predictions", cells[0], head.split(",")[-1])
        assert (made.differing, made.of, made.run) == (1, 3, cells[-1])
        assert made.largest == pytest.approx(0.5)
        assert "0 of them in the predicted genre" in made.statement

    def test_a_prediction_that_is_lacking_and_another_way_to_write_them(
        self, run: Path, only: Callable[[], Difference]
    ) -> None:
        path = run / "evaluation" / "predictions.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines))
        assert only().statement == "the figures are the same, and the file is written otherwise"
        path.write_text("\n".join(lines[:-1]) + "\n")
        made = only()
        assert (made.clip, made.figure, made.differing, made.of) == (lines[-1].split(",")[0], None, 1, 3)

    def test_the_split(self, run: Path, only: Callable[[], Difference]) -> None:
        head, line, *rest = (run / "spans.csv").read_text().splitlines()
        clip = line.split(",")[0]
        changed = re.sub(r"\w+$", "nothing", line)
        (run / "spans.csv").write_text("\n".join([head, changed, *rest]) + "\n")
        made = only()
        assert (made.part, made.clip, made.figure, made.run) == ("split", clip, "role", "nothing")

    def test_a_record_that_does_not_fit_its_files(self, run: Path) -> None:
        assert own(Run(run), contents(Run(run))).difference is None
        changed_json(run / "run.json", lambda value: value["valid"].update(accuracy=1.5))
        reseal(run)
        made = own(Run(run), contents(Run(run))).difference
        assert made is not None
        assert (made.part, made.figure) == ("record", "best_epoch")


class TestRefused:
    def test_unfinished_and_running(self, scored: Desk, run: Path) -> None:
        reopen(run)
        done = reproduce(scored, run, "--json")
        assert (done.status, done.stdout) == (1, "")
        assert re.fullmatch(r"Error: The run .* is not finished, .* `genrecls train` command first\.\n", done.stderr)
        with exclusive(run / ".lock"):
            done = reproduce(scored, run)
        assert done.status == 1
        assert "is being trained by another process: wait for its end." in done.stderr

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("config.toml", "[model"),
            ("run.json", "{"),
            ("environment.json", "{}"),
            ("metrics.jsonl", "[1]\n"),
            ("draws.jsonl", "{"),
            ("best.safetensors", "xxxxxxxxxxxx"),
            ("corpus.csv", "clip,sha256\na,b\n"),
            ("evaluation/predictions.csv", b"\xff\xfe"),
        ],
    )
    def test_damaged(self, scored: Desk, run: Path, name: str, content: str | bytes) -> None:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        done = reproduce(scored, run)
        assert (done.status, done.stdout) == (1, "")
        assert f"{name} is damaged" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_a_file_is_lacking(self, scored: Desk, run: Path) -> None:
        (run / "initial.safetensors").unlink()
        done = reproduce(scored, run)
        assert done.status == 1
        assert "has no initial.safetensors" in done.stderr

    @pytest.mark.parametrize(
        ("sent", "when"),
        [(signal.SIGINT, "*/res"), (signal.SIGTERM, "*/res"), (signal.SIGTERM, "*/runs/*/draws.jsonl")],
    )
    def test_interrupted(self, scored: Desk, run: Path, tmp_path: Path, sent: signal.Signals, when: str) -> None:
        """Nothing is left, and nothing is said to be, whether or not training is under way."""
        unseal(run)
        text = (run / "config.toml").read_text()
        (run / "config.toml").write_text(text.replace("epochs = 2", "epochs = 4000"))
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        under_way = scored.cli.start("reproduce", run, "--res", tmp_path / "res", TMPDIR=str(scratch))
        while under_way.process.is_alive() and not list(scratch.glob(when)):
            time.sleep(0.005)
        pid = under_way.process.pid
        assert pid is not None
        os.kill(pid, sent)
        done = under_way.wait()
        assert (done.status, done.stdout) == (1, "")
        said = "Error: Interrupted: nothing is kept of a repetition, so run the same command again.\n"
        assert done.stderr.endswith(said)
        assert list(scratch.iterdir()) == []

    def test_a_cache_that_is_not_what_was_written(self, scored: Desk, run: Path, tmp_path: Path) -> None:
        """--cached is no cause to believe what cache.json says."""
        (made,) = (scored.res / "cache").glob(f"folder-{Run(run).record['cache_key']}")
        res = tmp_path / "res"
        shutil.copytree(made, res / "cache" / made.name)
        array = res / "cache" / made.name / "mel.npy"
        array.write_bytes(array.read_bytes()[:-1] + b"\x01")
        done = scored.cli("reproduce", run, "--cached", "--res", res)
        assert done.status == 1
        assert "mel.npy is not what preprocess wrote" in done.stderr


def test_corpus_csv_is_what_the_fingerprint_is_made_of(scored: Desk, run: Path) -> None:
    entries: Mapping[str, Any] | None = Run(run).read_corpus()
    assert entries is not None
    assert len(entries) == 36
    assert all(file_sha256(scored.corpus / clip) == each.sha256 for clip, each in entries.items())
    assert {each.genre for each in entries.values()} == {"high", "low", "middle"}


def test_tables_are_compared_by_position_whatever_genres_are_called() -> None:
    head = "clip,genre,predicted,fragments,clip,genre,predicted\n"
    ours, theirs = (
        f"{head}a.wav,genre,{called},2,{first},0.25,0.25\n" for called, first in (("clip", 0.5), ("genre", 0.25))
    )
    found = table("predictions", "clips", ours, theirs).difference
    assert found is not None
    assert found.statement == (
        "1 of 1 clips differ, 1 of them in the predicted genre, first a.wav, where predicted is clip in the run and "
        "genre here"
    )
    assert (found.clip, found.figure, found.largest) == ("a.wav", "predicted", 0.25)
