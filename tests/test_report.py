"""`genrecls report`: the page says what the run's files say, needs no network, and looks right in a browser."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import PITCHES, TINY_SE_RESNET, CommandLine, Desk, reseal, write_clip

from genrecls.errors import GenreclsError
from genrecls.report.calibration import reliability
from genrecls.report.embeddings import plane
from genrecls.report.figures import Plot, curves, short, shown, style
from genrecls.report.material import data_uri
from genrecls.report.records import Recorded
from genrecls.seeding import name_key, uniform

HOSTILE = ("<script>alert(1)<script>", '"><img src=x onerror=alert(1)>', "$\\frac{a}&amp;'")
"""Names of genres: as folders, without the slash that no file name has."""
FOLDS = ("--split", "kfold", "--folds", "3")
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, and the text beside them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def table(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def decoded(uri: str | None) -> bytes:
    assert uri is not None
    return base64.b64decode(uri.partition(";base64,")[2], validate=True)


@pytest.fixture(scope="module")
def desk(cli: CommandLine, corpus: Path, shared_res: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Runs of this module; not to be written to."""
    return Desk(cli, corpus, shared_res, tmp_path_factory.mktemp("reported"), TINY_SE_RESNET)


@pytest.fixture(scope="module")
def scored(desk: Desk) -> tuple[Path, Path]:
    """Two scored runs with twelve test clips each."""
    made = []
    for given in ((), ("--se-ratio", "2", "--lr", "0.0001")):
        made.append(Path(desk.train(*FOLDS, *given)["run"]))
        desk.cli.json("evaluate", made[-1], *desk.places)
    return made[0], made[1]


@pytest.fixture(scope="module")
def one(desk: Desk, scored: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The report of one run, with its figures: the JSON and the folder."""
    folder = tmp_path_factory.mktemp("one")
    value = desk.cli.json(
        "report", scored[0], "--out", folder / "report.html", "--figures", folder / "figures", *desk.places
    )
    return value, folder


def test_the_page_has_every_part_and_the_scores_of_the_run(one: tuple[Any, Path], scored: tuple[Path, Path]) -> None:
    value, folder = one
    page = Reader((folder / "report.html").read_text("utf-8"))
    metrics = json.loads((scored[0] / "evaluation/metrics.json").read_text())
    assert value["bytes"] == (folder / "report.html").stat().st_size
    (run,) = value["runs"]
    assert run["scored"]
    # The corpus of the tests knows no artists.
    assert run["left_out"] == ["The map by artist is left out, because the corpus does not say whose clips are."]
    for heading in ("Summary", "Learning curves", "Scores on test clips", "Clip embeddings", "Corpus"):
        assert heading in page.texts
    for plot in ("loss", "accuracy", "f1", "learning-rate", "confusion", "per-genre", "reliability", "tsne-genre"):
        assert plot in value["plots"]
    for plot in ("cloud", "clips", "lengths", "spectra", "typical-01"):
        assert plot in value["plots"]
    clip = metrics["clip"]
    low, high = (f"{100 * clip[name]:.1f} %" for name in ("accuracy_low", "accuracy_high"))
    assert (
        f"{100 * clip['accuracy']:.1f} % of 12 test clips are predicted correctly (95 % interval {low} to {high})"
        in page.text
    )
    assert "split kfold" in page.text
    assert "genrecls train --dataset folder --data-dir DIR --split kfold --folds 3" in page.text
    assert "training.epochs" in page.texts


def test_nothing_is_fetched_and_nothing_can_run(one: tuple[Any, Path]) -> None:
    text = (one[1] / "report.html").read_text("utf-8")
    page = Reader(text)
    assert not page.every("script")
    assert not page.every("link")
    for tag, given in page.elements:
        assert not [name for name in given if name.startswith("on")]
        if tag in ("img", "audio"):
            assert (given["src"] or "").startswith("data:")
        if tag == "a":
            assert (given["href"] or "").startswith("#")
    (policy,) = [given["content"] for given in page.every("meta") if "http-equiv" in given]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"(?i)https?://|file://|url\(", text)
    for image in page.every("img"):
        svg = decoded(image["src"]).decode("utf-8")
        assert svg.startswith("<svg")
        assert "prefers-color-scheme:dark" in svg
        assert "<script" not in svg
        # What is named by an address in it (name spaces, the metadata's vocabulary) nobody follows.
        assert not re.search(r'(?:href|src)="(?!#|data:)', svg)


def test_the_excerpts_are_the_middle_of_the_clips(one: tuple[Any, Path]) -> None:
    page = Reader((one[1] / "report.html").read_text("utf-8"))
    players = page.every("audio")
    assert 0 < len(players) <= 3 + 6
    for player in players:
        assert (player["src"] or "").startswith("data:audio/mpeg;base64,")
        samples, rate = soundfile.read(io.BytesIO(decoded(player["src"])))
        # The encoder adds silence at both ends.
        assert rate == 22050
        assert 1.55 < len(samples) / rate < 1.8
        assert len(decoded(player["src"])) < 40_000


def test_each_figure_is_written_as_png_and_csv_with_its_numbers(
    one: tuple[Any, Path], scored: tuple[Path, Path]
) -> None:
    value, folder = one
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == sorted(f"{plot}.{kind}" for plot in value["plots"] for kind in ("png", "csv"))
    assert sorted(Path(path).name for path in value["figures"]) == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folder / "figures").glob("*.png"))
    metrics = json.loads((scored[0] / "evaluation/metrics.json").read_text())
    read = {name: table(folder / f"figures/{name}.csv") for name in value["plots"]}
    assert [[int(cell) for cell in row[1:]] for row in read["confusion"][1:]] == metrics["confusion"]
    history = [json.loads(line) for line in (scored[0] / "metrics.jsonl").read_text().splitlines()]
    assert [float(row[5]) for row in read["accuracy"][1:]] == [line["valid"]["clip"]["accuracy"] for line in history]
    assert [float(row[2]) for row in read["loss"][1:]] == [line["lr"] for line in history]
    spans = [(row[0], row[3]) for row in table(scored[0] / "spans.csv")[1:]]
    for genre, *counts in read["clips"][1:]:
        own = [role for clip, role in spans if clip.startswith(genre)]
        assert [int(n) for n in counts] == [own.count(role) for role in ("train", "valid", "test")]
    assert [row[0] for row in read["tsne-genre"][1:]] == sorted(clip for clip, role in spans if role == "test")
    # The spectra of three pitches have their peaks there.
    columns = np.array([[float(cell) for cell in row] for row in read["spectra"][1:]])
    for at, genre in enumerate(read["spectra"][0][1:], 1):
        assert columns[columns[:, at].argmax(), 0] == pytest.approx(PITCHES[genre], rel=0.15)


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(
    desk: Desk, one: tuple[Any, Path], scored: tuple[Path, Path], tmp_path: Path
) -> None:
    desk.cli.json("report", scored[0], "--out", tmp_path / "again.html", *desk.places)
    assert (tmp_path / "again.html").read_bytes() == (one[1] / "report.html").read_bytes()


@pytest.mark.slow
def test_two_runs_are_beside_each_other(desk: Desk, scored: tuple[Path, Path], tmp_path: Path) -> None:
    value = desk.cli.json("report", *scored, "--out", tmp_path / "two.html", "--no-audio", *desk.places)
    page = Reader((tmp_path / "two.html").read_text("utf-8"))
    assert {"run1-confusion", "run2-confusion", "run1-tsne-genre", "run2-tsne-genre", "loss"} <= set(value["plots"])
    assert not page.every("audio")
    rows = re.findall(r"(model\.se_ratio|optimiser\.lr) (\S+) (\S+)", page.text)
    assert rows[:2] == [("model.se_ratio", "4", "2"), ("optimiser.lr", "0.002", "0.0001")]
    loss = decoded(page.every("img")[0]["src"]).decode("utf-8")
    for letter, path in zip("AB", scored, strict=True):
        label = f"{letter}: se-resnet {path.name.rpartition('-')[2][:8]}"
        assert label in page.texts
        assert label in loss
        metrics = json.loads((path / "evaluation/metrics.json").read_text())["clip"]
        assert f"{label}, per clip 12 {metrics['accuracy']:.3f}" in page.text


@pytest.mark.slow
def test_runs_of_other_files_do_not_pass_for_the_same(
    desk: Desk, scored: tuple[Path, Path], tmp_path: Path, make_clip: Any
) -> None:
    other = shutil.copytree(desk.corpus, tmp_path / "other")
    make_clip(other / "high" / "high00.wav", 2500.0)
    run = Desk(desk.cli, other, desk.res, tmp_path / "runs").train(*FOLDS)["run"]
    desk.cli.json("report", scored[0], run, "--no-audio", "--out", tmp_path / "r.html", *desk.places)
    page = Reader((tmp_path / "r.html").read_text("utf-8"))
    assert "the corpus (files and labels)" in page.texts
    assert "These runs have the same settings." not in page.text


@pytest.mark.slow
def test_a_corpus_that_runs_share_is_shown_once(desk: Desk, scored: tuple[Path, Path], tmp_path: Path) -> None:
    corpus = ("cloud", "clips", "lengths", "spectra")
    given = ("--out", tmp_path / "r.html", "--no-audio", *desk.places)
    value = desk.cli.json("report", *scored, *given)
    assert tuple(value["plots"][-4:]) == corpus
    titles = Reader((tmp_path / "r.html").read_text("utf-8")).texts
    assert [titles.count(title) for title in ("Genres", "Lengths", "Mean spectrum by genre")] == [1, 1, 1]

    # Another fold has other clips to train on: a corpus to look at of its own.
    other = desk.train(*FOLDS, "--fold", "1", "--epochs", "1")["run"]
    value = desk.cli.json("report", *scored, other, *given)
    assert value["plots"][-8:] == [f"{run}-{name}" for run in ("run1", "run3") for name in corpus]
    assert "A: se-resnet" in (both := Reader((tmp_path / "r.html").read_text("utf-8")).text.rpartition("Corpus")[2])
    assert both.count("Mean spectrum by genre") == 2


@pytest.mark.slow
def test_no_legend_lies_over_a_curve() -> None:
    """They stand above their axes, whatever the curves do."""
    lines = [
        {
            "epoch": epoch,
            "lr": 0.1,
            "train": {"cross_entropy": float(epoch)},
            "valid": {"clip": dict.fromkeys(("cross_entropy", "accuracy", "f1_macro"), epoch / 9)},
        }
        for epoch in range(10)
    ]
    nothing: Any = dict.fromkeys(("run", "config", "environment", "spans", "genre_of", "scored"))
    for count in (1, 2, 9):
        runs = [
            Recorded(
                **nothing,
                label=f"{i}: cnn1d-lstm 01234567",
                record={"best_epoch": 9},
                history=lines,
            )
            for i in range(count)
        ]
        for plot in curves(runs):
            plot.svg()  # which lays it out
            (axes,) = plot.drawn.axes
            legends = [legend.get_window_extent() for legend in plot.drawn.legends]
            assert bool(legends) is (count > 1 or plot.name == "loss")
            assert not axes.get_legend()
            assert all(each.y0 >= axes.get_window_extent().y1 - 1 and each.x1 <= plot.drawn.bbox.x1 for each in legends)
            looks = {(line.get_color(), line.get_marker()) for line in axes.lines if line.get_linestyle() == "-"}
            assert len(looks) == count


def test_without_the_corpus_the_record_is_reported_and_the_rest_is_said(
    desk: Desk, scored: tuple[Path, Path], tmp_path: Path
) -> None:
    given = ("--data-dir", tmp_path / "nowhere", "--out", tmp_path / "r.html")
    value = desk.cli.json("report", scored[0], *given, *desk.places)
    (sentence,) = value["runs"][0]["left_out"]
    assert sentence.startswith("Embeddings, excerpts and spectra are left out. ")
    assert "confusion" in value["plots"]
    assert "clips" in value["plots"]
    assert not [name for name in value["plots"] if name.startswith(("tsne", "typical", "wrong", "spectra"))]
    assert " ".join(sentence.split()) in Reader((tmp_path / "r.html").read_text("utf-8")).text


@pytest.mark.slow
def test_a_run_that_is_not_scored_or_not_trained_is_reported_with_a_sentence(desk: Desk, tmp_path: Path) -> None:
    for given, trained in ((("--seed", "5"), True), (("--seed", "5", "--epochs", "0"), False)):
        run = desk.train(*FOLDS, *given)["run"]
        value = desk.cli.json("report", run, "--out", tmp_path / "r.html", *desk.places)
        (described,) = value["runs"]
        assert not described["scored"]
        words = "is not scored: run `genrecls evaluate " if trained else "No epoch was asked for, so that there are no"
        assert any(words in each for each in described["left_out"])
        # What would be refused is not asked for.
        assert any("genrecls evaluate" in each for each in described["left_out"]) is trained
        assert ("tsne-genre" in value["plots"], "loss" in value["plots"]) == (trained, trained)
        assert ("clips" in value["plots"]) is trained  # without an epoch there is no split yet
        page = Reader((tmp_path / "r.html").read_text("utf-8"))
        assert "Nothing is scored yet." in page.texts
        assert ("No epoch was trained." in page.texts) is not trained


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("run.json", lambda text: text.replace('"accuracy": ', '"accuracy": "x", "was": '), "run.json is damaged"),
        ("metrics.jsonl", lambda text: "{}\n", "metrics.jsonl is damaged (it is not what training wrote)"),
        ("metrics.jsonl", None, "has no metrics.jsonl"),
        ("spans.csv", None, "has no spans.csv"),
        ("environment.json", lambda text: '{"data_dir": "", "groups": "", "git": "x"}', "environment.json is damaged"),
        ("evaluation/metrics.json", lambda text: text.replace('"absent_genres"', '"x"'), "it lacks 'absent_genres'"),
        ("evaluation/metrics.json", lambda text: text.replace('"precision": ', '"p": '), "it lacks 'precision'"),
        (
            "evaluation/metrics.json",
            lambda text: text.replace('"accuracy": ', '"accuracy": "x", "y": '),
            "accuracy is not a number",
        ),
    ],
)
def test_a_damaged_file_of_the_run_is_named(
    desk: Desk, scored: tuple[Path, Path], tmp_path: Path, name: str, change: Any, sentence: str
) -> None:
    shutil.copytree(scored[0], tmp_path / "run")
    path = tmp_path / "run" / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with suppress(ValueError):  # What the seal would not let through is damaged all the same.
        reseal(tmp_path / "run")
    done = desk.cli("report", tmp_path / "run", "--no-audio", "--out", tmp_path / "r.html", *desk.places)
    assert (done.status, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert done.stderr.startswith("Error: ")


def test_one_run_twice_is_wrong_usage(desk: Desk, scored: tuple[Path, Path], tmp_path: Path) -> None:
    done = desk.cli("report", scored[0], scored[0], "--out", tmp_path / "r.html", *desk.places)
    assert done.status == 2
    assert "is given twice: name each run once." in done.stderr
    assert not (tmp_path / "r.html").exists()


@pytest.mark.slow
def test_hostile_names_are_text_and_nothing_else(cli: CommandLine, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    for genre, pitch in zip(HOSTILE, PITCHES.values(), strict=True):
        for i in range(12):
            write_clip(root / genre / f"<b>{i}&quot;'.wav", pitch)
    groups = tmp_path / "groups.csv"
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.wav"))]
    with open(groups, "w", newline="") as handle:
        csv.writer(handle).writerows([("clip", "group"), *((n, f"<i>{i % 9}$\\x") for i, n in enumerate(names))])
    desk = Desk(cli, root, tmp_path / "res", tmp_path / "runs")
    run = desk.train(*FOLDS, "--groups", groups)["run"]
    cli.json("evaluate", run, *desk.places)
    value = cli.json("report", run, "--out", tmp_path / "r.html", *desk.places)
    page = Reader((tmp_path / "r.html").read_text("utf-8"))
    assert not page.every("script") + page.every("i")
    assert not [given for _, given in page.elements if "onerror" in given]
    assert len(page.every("b")) == 1  # the page's own
    assert "tsne-artist" in value["plots"]
    for genre in HOSTILE:
        assert genre in page.texts
    for image in page.every("img"):
        svg = decoded(image["src"]).decode("utf-8")
        Reader(svg)
        assert not re.search(r"<script|<img|<i>|<b>", svg)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here (Debian: apt install chromium)")
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_it(one: tuple[Any, Path], tmp_path: Path, theme: str, width: int) -> None:
    from PIL import Image

    picture, framed = tmp_path / "shot.png", tmp_path / "framed.html"
    # A window is 500 wide at least, a frame as narrow as a phone.
    frame = (
        f'<iframe src="{(one[1] / "report.html").as_uri()}" style="border:0" width="{width}" height="2400"></iframe>'
    )
    framed.write_text(f'<body style="margin:0">{frame}</body>')
    scheme = f"--blink-settings=preferredColorScheme={int(theme == 'light')}"
    subprocess.run(
        [
            *(BROWSER or "", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", scheme),
            f"--window-size={max(width, 500)},2400",
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}"),
            framed.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with Image.open(picture) as image:
        seen = np.asarray(image.convert("RGB")).astype(int)[:, :width]
    assert seen.shape == (2400, width, 3)
    ground = seen[2:10, 2:10].mean()
    assert ground > 240 if theme == "light" else ground < 40
    # Ink on the ground, of pictures too: the first curve is drawn in blue.
    contrast = np.abs(seen.mean(axis=2) - ground)
    assert (contrast > 150).mean() > 0.005
    blue = (np.abs(seen - (0x1B, 0x87, 0xCC)) < 12).all(axis=2)
    assert blue.sum() > 300
    # Nothing runs out of a narrow page at its right.
    assert (contrast[:, -4:] < 20).all()


def test_reliability_is_what_it_says() -> None:
    certain = np.array([0.95, 0.95, 0.95, 0.95, 0.65, 0.65])
    found = reliability(certain, np.array([True, True, True, False, True, False]))
    assert found.clips.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 0, 4]
    assert found.accuracy[[6, 9]].tolist() == [0.5, 0.75]
    assert found.confidence[[6, 9]] == pytest.approx([0.65, 0.95])
    assert found.error == pytest.approx((4 * 0.2 + 2 * 0.15) / 6)
    # The edges: 0 and 1 belong to the first and the last bin.
    assert reliability(np.array([0.0, 1.0]), np.array([False, True])).error == 0


def test_the_map_keeps_heaps_apart_and_is_the_same_on_any_number_of_threads() -> None:
    heaps = np.repeat(np.eye(3), 20, axis=0) * 8
    noise = uniform(0, "map", 0, name_key("map"), np.arange(180)).reshape(60, 3) - 0.5
    flat = plane(heaps + noise)
    assert flat.shape == (60, 2)
    centres = flat.reshape(3, 20, 2).mean(axis=1)
    spread = np.linalg.norm(flat.reshape(3, 20, 2) - centres[:, None], axis=2).max()
    apart = min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert apart > 2 * spread
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    again = plane(heaps + noise)
    torch.set_num_threads(threads)
    assert (flat == again).all()


def test_an_embedding_is_what_the_last_linear_layer_is_given() -> None:
    """Of every model, so that the layer makes of it the logits that the model gave."""
    from genrecls import config
    from genrecls.models.building import build
    from genrecls.models.registry import entries, settings_class
    from genrecls.models.shapes import InputShape
    from genrecls.report.embeddings import last_linear_inputs

    for name in entries():
        given = config.read({"model": {"name": name}, "batches": {"fragment": 3.0}}, settings_class)
        model = build(given.model, InputShape.of(given, 3)).eval()
        shapes = {"wave": (2, 1, given.samples), "feature": (2, 1, given.features.bins, given.frames)}
        with torch.no_grad(), last_linear_inputs(model) as kept:
            logits = model(*(torch.ones(shapes[kind]) * 0.1 for kind in given.model.inputs))
        (embedding,) = kept
        assert embedding.ndim == 2
        heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 3]
        assert any(
            head.in_features == embedding.shape[1] and torch.allclose(head(embedding), logits, atol=1e-4)
            for head in heads
        ), name


def test_names_are_cleaned_and_cut_for_pictures() -> None:
    assert shown("a\x00b\ud800c\n") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"
    assert short("x" * 30, 10) == "x" * 9 + "…"
    assert short("日本") == "日本"


def test_drawing_leaves_matplotlibs_settings_as_they_were() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style("any"):
        assert matplotlib.rcParams["text.parse_math"] is False
        from genrecls.pictures import figure

        drawn = figure(2, 2)
        drawn.subplots().set_title("$\\frac 日本")
    plot = Plot("any", "t", "c", ("a",), [(1.5,)], drawn)
    assert "$\\frac 日本" in plot.svg()
    assert plot.svg() == plot.svg()
    assert plot.csv() == "a\n1.5\n"
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(GenreclsError, match="Pictures need matplotlib"), style("any"):
        pass


def test_an_excerpt_survives_its_encoding() -> None:
    time = np.arange(22050 * 2) / 22050
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    uri = data_uri(tone, 22050)
    assert uri == data_uri(tone, 22050)
    samples, rate = soundfile.read(io.BytesIO(decoded(uri)))
    power = np.abs(np.fft.rfft(samples[:22050]))
    assert rate == 22050
    assert abs(power.argmax() - 440) <= 1
