"""Trackers: what the real clients wrote is read back by their own readers, and a run is the same with them."""

import http.server
import json
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Desk

from genrecls import pictures, tracking
from genrecls.errors import GenreclsError
from genrecls.run import Run
from genrecls.tracking import Tracking, key_of

OFFLINE = {"WANDB_MODE": "offline"}
KEY = "0123456789abcdef0123456789abcdef01234567"


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: step and value by tag."""
    reader = events(run)
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def events(run: Path) -> Any:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(run / "tensorboard"))
    reader.Reload()
    return reader


def told(run: Path) -> dict[str, list[Any]]:
    """What metrics.jsonl holds, in the same form."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    made: dict[str, list[Any]] = {}
    for line in lines:
        named = {"lr": line["lr"], "train/cross_entropy": line["train"]["cross_entropy"]}
        for part in ("clip", "fragment"):
            for name in ("accuracy", "f1_macro", "cross_entropy"):
                named[f"valid/{part}/{name}"] = line["valid"][part][name]
        for tag, value in named.items():
            made.setdefault(tag, []).append((line["epoch"], pytest.approx(value, rel=1e-6)))
    return made


def records(run: Path) -> dict[str, Any]:
    """What W&B keeps offline: {config, history: lines, summary, run_id, project, exit_code}, values parsed."""
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    (path,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    made: dict[str, Any] = {"config": {}, "history": [], "summary": {}}
    for data in logged(path.read_bytes()):
        record = vars(wandb_internal_pb2)["Record"]()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            made["run_id"], made["project"] = record.run.run_id, record.run.project
            made["config"] |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
        elif kind == "history":
            made["history"].append(values(record.history.item))
        elif kind == "summary":
            made["summary"] |= values(record.summary.update)
        elif kind == "exit":
            made["exit_code"] = record.exit.exit_code
    return made


def values(items: Any) -> dict[str, Any]:
    return {"/".join(each.nested_key) or each.key: json.loads(each.value_json) for each in items}


def logged(content: bytes) -> Iterator[bytes]:
    """The records of a W&B file: LevelDB's log format behind a header of 7 bytes."""
    assert content.startswith(b":W&B")
    at, record = 7, b""
    while at + 7 <= len(content):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def same_run(one: Path, other: Path) -> None:
    for name in ("metrics.jsonl", "draws.jsonl", "best.safetensors", "config.toml", "spans.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.slow
def test_tensorboard_shows_what_the_run_holds(desk: Desk, trained: Desk) -> None:
    pytest.importorskip("tensorboard")
    made = desk.train("--epochs", "4", "--track", "tensorboard")
    run = Path(made["run"])
    (untracked,) = trained.runs.iterdir()
    assert run.name == untracked.name
    same_run(run, untracked)

    assert scalars(run) == told(run)
    reader = events(run)
    texts = reader.Tags()["tensors"]
    assert texts == ["config/text_summary", "confusion/valid/text_summary", "run/text_summary"]
    config = reader.Tensors(texts[0])[0].tensor_proto.string_val[0].decode()
    assert [line.strip() for line in config.splitlines()] == (run / "config.toml").read_text().splitlines()
    table = reader.Tensors(texts[1])[0].tensor_proto.string_val[0].decode()
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert rows[0][1:] == [row[0] for row in rows[2:]] == ["high", "low", "middle"]
    scored = desk.cli.json("evaluate", run, "--subset", "valid", *desk.places)
    assert [[int(cell) for cell in row[1:]] for row in rows[2:]] == scored["confusion"]
    (image,) = reader.Images("confusion/valid")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert min(image.width, image.height) > 100

    # The same command finds the run, and tells all of it anew, with the test's confusion matrix by now.
    desk.cli.json("evaluate", run, *desk.places)
    assert desk.train("--epochs", "4", "--track", "tensorboard")["status"] == "found"
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert scalars(run) == told(run)
    assert "confusion/test/text_summary" in events(run).Tags()["tensors"]


@pytest.mark.slow
def test_wandb_offline_shows_what_the_run_holds(desk: Desk, trained: Desk, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (tmp_path / ".env").write_text(f"export WANDB_API_KEY='{KEY}'  # mine\n")
    words = ("train", *desk.on_corpus, *TINY, *desk.places, "--epochs", "4", "--track", "wandb", "--json")
    done = desk.cli(*words, cwd=tmp_path, **OFFLINE)
    assert (done.status, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    run = Path(done.value["run"])
    (untracked,) = trained.runs.iterdir()
    same_run(run, untracked)

    made = records(run)
    assert (made["run_id"], made["project"]) == (done.value["id"], "genrecls")
    assert made["config"]["training"]["epochs"] == 4
    assert made["config"]["run"]["fingerprint"] == Run(run).record["fingerprint"]
    assert made["exit_code"] == 0
    expected = told(run)
    shown = [line for line in made["history"] if "lr" in line]
    assert {tag: [(line["_step"], line[tag]) for line in shown] for tag in expected} == expected
    assert any("confusion/valid_table" in key for line in made["history"] for key in line)
    assert json.dumps(made["summary"]).count(done.value["weights_sha256"]) == 1
    assert list(run.rglob("*.png"))
    # The key goes nowhere.
    assert not [path for path in run.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that lets nobody in, and remembers by what they asked."""

    asked: list[str]

    def refuse(self) -> None:
        self.asked.append(self.headers.get("Authorization", ""))
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def refusing() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what was asked for."""
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0),
        type("Handler", (Refusing,), {"asked": asked, "do_GET": Refusing.refuse, "do_POST": Refusing.refuse}),
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_without_a_key_wandb_costs_one_remark(desk: Desk, tmp_path: Path, refusing: tuple[str, list[str]]) -> None:
    pytest.importorskip("wandb")
    words = ("train", *desk.on_corpus, *TINY, *desk.places, "--track", "wandb", "--json")
    online = {"WANDB_MODE": "online", "WANDB_BASE_URL": refusing[0], "HOME": str(tmp_path)}
    done = desk.cli(*words, cwd=tmp_path, **online)
    assert (done.status, done.value["status"], done.stderr.count("\n")) == (0, "finished", 1), done.stderr
    assert done.stderr.startswith("W&B failed (")
    assert "key" in done.stderr


@pytest.mark.slow
def test_the_key_of_the_working_folder_is_used_and_a_refusal_costs_one_remark(
    desk: Desk, tmp_path: Path, refusing: tuple[str, list[str]]
) -> None:
    pytest.importorskip("wandb")
    (tmp_path / ".env").write_text(f"OTHER=1\nWANDB_API_KEY={KEY}\n")
    url, asked = refusing
    words = ("train", *desk.on_corpus, *TINY, *desk.places, "--track", "wandb", "--json")
    done = desk.cli(*words, cwd=tmp_path, WANDB_BASE_URL=url, HOME=str(tmp_path), WANDB_MODE="online")
    assert KEY not in done.stderr
    assert not (tmp_path / ".netrc").exists()
    assert (done.status, done.value["status"]) == (0, "finished")
    assert done.stderr.count("\n") == 1, done.stderr
    remark = done.stderr.strip()
    assert remark.startswith("W&B failed (")
    assert remark.endswith(
        "is told nothing more: metrics.jsonl has all figures, and the same command tells them again."
    )
    import base64

    assert f"Basic {base64.b64encode(f'api:{KEY}'.encode()).decode()}" in asked


class Recorder:
    """A tracker that writes down what it is told, and fails when it is told to."""

    name = "Recorder"

    def __init__(self, fails: str = "") -> None:
        self.fails, self.calls = fails, []  # type: ignore[var-annotated]

    def _note(self, *what: object) -> None:
        self.calls.append(what)
        if what[0] == self.fails:
            raise LookupError("no\nluck.")

    def begin(self, found: Run) -> None:
        self._note("begin", found.name)

    def epoch(self, number: int, figures: Any) -> None:
        self._note("epoch", number, sorted(figures))

    def confusion(self, subset: str, genres: Sequence[str], counts: Any, picture: object) -> None:
        self._note("confusion", subset, picture is None)

    def end(self, record: Any) -> None:
        self._note("end", record["epochs"])

    def abandon(self) -> None:
        self._note("abandon")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Tracking, Recorder, list[str]]]:
    def make(fails: str = "") -> tuple[Tracking, Recorder, list[str]]:
        recorder, said = Recorder(fails), list[str]()
        monkeypatch.setattr(tracking, "TRACKERS", {"recorder": lambda: recorder})
        return Tracking(("recorder", "recorder"), said.append), recorder, said

    return make


@pytest.mark.parametrize("fails", ["begin", "epoch", "abandon"])
def test_a_tracker_that_fails_is_given_up_with_one_remark(
    fails: str, made: Callable[..., tuple[Tracking, Recorder, list[str]]], trained: Desk
) -> None:
    tracked, recorder, said = made(fails)
    tracked.begin(Run(next(trained.runs.iterdir())))
    tracked.epoch({"epoch": 4, "lr": 0.1})
    tracked.abandon()
    assert said == [
        "Recorder failed (no luck) and is told nothing more: metrics.jsonl has all figures, and the same command tells "
        "them again."
    ]
    assert recorder.calls[-1][0] == fails


def test_a_training_that_is_gone_on_with_tells_its_first_epochs(
    made: Callable[..., tuple[Tracking, Recorder, list[str]]], trained: Desk
) -> None:
    tracked, recorder, said = made()
    tracked.begin(Run(next(trained.runs.iterdir())))
    tracked.epoch({"epoch": 4, "lr": 0.1, "valid": {"clip": {"accuracy": 0.5}}})
    tracked.abandon()
    assert [call[:2] for call in recorder.calls if call[0] == "epoch"] == [("epoch", i) for i in range(5)]
    assert recorder.calls[-2:] == [("epoch", 4, ["lr", "valid/clip/accuracy"]), ("abandon",)]
    assert said == []


def test_a_stopped_training_keeps_its_event_file(desk: Desk) -> None:
    pytest.importorskip("tensorboard")
    words = ("train", *desk.on_corpus, *TINY, *desk.places, "--epochs", "4", "--track", "tensorboard")
    stopped = desk.cli(*words, TEST_SIGNAL="SIGTERM genrecls.trainer.begin_step 8")
    assert (stopped.status, "goes on from there" in stopped.stderr) == (1, True)
    (run,) = desk.runs.iterdir()
    before = scalars(run)
    assert 0 < len(before["lr"]) < 4
    assert desk.cli.json(*words)["status"] == "resumed"
    assert scalars(run) == told(run)
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_no_epochs_no_confusion(desk: Desk) -> None:
    pytest.importorskip("tensorboard")
    made = desk.train("--epochs", "0", "--track", "tensorboard")
    assert events(Path(made["run"])).Tags()["tensors"] == ["config/text_summary", "run/text_summary"]


def test_of_several_processes_the_first_tracks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from genrecls import training

    def train(config: Any, place: Any, runs: Any, seen: Any, known: Any, begun: Any) -> None:
        begun(Run(tmp_path))
        seen({"epoch": 0, "lr": 0.1}, 1)
        return

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(tracking, "TRACKERS", {})  # Making any would be a KeyError.
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "x"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    seen: list[object] = []
    place: Any = type("Place", (), {"say": print})
    config: Any = None
    tracking.train(config, place, tmp_path, lambda *given: seen.append(given), lambda found: None, ("wandb",))
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_client_that_is_not_installed_is_said_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module in ("tensorboard", "torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GenreclsError, match=rf"--track {name} needs {name}, which is not installed: run `pip install"):
        Tracking((name,), print)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("WANDB_API_KEY=abc", "abc"),
        ("# WANDB_API_KEY=no\nexport WANDB_API_KEY = 'abc' # mine\n", "abc"),
        ('A=1\nWANDB_API_KEY="abc"\n', "abc"),
        ("WANDB_API_KEY=\n", None),
        ("WANDB_API_KEY\nMY_WANDB_API_KEY=abc", None),
    ],
)
def test_the_key_of_a_dotenv_file(text: str, key: str | None, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(text)
    assert key_of(tmp_path / ".env") == key
    assert key_of(tmp_path / "none") is None


def test_a_dotenv_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff")
    with pytest.raises(GenreclsError, match=r"\.env cannot be read \(it is not UTF-8"):
        key_of(tmp_path / ".env")


def test_a_picture_of_genres_with_any_name() -> None:
    pytest.importorskip("matplotlib")
    genres = ["$x^$", "<b>rock & roll</b>", "Ö" * 20]
    png = pictures.confusion_matrix(genres, [[3, 0, 1], [0, 0, 0], [2, 2, 2]], "Clips")
    assert png.startswith(b"\x89PNG")
    drawn = pictures.pixels(png)
    assert drawn.shape[2] == 3
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 100
