"""Code as part of the proof: what changes it, whom that concerns, and what is declared to be the same."""

import ast
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TINY_SE_RESNET, CommandLine, Desk, reseal, unseal

import genrecls
from genrecls import provenance, sourcecode
from genrecls.errors import GenreclsError
from genrecls.models.registry import entries
from genrecls.provenance import DECIDING, LAYERS, NOT_DECIDING
from genrecls.run import Run

PACKAGE = Path(genrecls.__file__).parent

# --- What a digest is of ---

SAMPLE = '''
"""A docstring."""
from __future__ import annotations
import math as m

WIDTH = 3
"""What it is."""


class A(dict[str, int]):
    """Another."""

    def f(self, x, /, y=1.5, *rest, z: int = 2, **named) -> str:
        """And another."""
        # A comment.
        with open("é", "rb") as a, open(x) as b:
            pass
        return f"{x!r:>{y}} {{}} {z:{y}.{z}f}" "tail" if x < y <= 3 else -1e300 ** 2j

    async def g(self):
        lambda *_: (yield)
        match self:
            case {"a": [1, *others], **rest} if others:
                raise KeyError from None
        return [i async for i in x if not i][::-1]
'''


def test_a_digest_is_the_same_in_every_version_of_python() -> None:
    """Held to the values that Python 3.11, 3.12 and 3.13 all come to."""
    assert (
        sourcecode.syntax_sha256(SAMPLE.encode()) == "232ffedd8accf30519b9d95f1fe0691f2d6b55c782eb1385d9144c199a1974d5"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("# A comment.", "# Another one, much longer than the first."),
        lambda text: text.replace('"""And another."""', '"""Not the same words."""'),
        lambda text: text.replace('        """And another."""\n', ""),
        lambda text: text.replace('"""What it is."""', '"""What it was."""'),
        lambda text: text.replace("            pass\n", "            pass\n            pass\n"),
        lambda text: text.replace("WIDTH = 3", "WIDTH   =    (3)"),
        lambda text: text.replace("y=1.5", "y=1.50"),
        lambda text: text.replace('"é"', "'\\xe9'"),
        lambda text: text.replace("\n\n\nclass", "\n\n\n\n\nclass"),
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_what_moves_no_digest(change: Callable[[str], str]) -> None:
    assert change(SAMPLE) != SAMPLE
    assert sourcecode.syntax_sha256(change(SAMPLE).encode()) == sourcecode.syntax_sha256(SAMPLE.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("WIDTH = 3", "WIDTH = 3.0"),
        ("WIDTH = 3", "WIDTH = True"),
        ("x < y <= 3", "x <= y <= 3"),
        ("x < y <= 3", "y < x <= 3"),
        ("-1e300", "1e300"),
        ('"tail"', '"Tail"'),
        ("!r", "!s"),
        ("{{}}", "{{ }}"),
        ("[::-1]", "[::1]"),
        ("z: int = 2", "z: int = 4"),
        ("import math as m", "import cmath as m"),
        ("if not i", "if i"),
        (", /,", ","),
        ("async for", "for"),
    ],
)
def test_what_moves_a_digest(old: str, new: str) -> None:
    assert old in SAMPLE
    changed = SAMPLE.replace(old, new)
    assert sourcecode.syntax_sha256(changed.encode()) != sourcecode.syntax_sha256(SAMPLE.encode())


def test_help_texts_are_for_readers_and_defaults_are_not() -> None:
    def digest(default: int = 3, text: str = "Width.", network: str = "x:Y", origin: str = "B") -> str:
        settings = f'a = setting({default}, "{text}", flag="--width", low=0)'
        model = f'register("m", network="{network}", origin="{origin}", reported="{origin}")'
        return sourcecode.syntax_sha256(f"{settings}\n{model}".encode())

    assert digest(text="Breadth.", origin="C") == digest()
    assert digest(default=4) != digest() != digest(network="x:Z")


# --- Which files count ---


def modules_of(*starts: str) -> set[str]:
    found = sourcecode.closure([f"genrecls.{name}" for name in starts], lambda module: module.startswith("genrecls"))
    names = {module.removeprefix("genrecls.") for module in found}
    empty = {name for name in names if not _does_something(found.get(f"genrecls.{name}", PACKAGE / "__init__.py"))}
    return names - empty - {"genrecls"}


def _does_something(path: Path) -> bool:
    return any(not sourcecode._idle(node) for node in ast.parse(path.read_bytes()).body)


def test_all_that_makes_figures_counts_or_has_a_reason_not_to() -> None:
    """The loop, inference and evaluation with all that they import. A new module must be put into one of the tables."""
    assert modules_of("training", "trainer", "inference", "evaluation") == DECIDING | set(NOT_DECIDING)
    assert not DECIDING & set(NOT_DECIDING)
    assert set(NOT_DECIDING) >= LAYERS
    assert all(reason for reason in NOT_DECIDING.values())
    names = {f"genrecls/{name.replace('.', '/')}" for name in DECIDING}
    assert {re.sub(r"(/__init__)?\.py$", "", file) for file in provenance.package_code()} == names


def test_a_model_is_its_network_settings_layers_and_helpers() -> None:
    mixnet = provenance.model_code("mixnet")
    for name in (
        "mixnet",
        "cnn1d",
        "cnn2d",
        "dense",
        "dropout",
        "settings/mixnet",
        "settings/cnn1d",
        "settings/widths",
    ):
        assert f"genrecls/models/{name}.py" in mixnet
    assert not {"genrecls/models/registry.py", "genrecls/models/building.py", "genrecls/models/mlp.py"} & set(mixnet)
    for name in entries():
        files = set(provenance.model_code(name))
        assert files.isdisjoint(provenance.package_code())
        assert f"{entries()[name].network.partition(':')[0].replace('.', '/')}.py" in files
    # Nothing that a model imports of this package is in neither set.
    imported = {each for name in entries() for each in provenance.model_code(name)}
    assert {file.rpartition("/")[0] for file in imported} == {"genrecls/models", "genrecls/models/settings"}


def test_modules_of_the_users_own_count_and_libraries_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "__init__.py").write_text("")
    (tmp_path / "ours" / "layer.py").write_text("import numpy, json\nfrom typing import TYPE_CHECKING\nSCALE = 1\n")
    (tmp_path / "ours" / "types.py").write_text("X = 1\n")
    (tmp_path / "lonely.py").write_text(
        "from typing import TYPE_CHECKING\nfrom ours import layer\nif TYPE_CHECKING:\n    import ours.types\n"
        "def f():\n    from .ours import other\n    import torch.nn\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sourcecode._root.cache_clear()
    found = sourcecode.closure(["lonely"], lambda _: True)
    sourcecode._root.cache_clear()
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in found.items()} == {
        "lonely": "lonely.py",
        "ours": "ours/__init__.py",
        "ours.layer": "ours/layer.py",
    }


# --- Changes ---


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the package as it is, to be changed."""
    shutil.copytree(PACKAGE, tmp_path / "code" / "genrecls", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "code"


@pytest.fixture
def in_place(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That folder, taken for where genrecls lies."""
    usual = sourcecode._root
    monkeypatch.setattr(sourcecode, "_root", lambda top: copied / top if top == "genrecls" else usual(top))
    forget()
    yield copied
    forget()


def forget() -> None:
    provenance.package_code.cache_clear()
    provenance.model_code.cache_clear()


def edit(folder: Path, name: str, old: str, new: str) -> Path:
    path = folder / "genrecls" / name
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))
    return path


PLANTED = {
    "an added operation": ("models/se_resnet.py", "return self.head(", "return 1.0 * self.head("),
    "another constant of a layer": ("models/se_resnet.py", "kernel // 2", "kernel // 3"),
    "another activation": ("models/se_resnet.py", "torch.relu(", "torch.tanh("),
    "another order": ("models/se_resnet.py", "dim=(2, 3)", "dim=(3, 2)"),
    "a helper's operation": ("models/excitation.py", "sigmoid", "tanh"),
    "a helper's constant": ("models/excitation.py", "dim=(2, 3)", "dim=(2,)"),
    "a layer": ("models/dropout.py", "(1 - self.p)", "(2 - self.p)"),
    "a base class": ("models/se_resnet.py", "class SEResNet(Model):", "class SEResNet(Model, object):"),
    "a default of its settings": ("models/settings/se_resnet.py", "depth: int = setting(18", "depth: int = setting(34"),
    "a new attribute": ("models/se_resnet.py", "super().__init__()\n", "super().__init__()\n        self.eps = 1e-5\n"),
}
HARMLESS = {
    "a comment": ("models/se_resnet.py", "import torch\n", "import torch  # which we like\n"),
    "a docstring": ("models/se_resnet.py", '"""SE-ResNet: ', '"""SE-ResNet, or: '),
    "formatting": ("models/se_resnet.py", "import torch\n", "\n\n\nimport torch\n\n"),
    "a help text": ("models/settings/se_resnet.py", "Layers: 18 and 34", "How many layers: 18 and 34"),
    "another model": ("models/mlp.py", "torch", "torch "),
    "what models there are": ("models/registry.py", '    "genrecls.models.settings.crnn",\n', ""),
}


@pytest.fixture(scope="module")
def trained(cli: CommandLine, corpus: Path, shared_res: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with one finished run of the model that is changed below; not to be written to."""
    desk = Desk(cli, corpus, shared_res, tmp_path_factory.mktemp("runs"), TINY_SE_RESNET)
    desk.train()
    return desk


@pytest.fixture(scope="module")
def run(trained: Desk) -> Run:
    (path,) = trained.runs.iterdir()
    return Run(path)


@pytest.mark.parametrize("what", PLANTED)
def test_a_changed_model_is_noticed(in_place: Path, run: Run, what: str) -> None:
    name, old, new = PLANTED[what]
    edit(in_place, name, old, new)
    found = provenance.changes(run)
    assert found is not None
    assert (found.model, found.package) == ((f"genrecls/{name}",), ())
    with pytest.raises(GenreclsError, match=re.escape(str(in_place / "genrecls" / name))):
        list(provenance.remarks(run))


@pytest.mark.parametrize("what", HARMLESS)
def test_what_a_model_does_not_depend_on_is_not(in_place: Path, run: Run, what: str) -> None:
    name, old, new = HARMLESS[what]
    edit(in_place, name, old, new)
    found = provenance.changes(run)
    assert found is not None
    assert (found.model, found.package) == ((), ())
    assert list(provenance.remarks(run)) == []


def test_a_new_helper_and_one_that_is_gone(in_place: Path, run: Run) -> None:
    (in_place / "genrecls/models/extra.py").write_text("SCALE = 2\n")
    edit(in_place, "models/se_resnet.py", "import torch\n", "import torch\nfrom genrecls.models.extra import SCALE\n")
    found = provenance.changes(run)
    assert found is not None
    assert found.model == ("genrecls/models/extra.py", "genrecls/models/se_resnet.py")
    (in_place / "genrecls/models/excitation.py").unlink()
    forget()
    found = provenance.changes(run)
    assert found is not None
    assert "genrecls/models/excitation.py" in found.model


# --- Through the command line ---


@pytest.fixture(scope="module")
def scored(trained: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two scored runs; not to be written to."""
    desk = Desk(trained.cli, trained.corpus, trained.res, tmp_path_factory.mktemp("scored"), TINY_SE_RESNET)
    for seed in (0, 1):
        made = desk.train("--seed", seed)
        desk.cli.json("evaluate", made["run"], *desk.places)
    return desk


def test_no_command_uses_a_run_of_another_model(scored: Desk, copied: Path, tmp_path: Path) -> None:
    run, other = scored.runs.iterdir()
    song = scored.corpus / "high" / "high00.wav"
    changed = edit(copied, *PLANTED["another activation"])
    seed = Run(run).config.training.seed
    for command in (
        ("train", *scored.on_corpus, *TINY_SE_RESNET, "--seed", seed, *scored.places),
        ("evaluate", run, *scored.places),
        ("predict", run, song),
        ("export", run, "--out", tmp_path / "model.onnx"),
        ("report", run, "--out", tmp_path / "report.html", *scored.places),
        ("compare", run, other),
    ):
        done = scored.cli(*command, "--json", TEST_CODE=str(copied))
        assert (done.status, done.stdout) == (1, ""), command
        assert done.stderr == (
            f"Error: The code of the model of {run} has changed since it was trained ({changed}): restore it, or "
            "remove the folder and train again.\n"
        )
    listed = scored.cli.json("runs", "--runs", scored.runs, TEST_CODE=str(copied))
    assert [each["status"] for each in listed] == ["changed", "changed"]
    assert all(str(changed) in each["reason"] for each in listed)
    ranked = scored.cli("runs", "--top", "3", "--runs", scored.runs, TEST_CODE=str(copied))
    assert (ranked.status, ranked.stdout) == (0, "There are no runs to order.\n")
    assert ranked.stderr == "2 runs are left out: changed, for the code of its model is another now.\n"
    table = scored.cli("runs", "--markdown", "--runs", scored.runs, TEST_CODE=str(copied))
    assert "2 runs are left out: changed" in table.stderr
    assert "There are no scored runs." in table.stdout
    verified = scored.cli("verify", run, *scored.places, "--json", TEST_CODE=str(copied))
    assert verified.status == 1
    assert verified.value["runs"][0]["changed"] == [str(changed)]
    # Undone, all is well again.
    assert scored.cli.json("evaluate", run, *scored.places)
    assert scored.cli.json("verify", run, *scored.places)["runs"][0]["verified"] is True


@pytest.mark.slow
def test_other_code_of_the_package_is_a_remark_but_to_train(scored: Desk, copied: Path, tmp_path: Path) -> None:
    run, other = scored.runs.iterdir()
    changed = edit(copied, "loss.py", "return ", "return 1.0 * ")
    seed = Run(run).config.training.seed
    remark = f"{run} was trained by other code of genrecls than this ({changed}; version {genrecls.__version__}): "
    song = scored.corpus / "high" / "high00.wav"
    for command in (
        ("evaluate", run, *scored.places),
        ("predict", run, song),
        ("report", run, "--no-audio", "--out", tmp_path / "report.html", *scored.places),
        ("compare", run, other),
    ):
        done = scored.cli(*command, TEST_CODE=str(copied))
        assert done.status == 0
        assert done.stderr.startswith(remark + "`genrecls reproduce` says whether")
        assert done.stderr.count("\n") == 1 + (command[0] == "compare")
    given = ("train", *scored.on_corpus, *TINY_SE_RESNET, "--seed", seed, *scored.places)
    done = scored.cli(*given, TEST_CODE=str(copied))
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr == f"Error: {remark}restore it, or remove the folder and train again.\n"
    done = scored.cli("runs", "--runs", scored.runs, TEST_CODE=str(copied))
    assert "2 runs were trained by other code of genrecls than this" in done.stderr
    assert done.stdout.count(" finished\n") == 2
    done = scored.cli("verify", run, *scored.places, "--json", TEST_CODE=str(copied))
    assert (done.status, done.value["runs"][0]["changed"]) == (1, [str(changed)])


@pytest.mark.slow
def test_reproduce_finds_out_whether_the_change_matters(scored: Desk, copied: Path) -> None:
    run, _ = scored.runs.iterdir()
    edit(copied, *PLANTED["another order"])
    edit(copied, "loss.py", "return ", "return 1 * ")
    done = scored.cli("reproduce", run, "--cached", *scored.places, "--json", TEST_CODE=str(copied))
    assert done.status == 0, done.stderr
    assert done.value["identical"] is True
    apart = {each["name"] for each in done.value["environment_differences"]}
    assert apart == {"code.genrecls/models/se_resnet.py", "code.genrecls/loss.py"}


def test_training_is_not_gone_on_with_by_other_code(desk: Desk, copied: Path) -> None:
    given = ("train", *desk.on_corpus, *TINY_SE_RESNET, *desk.places)
    stopped = desk.cli(*given, TEST_SIGNAL="SIGTERM genrecls.trainer.update 3")
    assert stopped.status == 1
    changed = edit(copied, *PLANTED["another constant of a layer"])
    done = desk.cli(*given, TEST_CODE=str(copied))
    assert done.status == 1
    assert f"has changed since it was begun ({changed})" in done.stderr
    (listed,) = desk.cli.json("runs", "--runs", desk.runs, TEST_CODE=str(copied))
    assert listed["status"] == "unfinished"
    assert str(changed) in listed["reason"]
    assert desk.cli.json(*given)["status"] == "resumed"


@pytest.mark.slow
def test_runs_from_before_the_seal(scored: Desk, tmp_path: Path) -> None:
    shutil.copytree(scored.runs, tmp_path / "runs")
    desk = Desk(scored.cli, scored.corpus, scored.res, tmp_path / "runs")
    run, other = desk.runs.iterdir()
    unseal(run)
    sentence = f"{run} is of a version of genrecls that did not seal runs"
    before = set(run.rglob("*"))
    for command in (
        ("evaluate", run, *desk.places),
        ("predict", run, desk.corpus / "high" / "high00.wav"),
        ("compare", run, other),
        ("report", run, "--no-audio", "--out", tmp_path / "report.html", *desk.places),
        ("reproduce", run, "--cached", *desk.places),
    ):
        done = desk.cli(*command)
        assert done.stderr.count(sentence) == 1, done.stderr
        assert done.status == 0, done.stderr
    listed = {each["run"]: each for each in desk.cli.json("runs", "--runs", desk.runs)}
    assert (listed[str(run)]["status"], listed[str(other)]["status"]) == ("unsealed", "finished")
    assert listed[str(run)]["test"] is not None
    table = desk.cli("runs", "--markdown", "--runs", desk.runs)
    assert "1 run is left out: unsealed, so that nobody can know" in table.stderr
    ranked = desk.cli("runs", "--top", "2", "--runs", desk.runs)
    assert "1 of these runs is unsealed" in ranked.stderr
    verified = desk.cli("verify", run, *desk.places, "--json")
    assert verified.status == 1
    assert verified.value["runs"][0]["changed"] == []
    assert sentence in verified.value["runs"][0]["reasons"][0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(map(warnings.warn, provenance.remarks(Run(run))))
    assert sentence in str(caught[0].message)
    assert set(run.rglob("*")) == before


def test_load_warns_and_refuses(scored: Desk, in_place: Path) -> None:
    run, _ = scored.runs.iterdir()
    edit(in_place, *PLANTED["a layer"])
    with pytest.raises(GenreclsError, match="has changed since it was trained"):
        genrecls.load(run)


def test_a_model_that_is_there_no_more(scored: Desk, tmp_path: Path) -> None:
    """Its run is listed, and the sentence names the files that are gone."""
    shutil.copytree(scored.runs, tmp_path / "runs")
    run, other = (tmp_path / "runs").iterdir()
    record = json.loads((run / "run.json").read_text())
    record["code"]["name"] = "se-resnot"
    record["code"]["model"]["genrecls/models/se_resnot.py"] = "0" * 64
    (run / "run.json").write_text(json.dumps(record))
    reseal(run)
    listed = {each["run"]: each for each in scored.cli.json("runs", "--runs", tmp_path / "runs")}
    assert listed[str(run)]["status"] == "changed"
    assert "genrecls/models/se_resnot.py" in listed[str(run)]["reason"]
    assert listed[str(other)]["status"] == "finished"
    done = scored.cli("predict", run, scored.corpus / "high" / "high00.wav")
    assert done.status == 1
    assert "genrecls/models/se_resnot.py" in done.stderr


# --- What is declared to be the same ---


def test_code_that_is_declared_equivalent_is_no_change(
    in_place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(in_place, *PLANTED["a base class"])
    was = provenance.combined(provenance.recorded(run.record["code"], "model"))
    here = provenance.combined(provenance.model_code("se-resnet"))
    found = provenance.changes(run)
    assert found is not None
    assert found.model
    for table in ([(was, here, "x")], [(here, was, "x")], [(was, "0", "x"), ("0", "1", "x"), ("1", here, "x")]):
        monkeypatch.setattr(provenance, "declared", lambda table=table: table)
        provenance._classes.cache_clear()
        found = provenance.changes(run)
        assert found is not None
        assert found.model == ()
    provenance._classes.cache_clear()


def test_the_table_of_equivalent_code_leads_to_the_code_that_is_here() -> None:
    here = {provenance.representative(provenance.combined(provenance.package_code()))}
    here |= {provenance.representative(provenance.combined(provenance.model_code(name))) for name in entries()}
    stale = [row for row in provenance.declared() if provenance.representative(row[1]) not in here]
    assert stale == [], "these lines of genrecls/equivalent_code.toml lead to no code that is here: remove them"
    for *pair, reason in provenance.declared():
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in pair)
        assert reason
