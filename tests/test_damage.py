"""Damage of every kind, in every kind of file: a sentence that names the file, no hang, no traceback, no memory."""

import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Desk, Result, write_clip

from genrecls import cache, cachefiles, compare, divergence, listing, manifest, recipes, results, space, sweep, tracking
from genrecls.assembly import record as block_record
from genrecls.assembly import resumed
from genrecls.audit.findings import _Block
from genrecls.cachefiles import Row
from genrecls.checkpoint import Checkpoints, State
from genrecls.config import FeatureSettings
from genrecls.datasets.fma import tracks
from genrecls.datasets.folder import LOADER as FOLDER
from genrecls.datasets.index import Clip
from genrecls.datasets.loader import Source
from genrecls.datasets.synth.corpus import _Record
from genrecls.digests import file_sha256
from genrecls.errors import ConfigError, GenreclsError
from genrecls.features import Spectral
from genrecls.isolation import Recorded
from genrecls.models.registry import settings_class
from genrecls.report import records
from genrecls.run import Run

Damage = Callable[[Path], None]
"""Does something to a file that is there."""


def put(content: bytes) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def edit(change: Callable[[bytes], bytes]) -> Damage:
    def damage(path: Path) -> None:
        before = path.read_bytes()
        path.write_bytes(change(before))
        assert path.read_bytes() != before

    return damage


def swapped(old: bytes, new: bytes) -> Damage:
    return edit(lambda content: content.replace(old, new))


def flipped(at: int) -> Damage:
    return edit(lambda content: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


ANY: dict[str, Damage] = {
    "endless": endless,
    "pipe": pipe,
    "folder": folder,
    "cut": edit(lambda content: content[:-3]),
    "binary": put(b"\xff\xfe\x00" * 100),
}
JSON: dict[str, Damage] = {
    "brackets": put(b"[" * 100_000),
    "objects": put(b'{"a":' * 100_000),
    "digits": edit(lambda content: content.replace(b"{", b'{"x": ' + b"1" * 400 + b", ", 1)),
    "infinity": edit(lambda content: content.replace(b"{", b'{"x": -Infinity, ', 1)),
    "huge": edit(lambda content: content.replace(b"{", b'{"x": 1e400, ', 1)),
    "list": put(b"[]"),
    "twice": edit(lambda content: re.sub(rb'\{\s*("[^"]+": )', rb"{\1 1, \1", content, count=1)),
}
TOML: dict[str, Damage] = {
    "brackets": put(b"a = " + b"[" * 100_000),
    "dots": put(b"a" + b".a" * 100_000 + b" = 1"),
    "digits": put(b"[training]\nepochs = " + b"1" * 400),
    "infinity": put(b"[optimiser]\nlr = -inf"),
    "list": put(b"[[training]]\nepochs = 1"),
    "epochs": put(b"[training]\nepochs = 1000000000"),
}
CSV: dict[str, Damage] = {
    "long": edit(lambda content: content.rstrip(b"\n") + b"x" * 200_000 + b"\n"),
    "nul": edit(lambda content: content.rstrip(b"\n") + b"\0\n"),
    "quote": edit(lambda content: content.rstrip(b"\n") + b'\n"a\n'),
    "return": edit(lambda content: content.rstrip(b"\n") + b"\r\rx\n"),
}
OF_KIND = {".json": ANY | JSON, ".jsonl": ANY | JSON, ".toml": ANY | TOML, ".csv": ANY | CSV}
WEIGHTS: dict[str, Damage] = {
    **ANY,
    "brackets": put((100_000).to_bytes(8, "little") + b"[" * 100_000),
    "length": edit(lambda content: (2**60).to_bytes(8, "little") + content[8:]),
}


@contextmanager
def bounded() -> Iterator[None]:
    """At most 2 GB more memory, and an end to what waits for ever."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)

    def late(*_: object) -> None:
        raise AssertionError("it waits for ever")

    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**31, before[1]))
    signal.alarm(100)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def refused(made: Callable[[], object], *words: object, kind: type[GenreclsError] = GenreclsError) -> None:
    """It ends with one sentence that has these words."""
    with bounded(), pytest.raises(kind) as raised:
        made()
    assert all(str(word) in str(raised.value) for word in words), str(raised.value)
    assert str(raised.value).endswith(".")


def one_sentence(done: Result, status: int, *words: object) -> None:
    assert (done.status, done.stdout) == (status, ""), done
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(str(word) in done.stderr for word in words), done.stderr


@pytest.fixture(scope="module")
def scored(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with one scored run that has every file a run may have; not to be written to."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("scored"))
    (run,) = trained.runs.iterdir()
    shutil.copytree(run, desk.runs / run.name)
    (desk.runs / run.name / "tags.txt").write_text("ours\n")
    desk.cli.json("evaluate", desk.runs / run.name, *desk.places)
    return desk


@pytest.fixture
def whole(scored: Desk) -> Path:
    """The scored run, not to be written to."""
    (run,) = scored.runs.iterdir()
    return run


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged, without the seal, which would notice everything before types and limits do."""
    made = tmp_path / "runs" / whole.name
    shutil.copytree(whole, made)
    record = json.loads((made / "run.json").read_text())
    (made / "run.json").write_text(json.dumps({name: record[name] for name in record if name not in ("files", "seal")}))
    return made


# Runs


def read_by_all(run: Path, other: Path | None = None) -> list[str]:
    """Read a run as every command does that computes nothing. What they say against it. other: to compare it with."""
    said = []
    listed = listing.runs_below(run.parent)
    said += [each.reason for each in listed if each.reason]
    results.markdown(listed, {})
    reads: list[Callable[[], object]] = [
        lambda: records.read([Run(run)]),
        lambda: divergence.contents(Run(run)),
        lambda: Recorded.of(Run(run)),
    ]
    if other is not None:
        reads.append(lambda: compare.compare(Run(other), Run(run)))
    for read in reads:
        try:
            read()
        except GenreclsError as error:
            said.append(str(error))
    return said


RUN_FILES = (
    *("run.json", "config.toml", "environment.json", "corpus.csv", "spans.csv", "metrics.jsonl", "draws.jsonl"),
    *("timing.jsonl", "evaluation/metrics.json", "evaluation/predictions.csv"),
)


@pytest.mark.parametrize("name", [*RUN_FILES, "best.safetensors", "initial.safetensors", "normalisation.safetensors"])
def test_whatever_reads_a_run_says_which_file_is_damaged(whole: Path, copy: Path, name: str) -> None:
    good = (copy / name).read_bytes()
    for kind, damage in (OF_KIND.get(Path(name).suffix) or WEIGHTS).items():
        with bounded():
            damage(copy / name)
            said = read_by_all(copy)
        assert said, f"{kind} of {name} was believed"
        assert all(str(copy / name) in each or f"has no {name}" in each for each in said), (kind, said)
        if (copy / name).is_dir():
            (copy / name).rmdir()
        else:
            (copy / name).unlink()
        (copy / name).write_bytes(good)
    assert read_by_all(copy, whole) == []


WRONG: tuple[Any, ...] = ([], "words", True, None, -1, 10**9, {"a": 1})


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a value; of lists the first element stands for all."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inner:
        yield from leaves(each, (*path, key))


def with_wrong_values(copy: Path, name: str) -> Iterator[None]:
    """The file of that name in `copy` with a value of another type at each of its places, or without it, in turn."""
    first, newline, rest = (copy / name).read_bytes().partition(b"\n" if name.endswith("l") else b"\0")
    for path in leaves(json.loads(first)):
        for wrong in (..., *WRONG[: 3 if name == "environment.json" else None]):  # which has a hundred values
            value = json.loads(first)
            holder = value
            for key in path[:-1]:
                holder = holder[key]
            if wrong is ...:
                del holder[path[-1]]
            else:
                holder[path[-1]] = wrong
            (copy / name).write_bytes(json.dumps(value).encode() + newline + rest)
            yield


@pytest.mark.slow
def test_a_value_of_another_type_in_a_record_stops_no_list(copy: Path) -> None:
    for _ in with_wrong_values(copy, "run.json"):
        with bounded():
            (listed,) = listing.runs_below(copy.parent)
        assert listed.status != "damaged" or "run.json" in listed.reason, listed.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["run.json", "environment.json", "metrics.jsonl", "timing.jsonl", "draws.jsonl", "evaluation/metrics.json"]
)
def test_a_value_of_another_type_anywhere_stops_nothing(whole: Path, copy: Path, name: str) -> None:
    """What it may say is a sentence; whether it must is for each file's own tests."""
    for _ in with_wrong_values(copy, name):
        with bounded():
            read_by_all(copy, whole)


def test_one_list_shows_them_all(scored: Desk, whole: Path, tmp_path: Path) -> None:
    """Through the command line: the whole run is listed among damaged ones, each with its sentence."""
    planted = {}
    for name in ("run.json", "config.toml", "metrics.jsonl", "timing.jsonl", "evaluation/metrics.json"):
        for kind, damage in OF_KIND[Path(name).suffix].items():
            if name == "metrics.jsonl" and kind not in ("endless", "pipe", "folder"):
                continue  # The list takes the number of its lines alone.
            run = tmp_path / f"{name.replace('/', '-')}-{kind}"
            shutil.copytree(whole, run)
            damage(run / name)
            planted[str(run)] = run / name
    shutil.copytree(whole, tmp_path / whole.name)
    listed = {each["run"]: each for each in scored.cli.json("runs", "--runs", tmp_path)}
    for place, file in planted.items():
        assert listed[place]["status"] == "damaged", place
        assert listed[place]["reason"].startswith(f"{file} is damaged ("), listed[place]["reason"]
    assert listed[str(tmp_path / whole.name)]["status"] == "finished"
    table = scored.cli("runs", "--markdown", "--runs", tmp_path)
    assert (table.status, table.stdout.count("`genrecls train ")) == (0, 1)
    assert f"{len(planted)} runs are left out: damaged." in table.stderr


@pytest.mark.parametrize(
    ("command", "name", "damage"),
    [
        ("evaluate", "spans.csv", CSV["long"]),
        ("evaluate", "environment.json", JSON["brackets"]),
        ("predict", "normalisation.safetensors", endless),
        ("predict", "best.safetensors", WEIGHTS["length"]),
        ("compare", "draws.jsonl", pipe),
        ("report", "corpus.csv", endless),
        ("report", "evaluation/predictions.csv", CSV["return"]),
        ("reproduce", "initial.safetensors", pipe),
        ("export", "run.json", JSON["digits"]),
    ],
)
def test_commands_say_it_in_a_sentence(
    scored: Desk, whole: Path, tmp_path: Path, command: str, name: str, damage: Damage
) -> None:
    copy = tmp_path / whole.name
    shutil.copytree(whole, copy)
    damage(copy / name)
    given: tuple[object, ...] = {
        "evaluate": ("--res", scored.res),
        "predict": (scored.corpus / "high" / "high00.wav",),
        "compare": (whole,),
        "report": ("--res", scored.res, "--out", tmp_path / "report.html"),
        "reproduce": ("--res", scored.res),
        "export": (),
    }[command]
    one_sentence(scored.cli(command, copy, *given, TEST_MORE_MEMORY=str(2**31)), 1, copy / name)


def test_training_that_is_gone_on_with_does_not_wait_for_a_pipe(scored: Desk, tmp_path: Path) -> None:
    given = ("train", *scored.on_corpus, *TINY, "--res", scored.res, "--runs", tmp_path, "--json")
    stopped = scored.cli(*given, TEST_SIGNAL="SIGTERM genrecls.trainer.begin_step 5")
    assert stopped.status == 1
    (run,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert any((run / "checkpoints").iterdir())
    pipe(run / "metrics.jsonl")
    done = scored.cli(*given)
    assert (done.status, done.value["status"]) == (0, "finished")
    assert "cannot be gone on with, because it is damaged or of other features" in done.stderr


# Caches


@pytest.fixture(scope="module")
def kept_cache(scored: Desk) -> Path:
    (run,) = scored.runs.iterdir()
    return scored.res / "cache" / f"folder-{json.loads((run / 'run.json').read_text())['cache_key']}"


@pytest.fixture
def torn(kept_cache: Path, tmp_path: Path) -> Path:
    """A cache, to be damaged."""
    shutil.copytree(kept_cache, tmp_path / kept_cache.name)
    return tmp_path / kept_cache.name


NPY = {
    **ANY,
    "token": edit(lambda content: content.replace(b"(", b"((", 1)),
    "overflow": edit(lambda content: re.sub(rb"\((\d+), 32\), }  ", rb"(9999999, 32), }", content, count=1)),
    "object": edit(lambda content: content.replace(b"<f2", b"|O2")),
    "other": edit(lambda content: content.replace(b"<f2", b"<i2")),
    "version": edit(lambda content: content[:6] + b"\x03" + content[7:]),
}


@pytest.mark.parametrize("name", ["cache.json", "index.csv", "mel.npy"])
def test_a_cache_of_damaged_files(torn: Path, kept_cache: Path, name: str) -> None:
    for damage in (OF_KIND.get(Path(name).suffix) or NPY).values():
        damage(torn / name)
        refused(lambda: cache.load(torn), f"The cache {torn} is damaged ({name}: ", "remove the folder")
        if (torn / name).is_dir():
            (torn / name).rmdir()
        else:
            (torn / name).unlink()
        shutil.copy(kept_cache / name, torn / name)
    cache.load(torn)


def sealed_again(place: Path, details: dict[str, Any] | None = None) -> None:
    """Let the digests in a cache's folder fit what is there, so that only what the files say can be wrong."""
    made = json.loads((place / "cache.json").read_text()) if details is None else details
    made.pop("seal", None)
    if details is None:
        made["index_sha256"] = file_sha256(place / "index.csv")
    (place / "cache.json").write_text(cachefiles.details_text(made))


def test_a_value_of_another_type_in_a_cache_is_noticed(torn: Path, kept_cache: Path) -> None:
    """Every value of cache.json is hashed, or held against the other files; that of audio_seconds is only shown."""
    for path in leaves(json.loads((kept_cache / "cache.json").read_bytes())):
        for wrong in WRONG:
            value = json.loads((kept_cache / "cache.json").read_bytes())
            holder = value
            for key in path[:-1]:
                holder = holder[key]
            if (
                path == ("seal",)
                or holder[path[-1]] == wrong
                or (path == ("audio_seconds",) and type(wrong) in (int, float) and wrong > 0)
            ):
                continue
            holder[path[-1]] = wrong
            sealed_again(torn, value)
            refused(lambda: cache.load(torn), f"The cache {torn} is damaged (")


@pytest.mark.parametrize("column", range(5, 12))
def test_a_cell_of_an_index_that_decides_something_is_noticed(torn: Path, column: int) -> None:
    head, first, *rest = (torn / "index.csv").read_text().splitlines()
    cells = first.split(",")
    for wrong in ("", "-1", "1e3", "1" * 400, "999999999999", "inf", "٣", "words"):
        if column == 11 and cells[column] != wrong:
            continue  # a reason in words
        line = ",".join([*cells[:column], wrong, *cells[column + 1 :]])
        (torn / "index.csv").write_text("\n".join([head, line, *rest, ""]))
        sealed_again(torn)
        if line != first:
            refused(lambda: cache.load(torn), "(index.csv: ")


def test_rows_of_an_index_that_are_moved_doubled_or_taken_out_are_noticed(torn: Path) -> None:
    head, *rows = (torn / "index.csv").read_text().splitlines()
    for changed in ([*rows[1:], rows[0]], [*rows, rows[-1]], rows[:-1], []):
        (torn / "index.csv").write_text("\n".join([head, *changed, ""]))
        sealed_again(torn)
        refused(lambda: cache.load(torn), "(index.csv: ")


def test_a_cache_that_is_of_other_files_or_settings_is_not_taken(torn: Path, kept_cache: Path) -> None:
    details = json.loads((kept_cache / "cache.json").read_text())
    details["features"]["n_mels"] += 1
    sealed_again(torn, details)
    refused(lambda: cache.load(torn), "its key is not that of what is in it")


def test_train_says_which_cache_is_damaged(scored: Desk, torn: Path, tmp_path: Path) -> None:
    (tmp_path / "res" / "cache").mkdir(parents=True)
    torn.rename(tmp_path / "res" / "cache" / torn.name)
    pipe(tmp_path / "res" / "cache" / torn.name / "cache.json")
    given = ("train", *scored.on_corpus, *TINY, "--epochs", "4", "--res", tmp_path / "res", "--runs", tmp_path / "runs")
    one_sentence(scored.cli(*given), 1, tmp_path / "res" / "cache" / torn.name, "cache.json: it is a pipe and no file")


def test_damaged_records_of_blocks_are_made_again(tmp_path: Path) -> None:
    with resumed(tmp_path, 4) as array:
        for number in range(3):
            array.append(b"0123", {"number": number})
    record = tmp_path / "000001.json"
    good = record.read_bytes()
    sizes: tuple[Any, ...] = (-4, 10**18, True, "4", None, [])
    wrong = [put(block_record(each, {})) for each in sizes]
    for damage in (*ANY.values(), *JSON.values(), *wrong):
        damage(record)
        with bounded(), resumed(tmp_path, 4) as array:
            assert array.notes == [{"number": 0}]
        if record.is_dir():
            record.rmdir()
        else:
            record.unlink()
        record.write_bytes(good)
    pipe(record)
    with bounded(), resumed(tmp_path, 4) as array:
        array.append(b"4567", {"number": 1})
    with resumed(tmp_path, 4) as array:
        assert array.notes == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_a_note_that_is_not_of_its_array_is_not_believed(tmp_path: Path) -> None:
    rows = [Row(name, "a", "", "", name, "f" * 64, 0, 0, 0, 0, "", "") for name in ("one", "two")]
    block = cache._Block(rows, [], Spectral(FeatureSettings(n_mels=16)), None)
    good = [{**asdict(row), "frames": 3, "samples": 1025, "status": "ok"} for row in rows]
    size = 2 * 3 * 16 * 2
    made = block.noted(good, size)
    assert made is not None
    assert [(row.frames, row.samples, row.status) for row in made] == [(3, 1025, "ok")] * 2
    values: dict[str, tuple[Any, ...]] = {
        "frames": (10**9, -1, 2.0, True, None, "3", []),
        "samples": (0, -1, True, "3"),
        "status": ([], None, "short"),
        "reason": (None, 3),
        "clip": ("two", None),
        "sha256": ("0" * 64, []),
    }
    for change in [{name: value} for name, wrong in values.items() for value in wrong]:
        assert block.noted([{**good[0], **change}, good[1]], size) is None, change
    notes: tuple[Any, ...] = (None, [], {}, "words", good[:1], [*good, good[0]], [good[0], []])
    for note in notes:
        assert block.noted(note, size) is None
    assert block.noted(good, size + 2) is None


# What users write


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "ours.toml"
    path.write_text("[training]\nepochs = 3")
    return path


@pytest.mark.parametrize("kind", [*ANY, *TOML])
def test_a_damaged_recipe_is_wrong_usage(recipe: Path, tmp_path: Path, kind: str) -> None:
    (ANY | TOML)[kind](recipe)
    refused(lambda: recipes.load(recipe, settings_class), recipe, kind=ConfigError)
    heir = tmp_path / "heir.toml"
    heir.write_text('base = "ours.toml"')
    refused(lambda: recipes.load(heir, settings_class), recipe, kind=ConfigError)
    swept = tmp_path / "sweep.toml"
    swept.write_text('base = "ours.toml"\ntrials = 1\n[space]\noptimiser.lr = [1e-3, 2e-3]\n')
    refused(lambda: space.load(swept, {}, settings_class), recipe, kind=ConfigError)
    refused(lambda: space.load(recipe, {}, settings_class), recipe, kind=ConfigError)


@pytest.mark.parametrize(
    ("command", "damage"),
    [("train --recipe", endless), ("preprocess --recipe", TOML["brackets"]), ("sweep", TOML["epochs"])],
)
def test_damaged_recipes_through_the_command_line(scored: Desk, recipe: Path, command: str, damage: Damage) -> None:
    damage(recipe)
    one_sentence(scored.cli(*command.split(), recipe, TEST_MORE_MEMORY=str(2**31)), 2, recipe)


def groups(kind: str, damage: Damage, root: Path, file: Path) -> None:
    file.write_text("clip,group\nhigh/high00.wav,a\n")
    damage(file)
    wanted = ConfigError if kind in ("endless", "pipe", "folder") else GenreclsError
    refused(lambda: FOLDER.index(Source(res=root, data_dir=root, groups=file)), f"--groups {file}", kind=wanted)


@pytest.mark.parametrize("kind", [*ANY, "long", "nul", "quote"])
def test_damaged_groups(corpus: Path, tmp_path: Path, kind: str) -> None:
    groups(kind, put(b"clip,gro") if kind == "cut" else (ANY | CSV)[kind], corpus, tmp_path / "groups.csv")


FMA = b"""\
,set,set,artist,track
,subset,split,id,genre_top
track_id,,,,
2,small,training,1,Rock
3,small,training,1,Rock
"""


@pytest.mark.parametrize("kind", [*ANY, "nul", "quote", "longest", "digits", "negative"])
def test_damaged_lists_of_tracks(tmp_path: Path, kind: str) -> None:
    own = {
        "longest": edit(lambda content: content.replace(b"Rock", b"x" * (2**24 + 1))),
        "digits": edit(lambda content: content.replace(b"\n3,", b"\n" + b"3" * 400 + b",")),
        "cut": edit(lambda content: content[: -len(b",Rock\n")]),
        "negative": edit(lambda content: content.replace(b"\n3,", b"\n-3,")),
    }
    path = tmp_path / "tracks.csv"
    path.write_bytes(FMA)
    (ANY | CSV | own)[kind](path)
    refused(lambda: tracks.read(path), path, "genrecls download")


def test_the_record_of_synth_is_none_where_it_is_damaged(tmp_path: Path) -> None:
    record = tmp_path / "corpus.json"
    _Record(1, True, {"blues/blues-a00/blues-a00-00.wav": 5}).write(tmp_path)
    good = record.read_bytes()
    assert _Record.read(tmp_path) is not None
    changed = [
        swapped(b'"blues/blues-a00/blues-a00-00.wav": 5', new)
        for new in (b'"../a/b.wav": 5', b'"a.wav": 5', b'"/etc/a/b.wav": 5', b'"a/b/c.wav": -1', b'"a/b/c.wav": true')
    ]
    for damage in (*ANY.values(), *JSON.values(), *changed):
        damage(record)
        with bounded():
            assert _Record.read(tmp_path) is None
        if record.is_dir():
            record.rmdir()
        else:
            record.unlink()
        record.write_bytes(good)


@pytest.mark.parametrize("kind", ["endless", "pipe", "folder", "binary"])
def test_a_damaged_dotenv(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".env"
    path.touch()
    ANY[kind](path)
    with bounded(), pytest.raises(GenreclsError, match=r"\.env cannot be read \(it "):
        tracking.key_of(path)


def test_a_preface_that_is_no_file(scored: Desk) -> None:
    given = ("runs", "--runs", scored.runs, "--markdown", "--preface", "/dev/zero")
    done = scored.cli(*given, TEST_MORE_MEMORY=str(2**31))
    one_sentence(done, 1, "The preface /dev/zero cannot be read (it is a device and no file)")


# What the tool keeps for itself


def test_damaged_hashes_of_files_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.csv"
    manifest._write(path, {("a\rb", 1, 2): "0" * 64, ("c", -1, -1): "f" * 64})
    good = path.read_bytes()
    assert len(manifest._read(path)) == 2
    changed = [swapped(b",1,2,", new) for new in (b",1e3,2,", b",,2,", b",1,2")]
    for damage in (*ANY.values(), *CSV.values(), *changed):
        damage(path)
        with bounded():
            assert manifest._read(path) == {}
            manifest._write(path, {("a\rb", 1, 2): "0" * 64}) if not path.is_dir() else path.rmdir()
        path.write_bytes(good)


def test_a_damaged_audit_is_named(tmp_path: Path) -> None:
    clips = []
    for number in range(2):
        write_clip(tmp_path / "a" / f"{number}.wav", 300.0)
        clips.append(Clip(f"{number}", tmp_path / "a" / f"{number}.wav", "a"))
    hashes = manifest.Manifest({clip.id: manifest.file_sha256(clip.path) for clip in clips})
    block = _Block(tmp_path, clips, hashes)
    block.make()
    good = block.file.read_bytes()
    assert [clip for clip, _ in block.read()] == ["0", "1"]
    flips = [flipped(at) for at in range(0, len(good), len(good) // 50)]
    for damage in (*ANY.values(), *JSON.values(), *flips):
        damage(block.file)
        refused(block.read, f"{block.file} is damaged (", "remove it")
        if block.file.is_dir():
            block.file.rmdir()
        else:
            block.file.unlink()
        block.file.write_bytes(good)


def test_damaged_states_are_not_gone_on_from(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    checkpoints = Checkpoints(tmp_path, "ours")
    checkpoints.write(State(1, 0, {"a": torch.zeros(3)}, {"b": [1]}))
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    assert [state.epoch for state in checkpoints.states()] == [1]
    bfloat = edit(lambda content: content.replace(b'"F32","shape":[3]', b'"BF16","shape":[6]'))
    for damage in (*WEIGHTS.values(), bfloat):
        damage(path)
        with bounded():
            assert list(checkpoints.states()) == []
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        path.write_bytes(good)


def test_the_token_of_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "folder.txt"
    path.write_text("0123456789abcdef\n")
    assert sweep._token(path) == "0123456789abcdef"
    for kind in ("endless", "pipe", "folder", "binary"):
        ANY[kind](path)
        with bounded():
            assert sweep._token(path) is None
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        path.touch()


# Names of clips


@pytest.mark.slow
def test_a_name_with_the_ends_of_lines_in_it(scored: Desk, tmp_path: Path) -> None:
    """Such a clip is preprocessed, trained on, scored and predicted, and its name is in every list as it is."""
    music = tmp_path / "music"
    names = {}
    for genre, pitch in (("high\r", 3000.0), ("low\n", 150.0)):
        names[genre] = [f"{number}\r{number}\n\r\n,\"'.wav" for number in range(6)]
        for name in names[genre]:
            write_clip(music / genre / name, pitch)
    ids = sorted(f"{genre}/{name}" for genre, each in names.items() for name in each)
    places = ("--res", tmp_path / "res", "--runs", tmp_path / "runs")
    given = ("--data-dir", music, *places)
    cli = scored.cli
    found = cli.json("preprocess", "folder", "--data-dir", music, "--n-mels", "32", "--res", tmp_path / "res")
    assert [row.clip for row in cache.load(Path(found["cache"])).rows] == ids
    train = ("train", "--dataset", "folder", *given, *TINY, "--batch-size", "4")
    made = cli.json(*train)
    run = Path(made["run"])
    assert cli.json(*train)["status"] == "found"
    assert cli.json("evaluate", run, *places)["clips"] == len({*_clips(run, "test")})
    assert sorted({*_clips(run, "train"), *_clips(run, "valid"), *_clips(run, "test")}) == ids
    (listed,) = listing.runs_below(tmp_path / "runs")
    assert listed.status == "finished"
    assert listed.score is not None
    predicted = cli.json("predict", run, *(music / each for each in ids), "--runs", tmp_path / "runs")
    assert [each["path"] for each in predicted["files"]] == [str(music / each) for each in ids]
    (scored_run,) = records.read([Run(run)])
    assert scored_run.scored is not None
    assert set(scored_run.scored.clips) <= set(ids)
    assert cli("report", run, *places, "--out", tmp_path / "report.html").status == 0
    assert cli("audit", "folder", "--data-dir", music, "--res", tmp_path / "res").status == 0
    kept = manifest._read(next((tmp_path / "res" / "manifests").glob("*.csv")))
    assert sorted(clip for clip, *_ in kept) == ids
    (music / ids[0]).write_bytes(b"")
    one_sentence(cli("evaluate", run, *places), 1, "is not the one that")


def _clips(run: Path, role: str) -> list[str]:
    return [span.clip for span in Run(run).read_spans() if span.role == role]
