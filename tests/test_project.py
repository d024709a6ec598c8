"""The project's own files agree with one another, and `make reproduce` can tell two runs apart."""

import ast
import configparser
import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import genrecls
import published
import reproduce

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = ("plots", "sweep", "export", "tensorboard", "wandb")
"""Extras of users; `dev` has them all."""
OTHERS = ("requirements-dev.txt", "requirements-bench.txt", "requirements-docs.txt")
TARGETS = (
    *(
        "setup",
        "lint",
        "test",
        "test-slow",
        "test-portable",
        "test-mutations",
        "reproduce",
        "experiments",
        "bench",
        "docs",
    ),
    "clean",
)


def setup_cfg() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def declared(section: str, key: str) -> list[Requirement]:
    return [Requirement(line) for line in setup_cfg()[section][key].split("\n") if line]


def lines_of(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """Canonical project name -> exact version, for each line that is not an option of pip's."""
    found: dict[str, str] = {}
    for line in lines_of(name):
        if line == "-r requirements-docs.txt":
            found |= pins("requirements-docs.txt")
        elif not line.startswith("-"):
            project, _, version = line.partition("==")
            found[canonicalize_name(project)] = version
    return found


def git(*arguments: str) -> str:
    """What Git says about the checkout, whoever owns it; skips the test in a source archive."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def checked_in() -> list[Path]:
    """The files of the checkout that Git tracks or would add."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_version_is_the_same_everywhere() -> None:
    assert setup_cfg()["metadata"]["version"] == "attr: genrecls.__version__"
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited[1] == genrecls.__version__
    assert f"## [{genrecls.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", ["requirements.txt", *OTHERS])
def test_every_requirement_has_one_exact_pin(name: str) -> None:
    loose = [
        line for line in lines_of(name) if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*|-e \.|-r \S+", line)
    ]
    assert loose == []
    projects = [canonicalize_name(line.partition("==")[0]) for line in lines_of(name) if not line.startswith("-")]
    assert len(projects) == len(set(projects))


def test_requirements_alone_install_the_tool() -> None:
    assert lines_of("requirements.txt")[-1] == "-e ."
    for name in OTHERS:
        assert lines_of(name)[0] == "-r requirements.txt"
        assert not pins("requirements.txt").keys() & pins(name).keys()


@pytest.mark.parametrize(
    ("section", "key", "name"),
    [
        ("options", "install_requires", "requirements.txt"),
        ("options.extras_require", "dev", "requirements-dev.txt"),
        ("options.extras_require", "bench", "requirements-bench.txt"),
        ("options.extras_require", "docs", "requirements-docs.txt"),
        *(("options.extras_require", extra, "requirements-dev.txt") for extra in OPTIONAL),
    ],
)
def test_pins_are_within_the_declared_ranges(section: str, key: str, name: str) -> None:
    pinned = pins(name)
    for wanted in declared(section, key):
        assert canonicalize_name(wanted.name) in pinned, f"{name} does not pin {wanted.name}"
        assert Version(pinned[canonicalize_name(wanted.name)]) in wanted.specifier


def test_the_extra_for_developers_has_all_others() -> None:
    everything = {str(r) for r in declared("options.extras_require", "dev")}
    assert {str(r) for extra in (*OPTIONAL, "docs") for r in declared("options.extras_require", extra)} <= everything


def test_torch_and_torchaudio_are_one_pair() -> None:
    """torchaudio's extension is built against one torch: any other fails at import."""
    wanted = {r.name: str(r.specifier) for r in declared("options", "install_requires")}
    assert wanted["torch"] == wanted["torchaudio"] == f"=={pins('requirements.txt')['torch']}"


def test_every_imported_library_is_declared() -> None:
    wanted = {r.name for r in declared("options", "install_requires")}
    wanted |= {r.name for extra in OPTIONAL for r in declared("options.extras_require", extra)}
    imported = set()
    for path in (ROOT / "genrecls").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    projects = {"jinja2": "Jinja2", "sklearn": "scikit-learn", "tomli_w": "tomli-w"}
    outside = {projects.get(name, name) for name in imported - sys.stdlib_module_names - {"genrecls"}}
    assert "numpy" in outside
    assert outside <= wanted


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sorted(re.findall(r"^  make (\S+)", shown, re.MULTILINE)) == sorted(("help", *TARGETS))


@pytest.mark.parametrize("target", ["lint", "test", "test-slow", "test-portable", "reproduce", "experiments", "docs"])
def test_targets_set_up_first(target: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-docs.txt", "setup.cfg", "pyproject.toml"):
        (tmp_path / name).touch()
    planned = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "-m venv" in planned
    assert planned.index("-m venv") < planned.index("pip install") < planned.index("touch .venv/.installed")


def make_setup(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-docs.txt", "setup.cfg", "pyproject.toml"):
        (folder / name).touch()
    shutil.copy(ROOT / "Makefile", folder)
    return subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=folder, capture_output=True, text=True, check=False
    )


def fake_python(folder: Path, fails_on: str) -> str:
    """An interpreter that fails where its arguments hold `fails_on`."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\ncase "$*" in *"{fails_on}"*) exit 1;; esac\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("fails_on", "sentence"),
    [
        (None, "There is no /nowhere/python here: install Python 3.11 or later"),
        ("version_info", "is older than Python 3.11"),
        ("ensurepip", "cannot make virtual environments: install its venv module"),
    ],
)
def test_setup_says_what_python_lacks(fails_on: str | None, sentence: str, tmp_path: Path) -> None:
    python = fake_python(tmp_path, fails_on) if fails_on else "/nowhere/python"
    done = make_setup(tmp_path, python)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_clean_keeps_corpora_and_runs(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = [
        tmp_path / "res/gtzan/a.wav",
        tmp_path / "res/cache/x/mel.npy",
        tmp_path / "experiments/runs/r/best.safetensors",
    ]
    gone = [tmp_path / ".venv/x", tmp_path / "experiments/reproduce-ab/x", tmp_path / "genrecls/__pycache__/x"]
    gone += [tmp_path / "benchmarks/__pycache__/x", tmp_path / "docs/__pycache__/x"]
    for path in (*kept, *gone, tmp_path / "tests/x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


def test_ci_runs_lint_and_all_suites() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert re.search(r"^make lint test test-slow test-portable$", script.read_text(), re.MULTILINE)


def test_large_and_private_files_are_not_checked_in() -> None:
    heavy = [
        p for p in checked_in() if p.stat().st_size > 1 << 20 or p.suffix in {".pkl", ".pickle", ".pt", ".pth", ".npy"}
    ]
    assert heavy == []


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    # In pieces, so that this file does not find itself.
    home = re.compile(
        r"(?<![\w.~-])/(?:" + "|".join(["ho" + "me/[a-z]", "ro" + "ot/", "Us" + "ers/[a-zA-Z]", "wo" + "rk/"]) + ")"
    )
    named = []
    for path in checked_in():
        content = path.read_bytes()
        if b"\0" not in content and home.search(content.decode("utf-8")):
            named.append(path.relative_to(ROOT))
    assert named == []


def test_res_and_runs_are_ignored_but_their_readme() -> None:
    names = ["res/gtzan/a.wav", "res/cache/x/mel.npy", "experiments/runs/r/config.toml", "experiments/reproduce-x/a"]
    assert git("check-ignore", "--no-index", *names, "res/README.md").split() == names


# --- experiments/reproduce.py ---

SHA = {name: f"{i:064x}" for i, name in enumerate(published.PARTS)}
RECORD = {"fingerprint": SHA["corpus"], "weights_sha256": SHA["weights"], "history_sha256": SHA["history"]}
RUN = {
    "initial.safetensors": b"initial",
    "best.safetensors": b"best" * 1000,
    "config.toml": b'[compute]\ndevice = "cpu"\nkernels = "portable"\n',
    "spans.csv": b"clip,first_frame\n",
    "draws.jsonl": b'{"order": "ab"}\n',
    "metrics.jsonl": b'{"epoch": 0}\n',
    "normalisation.safetensors": b"mean, deviation",
    "evaluation/metrics.json": b"{}",
    "evaluation/predictions.csv": b"clip,genre\n",
}
CACHE = {"mel.npy": bytes(range(256)) * 64, "index.csv": b"clip\n"}
KEPT = {**RUN, "run.json": json.dumps(RECORD).encode()}
DETAILS = json.dumps({"arrays": {"mel.npy": {"sha256": SHA["cache"]}}}).encode()
LEVEL = {"accuracy": 0.8125, "accuracy_low": 0.75, "accuracy_high": 0.875, "f1_macro": 0.8}


def outcome(folder: Path) -> reproduce.Outcome:
    for files, place in ((KEPT, folder / "runs/r"), ({**CACHE, "cache.json": DETAILS}, folder / "cache")):
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
    train = {"run": str(folder / "runs/r"), "id": "r", "status": "finished", "weights_sha256": "ab" * 32}
    evaluate = {
        "clips": 160,
        "subset": "test",
        "split": "grouped",
        "clip": LEVEL,
        "fragment": LEVEL,
        "predictions_sha256": SHA["predictions"],
    }
    return reproduce.Outcome(folder / "cache", train, evaluate)


Pair = tuple[reproduce.Outcome, reproduce.Outcome]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setattr(reproduce, "_CHUNK", 4096)
    return outcome(tmp_path / "first"), outcome(tmp_path / "second")


def test_equal_outcomes_are_identical(pair: Pair) -> None:
    assert reproduce.first_difference(*pair) == (None, len(RUN) + len(CACHE))


@pytest.mark.parametrize("name", [*CACHE, *RUN])
@pytest.mark.parametrize("side", [0, 1])
def test_one_flipped_bit_is_found(name: str, side: int, pair: Pair) -> None:
    path = (pair[side].cache if name in CACHE else pair[side].run) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    different, _ = reproduce.first_difference(*pair)
    assert different == f"{Path(name).name} (from byte {len(content) - 1} on)"


@pytest.mark.parametrize("name", [*CACHE, *RUN])
@pytest.mark.parametrize("side", [0, 1])
def test_a_missing_file_is_found(name: str, side: int, pair: Pair) -> None:
    path = (pair[side].cache if name in CACHE else pair[side].run) / name
    path.unlink()
    different, _ = reproduce.first_difference(*pair)
    assert different == f"{path.name} (missing: {path})"


def test_a_truncated_file_is_found(pair: Pair) -> None:
    (pair[1].cache / "mel.npy").write_bytes(CACHE["mel.npy"][:8192])
    different, compared = reproduce.first_difference(*pair)
    assert different == "mel.npy (from byte 8192 on)"
    assert compared == 1


def test_an_array_of_one_cache_alone_is_found(pair: Pair) -> None:
    (pair[1].cache / "wave.npy").write_bytes(b"x")
    different, _ = reproduce.first_difference(*pair)
    assert different == f"wave.npy (missing: {pair[0].cache / 'wave.npy'})"


@pytest.mark.parametrize("name", sorted({*CACHE, *RUN} - {"normalisation.safetensors"}))
def test_files_missing_in_both_places_are_no_agreement(name: str, pair: Pair) -> None:
    for side in pair:
        ((side.cache if name in CACHE else side.run) / name).unlink()
    different, _ = reproduce.first_difference(*pair)
    assert different is not None
    assert different.startswith(f"{Path(name).name} (missing: ")


def test_a_run_without_normalisation_is_compared_by_its_other_files(pair: Pair) -> None:
    for side in pair:
        (side.run / "normalisation.safetensors").unlink()
    assert reproduce.first_difference(*pair) == (None, len(RUN) + len(CACHE) - 1)


def test_other_settings_are_found_by_the_id(pair: Pair) -> None:
    pair[1].train["id"] = "s"
    assert reproduce.first_difference(*pair) == ("the runs' ids (r, s)", 0)


Working = Callable[..., list[list[str]]]


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Working:
    """Stand in for the commands: each place gets the files of an outcome. Returns what was called."""
    experiments = tmp_path / "experiments"
    experiments.mkdir()
    monkeypatch.setattr(reproduce, "EXPERIMENTS", experiments)
    file = tmp_path / "published.json"
    file.write_text(json.dumps({"synth": SHA}))
    monkeypatch.setattr(published, "of", functools.partial(published.of, file=file))
    monkeypatch.setattr(published, "publish", functools.partial(published.publish, file=file))

    def install(second: Callable[[reproduce.Outcome], object] = lambda outcome: None) -> list[list[str]]:
        called: list[list[str]] = []
        made: dict[str, reproduce.Outcome] = {}

        def command(*arguments: str | Path) -> dict[str, object]:
            words = [str(a) for a in arguments]
            called.append(words)
            if words[0] == "download":
                return {"path": str(tmp_path / "corpus")}
            res = words[words.index("--res") + 1]
            if res not in made:
                made[res] = outcome(Path(res).parent)
                if len(made) == 2:
                    second(made[res])
            if words[0] == "preprocess":
                return {"cache": str(made[res].cache)}
            return made[res].train if words[0] == "train" else made[res].evaluate

        monkeypatch.setattr(reproduce, "genrecls", command)
        return called

    return install


def place(folder: Path) -> reproduce.Place:
    return reproduce.Place(folder / "home/res", folder / "home/runs")


def test_reproduce_trains_twice_in_two_places(
    working: Working, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called = working()
    assert reproduce.reproduce("synth", None, place(tmp_path)) == 0
    assert [words[0] for words in called] == ["download", *["preprocess", "train", "evaluate"] * 2, "report"]
    first, second = (words for words in called if words[0] == "train")
    assert {"--seed", "42", "--se-ratio", "16"} <= set(first) & set(second)
    assert first[first.index("--runs") + 1] != second[second.index("--runs") + 1]
    assert first[first.index("--res") + 1] != second[second.index("--res") + 1]
    assert "--data-dir" not in first
    assert second[second.index("--data-dir") + 1] == str(tmp_path / "corpus")
    assert not list((tmp_path / "experiments").iterdir())
    shown = capsys.readouterr().out
    assert "identical (11 files)" in shown
    assert shown.count("ab" * 32) == 2
    assert re.search(r"^per clip +0\.812 +0\.750 to 0\.875 +0\.800$", shown, re.MULTILINE)
    assert "split grouped" in shown
    report = called[-1]
    assert report[1] == str(tmp_path / "home/runs/r")
    assert Path(report[2]).is_relative_to(tmp_path / "experiments")
    assert report[report.index("--res") + 1] == str(place(tmp_path).res)
    assert shown.splitlines()[-1].split() == ["report", report[report.index("--out") + 1]]


def test_reproduce_keeps_and_names_what_differs(
    working: Working, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    working(lambda outcome: (outcome.run / "metrics.jsonl").write_bytes(b"other"))
    assert reproduce.reproduce("synth", None, place(tmp_path)) == 1
    (kept,) = (tmp_path / "experiments").iterdir()
    shown = capsys.readouterr()
    assert "DIFFERENT, first in metrics.jsonl (from byte 0 on)" in shown.out
    assert str(kept) in shown.err


def test_reproduce_compares_with_what_is_published(
    working: Working, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    working()
    assert reproduce.reproduce("synth", None, place(tmp_path)) == 0
    shown = capsys.readouterr().out
    for part, digest in SHA.items():
        assert re.search(rf"^{part} +published +{digest}\n +here +{digest}$", shown, re.MULTILINE)
    assert "\nthe same bits as published\n" in shown


def moved(outcome: reproduce.Outcome) -> None:
    (outcome.run / "run.json").write_text(json.dumps({**RECORD, "weights_sha256": "f" * 64}))


def test_reproduce_fails_where_a_digest_is_not_as_published(
    working: Working, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    working()
    first = outcome(tmp_path / "home")
    moved(first)
    lines, fine = reproduce.beside_published("synth", first, publish=False)
    assert not fine
    assert lines[-1] == "NOT the same bits as published: weights"
    assert f"         here       {'f' * 64}" in "\n".join(lines)
    # What was made is published only where it is asked for, and is what is compared with from then on.
    assert reproduce.beside_published("synth", first, publish=True)[1]
    assert reproduce.beside_published("synth", first, publish=False)[1]
    assert reproduce.reproduce("synth", None, place(tmp_path / "again")) == 1


@pytest.mark.parametrize(("name", "value"), [("kernels", "native"), ("device", "cuda")])
def test_only_portable_kernels_are_published(working: Working, tmp_path: Path, name: str, value: str) -> None:
    working()
    made = outcome(tmp_path / "home")
    moved(made)
    settings = {"device": "cpu", "kernels": "portable", name: value}
    (made.run / "config.toml").write_text("[compute]\n" + "".join(f'{k} = "{v}"\n' for k, v in settings.items()))
    (line,), fine = reproduce.beside_published("synth", made, publish=False)
    assert fine
    assert value in line
    with pytest.raises(reproduce.StepError, match=value):
        reproduce.beside_published("synth", made, publish=True)


def test_nothing_is_published_of_a_corpus_that_we_cannot_have(working: Working, tmp_path: Path) -> None:
    working()
    assert reproduce.beside_published("gtzan", outcome(tmp_path / "home"), publish=False) == (
        ["no digests of gtzan are published"],
        True,
    )


def test_reproduce_uses_the_corpus_it_is_given(working: Working, tmp_path: Path) -> None:
    called = working()
    assert reproduce.reproduce("gtzan", tmp_path / "mine", place(tmp_path)) == 0
    assert "download" not in {words[0] for words in called}
    for words in called:
        assert words[0] in ("evaluate", "report") or words[words.index("--data-dir") + 1] == str(tmp_path / "mine")


def test_reproduce_takes_the_committed_recipe(working: Working, tmp_path: Path) -> None:
    called = working()
    (tmp_path / "experiments/synth.toml").write_text("")
    reproduce.reproduce("synth", None, place(tmp_path))
    for words in called:
        if words[0] in ("preprocess", "train"):
            assert words[words.index("--recipe") + 1] == str(tmp_path / "experiments/synth.toml")


def test_a_second_run_that_was_not_trained_proves_nothing(working: Working, tmp_path: Path) -> None:
    working(lambda outcome: outcome.train.update(status="found"))
    with pytest.raises(reproduce.StepError, match="was found instead of trained"):
        reproduce.reproduce("synth", None, place(tmp_path))
    assert not list((tmp_path / "experiments").iterdir())


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("raise SystemExit(3)", "`genrecls train --json` ended with exit status 3"),
        ("print('no JSON')", "did not print one JSON value but 'no JSON\\n'"),
        ("print('[]')", "printed list instead of a JSON object"),
    ],
)
def test_a_failing_command_is_named(code: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(reproduce.StepError) as failed:
        reproduce.genrecls("train")
    assert sentence in str(failed.value)
