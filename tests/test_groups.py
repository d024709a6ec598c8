"""`genrecls compare` of groups of runs over seeds: what they share, what is refused, what is concluded."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CommandLine, Desk, reseal

from genrecls.compare import compare
from genrecls.digests import text_sha256
from genrecls.errors import ConfigError, GenreclsError
from genrecls.groups import GroupComparison, compare_groups
from genrecls.isolation import Isolation, Moved
from genrecls.run import Run
from genrecls.scores import answers

Groups = tuple[list[Path], list[Path]]
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def desk(cli: CommandLine, corpus: Path, shared_res: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Runs of this module; not to be written to."""
    return Desk(cli, corpus, shared_res, tmp_path_factory.mktemp("groups"))


def scored_run(desk: Desk, *arguments: object) -> Path:
    path = Path(desk.train("--epochs", "1", *arguments)["run"])
    desk.cli.json("evaluate", path, *desk.places)
    return path


@pytest.fixture(scope="module")
def groups(desk: Desk) -> Groups:
    """Three scored runs of each of two depths, of the same seeds."""
    made = [[scored_run(desk, "--seed", seed, *flags) for seed in SEEDS] for flags in ((), ("--dense-layers", "3"))]
    return made[0], made[1]


@pytest.fixture
def planted(groups: Groups, tmp_path: Path) -> Groups:
    """Copies, to be written to."""
    copies = tuple(
        [Path(shutil.copytree(path, tmp_path / name / str(i))) for i, path in enumerate(group)]
        for name, group in zip("ab", groups, strict=True)
    )
    return copies[0], copies[1]


def compared(given: Groups, paired: bool = False) -> GroupComparison:
    """With seals that fit what was planted."""
    for run in (*given[0], *given[1]):
        reseal(run)
    return compare_groups([Run(path) for path in given[0]], [Run(path) for path in given[1]], paired)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rewrite_predictions(run: Path, change: Callable[[str], str]) -> None:
    """With the hash to match."""
    table = run / "evaluation" / "predictions.csv"
    text = change(table.read_text())
    table.write_text(text)
    edit(run / "evaluation" / "metrics.json", lambda found: found.update(predictions_sha256=text_sha256(text)))


def accuracy(run: Path) -> float:
    value: float = json.loads((run / "evaluation/metrics.json").read_text())["clip"]["accuracy"]
    return value


@pytest.mark.slow
def test_two_groups_by_the_command(desk: Desk, groups: Groups) -> None:
    first, second = groups
    found = desk.cli.json("compare", *first, "--against", *reversed(second), "--runs", desk.runs)
    assert found["config_difference"] == {"model.dense_layers": {"a": 2, "b": 3}}
    assert (found["environment_difference"], found["contamination"]) == ({}, [])
    lines = [json.loads(line) for line in (first[0] / "draws.jsonl").read_text().splitlines()]
    assert found["shared_streams"] == [name for name in lines[0] if name != "epoch"]
    assert [each["seed"] for each in found["b"]] == found["common_seeds"] == [0, 1, 2]
    assert [each["run"] for each in found["b"]] == [str(path) for path in second]
    made = found["difference"]
    assert {"accuracy", "low", "high", "p_value"} <= set(made)
    assert (made["clips"], made["runs_a"], made["runs_b"]) == (3, 3, 3)
    means = [sum(map(accuracy, group)) / 3 for group in groups]
    assert [made["accuracy_a"], made["accuracy_b"]] == pytest.approx(means)
    assert made["accuracy"] == pytest.approx(means[1] - means[0])
    assert made["low"] <= made["accuracy"] <= made["high"]
    assert (made["permutation"]["arrangements"], made["permutation"]["smallest"]) == (20, 0.1)
    f1 = [
        sum(json.loads((path / "evaluation/metrics.json").read_text())["clip"]["f1_macro"] for path in group) / 3
        for group in groups
    ]
    assert [found["f1_difference"][f"f1_macro_{name}"] for name in "ab"] == pytest.approx(f1)
    assert found["conclusion"].startswith(
        "These two groups of 3 and 3 runs differ in model.dense_layers alone (2 against 3), uncontaminated"
    )


@pytest.mark.slow
def test_the_text_of_two_groups_and_the_other_ways_to_name_them(desk: Desk, groups: Groups) -> None:
    first, second = groups
    done = desk.cli("compare", *first, "--against", *second, "--paired")
    assert (done.status, done.stderr) == (0, "")
    assert re.search(r"^comparison +uncontaminated$", done.stdout, re.MULTILINE)
    assert re.search(r"^draws +22 of 22 streams equal for these seeds$", done.stdout, re.MULTILINE)
    assert "Permuting whole runs within pairs, on these clips: p = " in done.stdout
    assert "of 8 arrangements; it cannot fall below 0.25." in done.stdout
    assert re.search(r"^accuracy of 3 test clips +\d\.\d{3} \+- \d", done.stdout, re.MULTILINE)
    assert len(re.findall(r"\.(?:\s|$)", done.stdout.splitlines()[-1])) == 1
    ids = [path.name.rpartition("-")[2][:10] for path in (*first, *second)]
    each = [word for name in ids[3:] for word in ("--against", name)]
    places = ("--runs", desk.runs)
    assert desk.cli("compare", *ids[:3], "--paired", *places, *each).stdout == done.stdout
    # An option after the second group ends it.
    given = ("--against", *ids[3:5], *places, *ids[:3], "--against", ids[5], "--paired")
    assert desk.cli("compare", *given).stdout == done.stdout


def test_one_run_against_another_stays_what_it_was(desk: Desk, groups: Groups) -> None:
    one, two = groups[0][0], groups[1][0]
    found = desk.cli.json("compare", one, "--against", two)
    assert found == desk.cli.json("compare", one, two)
    assert found["conclusion"].startswith("These two sets of weights")
    f1 = [json.loads((path / "evaluation/metrics.json").read_text())["clip"]["f1_macro"] for path in (one, two)]
    made = found["f1_difference"]
    assert [made["f1_macro_a"], made["f1_macro_b"], made["f1_macro"]] == pytest.approx([*f1, f1[1] - f1[0]])
    assert made["low"] <= made["f1_macro"] + 1e-12
    assert made["f1_macro"] <= made["high"] + 1e-12


def test_wrong_usage(desk: Desk, groups: Groups) -> None:
    first, second = groups
    for given, words in (
        (first, "Give two runs, or two groups of runs with --against"),
        ((*first, "--against"), "requires an argument"),
        ((*first, "--against", *second[:2]), "The second group has 2 runs, too few"),
        ((*first[:2], "--paired"), "--paired is for groups"),
        ((*first, "--against", *second[:2], first[1]), "is given twice: name each run once"),
    ):
        done = desk.cli("compare", *given)
        assert (done.status, done.stdout) == (2, "")
        assert words in done.stderr


@pytest.mark.slow
def test_groups_of_other_seeds_share_no_draws_and_cannot_be_paired(desk: Desk, groups: Groups, planted: Groups) -> None:
    others = [scored_run(desk, "--seed", seed) for seed in (7, 8, 9)]
    found = compared((groups[0], others)).values()
    assert (found["config_difference"], found["shared_streams"], found["common_seeds"]) == ({}, [], [])
    assert found["uncontaminated"]
    assert found["conclusion"].startswith("These two groups of 3 and 3 runs have the same settings, uncontaminated")
    with pytest.raises(ConfigError, match="the same seeds, and these have 0, 1, 2 and 7, 8, 9: train the missing"):
        compared((groups[0], others), paired=True)
    # Where one seed is common, what they share is read from it.
    mixed = compared((groups[0], [*others[:2], planted[0][2]]))
    assert [each.a.config.training.seed for each in mixed.across] == mixed.common_seeds == [2]
    assert len(mixed.shared_streams) == 22


def test_members_that_differ_by_more_than_the_seed_are_refused(groups: Groups, planted: Groups) -> None:
    first, second = groups
    with pytest.raises(ConfigError, match=r"by their seeds alone, but .* differ in model\.dense_layers: give runs"):
        compared(([*first[:2], second[2]], [*second[:2], first[2]]))
    with pytest.raises(ConfigError, match="have the same settings and the same seed 0, and count for one run"):
        compared(([*first, planted[0][0]], second))
    with pytest.raises(ConfigError, match="The first group has 1 run, too few"):
        compared((first[:1], second))
    edit(planted[1][1] / "run.json", lambda record: record.update(fingerprint="0" * 64, schema=0))
    with pytest.raises(ConfigError, match="differ in the corpus"):
        compared((first, planted[1]))


def test_runs_that_are_not_scored_on_the_same_clips_are_refused(groups: Groups, planted: Groups) -> None:
    first, second = planted
    shutil.rmtree(second[2] / "evaluation")
    with pytest.raises(
        GenreclsError, match=r"b/2 is not scored \(run `genrecls evaluate .*b/2` first\): give runs"
    ) as caught:
        compared((groups[0], second))
    assert "\n" not in str(caught.value)
    rewrite_predictions(first[1], lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(GenreclsError, match=r"their test clips are not the same \(3 and 2, 2 of them in both\)"):
        compared((first, groups[1]))


@pytest.mark.slow
def test_what_moved_in_one_run_contaminates_the_comparison(desk: Desk, planted: Groups) -> None:
    path = planted[1][1] / "draws.jsonl"
    path.write_text(json.dumps({**json.loads(path.read_text()), "order": "0" * 64}) + "\n")
    edit(planted[0][2] / "environment.json", lambda found: found["packages"].update(torch="2.10.0"))
    for run in (path.parent, planted[0][2]):
        reseal(run)
    found = desk.cli.json("compare", *planted[0], "--against", *planted[1])
    assert found["contamination"] == ["the draws of order"]
    assert "order" not in found["shared_streams"]
    assert found["environment_difference"]["packages.torch"]["a"][1] == "2.10.0"
    assert len(found["environment_difference"]["packages.torch"]["b"]) == 1
    assert "contaminated by the draws of order" in found["conclusion"]
    assert "different software or hardware (packages.torch)" in found["conclusion"]
    text = desk.cli("compare", *planted[0], "--against", *planted[1]).stdout
    assert "  the draws of order\n" in text


def test_what_may_be_concluded_of_groups(groups: Groups) -> None:
    made = compared(groups)
    found = replace(made.difference, accuracy=0.034, low=0.012, high=0.056, p_value=0.0123)
    better = replace(made, difference=found)
    assert "; over seeds and clips B's accuracy is 3.4 points higher" in better.conclusion
    assert "(95 % interval +1.2 to +5.6), beyond chance (p = 0.012), which model.dense_layers" in better.conclusion
    assert better.conclusion.endswith("says nothing of another corpus, split or other settings.")
    paired = replace(better, paired=True)
    assert "over seeds and clips, paired by seed, B's accuracy is 3.4 points higher" in paired.conclusion
    unsure = replace(made, difference=replace(made.difference, accuracy=0.01, low=-0.02, high=0.04, p_value=0.4))
    assert unsure.conclusion.endswith(
        "; over seeds and clips their accuracies are not different beyond chance (p = 0.4), but B less A may be "
        "anything from -2.0 to +4.0 points (95 % interval), which shows no effect and rules none of these out."
    )


def altered(made: GroupComparison, **changed: Any) -> GroupComparison:
    """Beyond chance, with isolations that say otherwise."""
    across = []
    for each in made.across:
        copy = Isolation.__new__(Isolation)
        copy.__dict__.update({**vars(each), **changed})
        across.append(copy)
    return replace(made, across=tuple(across), difference=replace(made.difference, accuracy=0.1, p_value=0.01))


def test_what_cannot_be_told_of_groups(groups: Groups) -> None:
    made = compared(groups)
    two = {"model.dense_layers": {"a": 2, "b": 3}, "optimiser.lr": {"a": 0.1, "b": 0.2}}
    assert altered(made, settings=two).conclusion.endswith("and which of these brought it about cannot be told.")
    dirty = altered(made, moved=(Moved("the split", ()),)).conclusion
    assert "contaminated by the split" in dirty
    assert dirty.endswith("and what brought it about cannot be told.")
    assert altered(made, settings={}).conclusion.endswith(
        "which is chance all the same, for nothing but seeds is between them: one of 20 such tests ends so."
    )
    assert "dropout masks, which cannot be verified" in altered(made, dropout=None).conclusion


def test_the_figures_of_a_group_are_those_of_its_runs(groups: Groups, planted: Groups) -> None:
    """A planted answer moves the difference by one clip of one run."""
    run = planted[1][0]
    before = compared(groups).difference
    scored = answers(Run(run))
    assert scored is not None
    clip, genre, said = scored.clips[0], scored.genre[0], scored.predicted[0]
    other = next(name for name in ("high", "low", "middle") if name not in (genre, said)) if said == genre else genre
    rewrite_predictions(run, lambda text: re.sub(rf"(?m)^({re.escape(clip)},{genre}),{said},", rf"\1,{other},", text))
    after = compared((groups[0], planted[1])).difference
    assert abs(after.accuracy - before.accuracy) == pytest.approx(1 / 9)
    assert compare(Run(groups[0][0]), Run(run)).difference is not None
