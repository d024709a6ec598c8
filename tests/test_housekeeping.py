"""`genrecls cache`: which caches are needed and by whom, and that prune removes the others and nothing else."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Desk, Result, write_clip

from genrecls import cache, housekeeping
from genrecls.lock import exclusive
from genrecls.manifest import remembered

SMALL = ("--n-mels", "32")


@pytest.fixture(scope="module")
def furnished(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with music, a working folder with its cache, and runs with one that used it; not to be written to."""
    home = tmp_path_factory.mktemp("home")
    for genre, pitch in (("high", 3000.0), ("low", 150.0)):
        for number in range(6):
            write_clip(home / "music" / genre / f"{number}.wav", pitch)
    places = ("--res", home / "res", "--runs", home / "runs")
    varied = ("--variants", "1", "--speed-probability", "1")
    train = ("train", "--dataset", "folder", "--data-dir", home / "music", *TINY, "--batch-size", "4", *places)
    trained.cli.json(*train, *varied)
    trained.cli.json("preprocess", "folder", "--data-dir", home / "music", "--n-mels", "40", "--res", home / "res")
    return home


@pytest.fixture
def home(furnished: Path, tmp_path: Path) -> Path:
    """A copy of it; its corpus lies where it lay."""
    for name in ("res", "runs"):
        shutil.copytree(furnished / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def away(furnished: Path, home: Path) -> Path:
    """The same, but that no corpus is at hand."""
    shutil.rmtree(home / "res" / "manifests")
    return home


Caches = dict[str, Any]


def listed(home: Path) -> Caches:
    """As `cache list --json` has it."""
    return {each.place.name: each.values() for each in housekeeping.shelf(home / "res", home / "runs").caches}


def pruned(desk: Desk, home: Path, *arguments: object) -> Any:
    return desk.cli.json("cache", "prune", "--res", home / "res", "--runs", home / "runs", *arguments)


def there(home: Path) -> set[str]:
    return {path.name for path in (home / "res" / "cache").iterdir()}


def removed(value: Any) -> set[str]:
    return {Path(each["cache"]).name for each in value["removed"]}


def of_kind(caches: Caches, kind: str) -> list[str]:
    return [name for name, each in caches.items() if each["kind"] == kind]


def record_of(home: Path) -> Path:
    (run,) = (path for path in (home / "runs").iterdir() if (path / "run.json").exists())
    return run / "run.json"


def test_what_is_listed(trained: Desk, furnished: Path) -> None:
    found = trained.cli.json("cache", "list", "--res", furnished / "res", "--runs", furnished / "runs")
    made = {Path(each["cache"]).name: each for each in found["caches"]}
    assert made == listed(furnished)
    (run,) = (furnished / "runs").iterdir()
    assert sorted((each["kind"], each["clips"], each["status"]) for each in made.values()) == [
        ("mel", 12, "complete"),
        ("mel", 12, "complete"),
        ("mel, variant 1", 8, "complete"),
    ]
    key = json.loads((run / "run.json").read_text())["cache_key"].split("+")[0]
    assert made[f"folder-{key}"]["needed"] == f"the run {run.name}"
    (variant,) = of_kind(made, "mel, variant 1")
    assert made[variant]["needed"] == f"the run {run.name}"
    (other,) = {*of_kind(made, "mel")} - {f"folder-{key}"}
    assert made[other]["needed"] == f"the corpus in {furnished / 'music'}"
    for name, each in made.items():
        files = [path for path in (furnished / "res" / "cache" / name).rglob("*") if path.is_file()]
        assert (each["corpus"], each["bytes"]) == ("folder", sum(path.stat().st_size for path in files))
    text = trained.cli("cache", "list", "--res", furnished / "res", "--runs", furnished / "runs")
    assert (text.status, text.stderr) == (0, "")
    assert text.stdout.splitlines()[0].split() == ["cache", "corpus", "kind", "clips", "size", "status", "needed", "by"]
    assert text.stdout.endswith(" in all, 0 bytes of them needed by nobody.\n")


def test_what_is_needed_stays(trained: Desk, home: Path) -> None:
    before = there(home)
    assert len(before) == 3
    assert pruned(trained, home) == {
        "removed": [],
        "freed": 0,
        "dry_run": False,
        "unclear_runs": [],
        "left_alone": [],
    }
    assert there(home) == before


def test_without_a_corpus_what_no_run_needs_goes(trained: Desk, away: Path) -> None:
    made = listed(away)
    nobodys = {name for name, each in made.items() if each["needed"] is None}
    assert len(nobodys) == 1
    before = there(away)
    size = sum(made[name]["bytes"] for name in nobodys)
    tried = pruned(trained, away, "--dry-run")
    assert (removed(tried), tried["freed"], tried["dry_run"]) == (nobodys, size, True)
    assert there(away) == before
    text = trained.cli("cache", "prune", "--dry-run", "--res", away / "res", "--runs", away / "runs")
    assert text.stdout.startswith(f"would remove {away / 'res' / 'cache' / nobodys.copy().pop()} (needed by nobody, ")
    assert text.stdout.endswith(" would be freed.\n")
    done = pruned(trained, away)
    assert (removed(done), done["freed"]) == (nobodys, size)
    assert there(away) == before - nobodys
    assert pruned(trained, away)["removed"] == []


@pytest.mark.parametrize("change", ["gone", "moved", "other bytes", "touched", "added"])
def test_a_corpus_is_at_hand_while_no_file_is_missing_or_known_to_be_another(
    trained: Desk, furnished: Path, tmp_path: Path, change: str
) -> None:
    shutil.copytree(furnished / "music", tmp_path / "music")
    (tmp_path / "runs").mkdir()
    given = ("preprocess", "folder", "--data-dir", tmp_path / "music", *SMALL, "--res", tmp_path / "res")
    first = Path(trained.cli.json(*given)["cache"]).name
    song = tmp_path / "music" / "low" / "0.wav"
    if change == "gone":
        song.unlink()
    elif change == "moved":
        (tmp_path / "music").rename(tmp_path / "elsewhere")
    elif change == "other bytes":
        song.write_bytes(song.read_bytes()[:-2] + b"12")
        trained.cli.json(*given)
    elif change == "touched":
        os.utime(song, ns=(1, 1))
    else:
        write_clip(tmp_path / "music" / "low" / "new.wav", 170.0)
        trained.cli.json(*given)
    assert (first in removed(pruned(trained, tmp_path))) == (change not in ("touched", "added"))


def test_excluded_genres_and_unreadable_clips_are_at_hand_too(trained: Desk, furnished: Path, tmp_path: Path) -> None:
    shutil.copytree(furnished / "music", tmp_path / "music")
    write_clip(tmp_path / "music" / "middle" / "0.wav", 700.0)
    (tmp_path / "music" / "low" / "none.wav").symlink_to("nowhere")
    (tmp_path / "runs").mkdir()
    given = ("preprocess", "folder", "--data-dir", tmp_path / "music", *SMALL, "--res", tmp_path / "res")
    trained.cli.json(*given)
    trained.cli.json(*given, "--exclude-genres", "middle")
    assert len(there(tmp_path)) == 2
    assert pruned(trained, tmp_path)["removed"] == []


def as_old(place: Path, name: str, **changed: Any) -> Path:
    """A copy of a cache with another key, and other values in its `cache.json`."""
    other = place.parent / name
    shutil.copytree(place, other)
    details = json.loads((other / "cache.json").read_text())
    (other / "cache.json").write_text(json.dumps({**details, **changed}))
    return other


def test_old_damaged_and_abandoned_ones_go_and_others_are_left_alone(trained: Desk, home: Path) -> None:
    caches = home / "res" / "cache"
    whole = next(path for path in caches.iterdir() if path.name in of_kind(listed(home), "mel"))
    before = there(home)
    as_old(whole, f"folder-{'0' * 16}", schema=1)
    as_old(whole, f"folder-{'1' * 16}", schema=99, arrays=[])
    as_old(whole, f"folder-{'2' * 16}")  # Its key is not that of its name.
    shutil.copytree(whole, caches / f"gtzan-{'3' * 16}")
    (caches / f"gtzan-{'3' * 16}" / "cache.json").write_text("[" * 100_000)
    (caches / f"gtzan-{'4' * 16}" / "parts").mkdir(parents=True)
    (caches / f"gtzan-{'4' * 16}" / "parts" / "array").write_bytes(b"#" * 1000)
    gone = there(home) - before
    (caches / f"gtzan-{'5' * 16}" / "parts").mkdir(parents=True)
    (caches / "notes").mkdir()
    (caches / "notes" / "cache.json").write_text("{}")
    (caches / "list.txt").touch()
    (caches / f"gtzan-{'6' * 16}").symlink_to(whole)
    shutil.copytree(whole, caches / f"gtzan-{'7' * 16}")
    (caches / f"gtzan-{'7' * 16}" / "thesis.txt").touch()
    with exclusive(caches / f"gtzan-{'5' * 16}" / ".lock"):
        made = listed(home)
        assert {name: made[name]["status"] for name in gone} == {
            f"folder-{'0' * 16}": "of another version",
            f"folder-{'1' * 16}": "damaged",
            f"folder-{'2' * 16}": "damaged",
            f"gtzan-{'3' * 16}": "damaged",
            f"gtzan-{'4' * 16}": "half-built",
        }
        assert made[f"gtzan-{'5' * 16}"]["status"] == "being built"
        kept = there(home) - gone
        done = pruned(trained, home)
        assert removed(done) == gone
        assert {Path(each).name for each in done["left_alone"]} == {
            *("notes", "list.txt", f"gtzan-{'6' * 16}", f"gtzan-{'7' * 16}")
        }
        assert there(home) == kept
    assert removed(pruned(trained, home)) == {f"gtzan-{'5' * 16}"}


def test_a_run_needs_what_it_was_made_with_or_is_to_go_on_with(away: Path) -> None:
    """Of another version, or half-built, or variants of an unfinished run: all that its record names."""
    caches, record = away / "res" / "cache", record_of(away)
    values = json.loads(record.read_text())
    whole = caches / f"folder-{values['cache_key'].split('+')[0]}"
    (variant,) = of_kind(listed(away), "mel, variant 1")
    old, half = f"folder-{'0' * 16}", f"folder-{'1' * 16}"
    as_old(whole, old, schema=1)
    (caches / half / "parts").mkdir(parents=True)
    for name in ("files", "seal"):  # As of a version that knew no seal.
        del values[name]
    record.write_text(json.dumps({**values, "cache_key": f"{'0' * 16}+{'1' * 16}"}))
    made = listed(away)
    assert all(made[name]["needed"] == f"the run {record.parent.name}" for name in (old, half, variant))
    assert made[whole.name]["needed"] is None
    del values["cache_arrays"]
    record.write_text(json.dumps({**values, "status": "training"}))
    made = listed(away)
    assert all(made[name]["needed"] == f"the run {record.parent.name}" for name in (whole.name, variant))
    assert made[old]["needed"] is made[half]["needed"] is None


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_bytes(b"[" * 100_000), lambda path: path.write_text("{}"), lambda path: _pipe(path)],
    ids=["brackets", "empty", "pipe"],
)
def test_what_a_damaged_run_may_need_stays(trained: Desk, away: Path, spoil: Spoil) -> None:
    spoil(record_of(away))
    caches = away / "res" / "cache"
    (caches / f"gtzan-{'4' * 16}" / "parts").mkdir(parents=True)
    before = there(away)
    done = trained.cli("cache", "prune", "--json", "--res", away / "res", "--runs", away / "runs")
    assert done.status == 0
    assert removed(done.value) == {f"gtzan-{'4' * 16}"}
    assert there(away) == before - {f"gtzan-{'4' * 16}"}
    assert f"What this run needs is not known, so that the caches it may need stay: {record_of(away)}" in done.stderr
    assert done.stderr.count("\n") == 1
    run = record_of(away).parent
    assert [each["run"] for each in done.value["unclear_runs"]] == [str(run)]
    run.rename(run.parent / "renamed")
    (caches / f"gtzan-{'4' * 16}" / "parts").mkdir(parents=True)
    assert pruned(trained, away)["removed"] == []


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_a_run_that_is_just_begun_may_need_any(trained: Desk, away: Path) -> None:
    record_of(away).unlink()
    (run,) = (away / "runs").iterdir()
    with exclusive(run / ".lock"):
        assert pruned(trained, away)["removed"] == []
    assert len(pruned(trained, away)["removed"]) == 3


def test_a_folder_of_runs_that_is_not_there(trained: Desk, home: Path) -> None:
    given = ("--res", home / "res", "--runs", home / "nowhere")
    done = trained.cli("cache", "prune", *given)
    assert (done.status, done.stdout) == (1, "")
    assert f"There is no folder {home / 'nowhere'}" in done.stderr
    seen = trained.cli("cache", "list", *given)
    assert seen.status == 0
    assert seen.stderr == f"There is no folder {home / 'nowhere'}: no run is known that might need a cache.\n"
    none = trained.cli("cache", "list", "--res", home / "none", "--runs", home / "runs")
    assert (none.status, none.stdout) == (0, f"There are no caches below {home / 'none' / 'cache'}.\n")


def test_a_cache_that_was_taken_or_finished_since_it_was_listed_stays(away: Path) -> None:
    half = away / "res" / "cache" / f"gtzan-{'4' * 16}"
    (half / "parts").mkdir(parents=True)
    found = housekeeping.shelf(away / "res", away / "runs")
    said: list[str] = []
    (half / "cache.json").touch()
    others = [each.place for each in found.spare if each.place != half]
    with exclusive(others[0] / ".lock"):
        assert housekeeping.prune(found, said.append).removed == []
    assert sorted(said) == sorted(
        [
            f"{half} was built by another process meanwhile and stays.",
            f"{others[0]} is being built by another process and stays.",
        ]
    )


def test_a_removal_that_is_killed_leaves_a_cache_that_is_built_anew(trained: Desk, furnished: Path, away: Path) -> None:
    given = ("cache", "prune", "--res", away / "res", "--runs", away / "runs")
    (name,) = (name for name, each in listed(away).items() if each["needed"] is None)
    killed = trained.cli(*given, TEST_SIGNAL="SIGKILL shutil.rmtree 1")
    assert killed.status != 0
    assert listed(away)[name]["status"] == "half-built"
    again = ("preprocess", "folder", "--data-dir", furnished / "music", "--n-mels", "40", "--res", away / "res")
    assert Path(trained.cli.json(*again)["cache"]).name == name
    cache.load(away / "res" / "cache" / name)


def test_a_place_that_is_damaged_is_no_corpus_at_hand(home: Path) -> None:
    (place,) = (home / "res" / "manifests").glob("*.json")
    assert [each.corpus for each in remembered(home / "res")] == ["folder"]
    for content in (b"[" * 100_000, b"[]", b'{"root": 3}', b'{"root": "\\u0000"}', b'{"root": "/none/such"}'):
        place.write_bytes(content)
        assert remembered(home / "res") == []


def test_it_needs_no_pytorch() -> None:
    code = "import sys, genrecls.housekeeping, genrecls.cli.cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sizes_in_words() -> None:
    sizes = (0, 999, 1000, 999_949, 10**6, 1.4e9, 2.25e13)
    assert [housekeeping.shown(size) for size in sizes] == [
        *("0 bytes", "999 bytes", "1.0 kB", "999.9 kB", "1.0 MB", "1.4 GB", "22500.0 GB")
    ]


def test_help_without_a_subcommand(trained: Desk) -> None:
    done: Result = trained.cli("cache")
    assert done.status in (0, 2)
    assert "prune" in done.stdout + done.stderr
