"""What a sweep searches: the spaces of the sources, and a sentence for everything that is no space."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest

from genrecls.errors import ConfigError, GenreclsError
from genrecls.models.registry import settings_class
from genrecls.space import Choices, Range, Space, Widths, load, with_trials

SWEEPS = Path(__file__).parent.parent / "experiments" / "sweeps"
LR = "optimiser.lr = [0.1, 0.2]\n"


def space(name: str) -> Space:
    return load(SWEEPS / f"{name}.toml", {}, settings_class)


def candidates(made: Space, count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    return [made.drawn(study.ask()) for _ in range(count)]


def test_every_sweep_of_the_sources_is_there() -> None:
    assert {path.stem for path in SWEEPS.glob("*")} == {"crnn", "fma-cnn1d", "fma-cnn2d", "se-ratio"}


def test_the_sweep_of_the_crnns_has_the_lists_of_its_source() -> None:
    made = space("crnn")
    assert {name: each.values for name, each in made.dimensions.items() if isinstance(each, Choices)} == {
        "batches.batch_size": (16, 32, 64, 128),
        "optimiser.lr": (1e-4, 3e-4, 5e-4, 7e-4, 1e-3),
        "model.hidden": (64, 128, 256),
        "model.dropout": (0.2, 0.3, 0.4, 0.5),
        "model.rnn_layers": (1, 2),
        "optimiser.plateau_factor": (0.5, 0.7),
        "optimiser.step_epochs": (5, 10),
        "optimiser.step_gamma": (0.5, 0.7),
    }
    assert len(made.dimensions) == 8
    assert (made.method, made.metric, made.size) == ("bayesian", "cross_entropy", 3840)
    config = made.config(made.combination(0))
    assert (config.training.epochs, config.model.name, config.dataset.name) == (30, "cnn1d-gru", "fma-large")


def test_the_sweep_of_the_crnns_takes_each_of_them() -> None:
    for name in ("cnn1d-lstm", "cnn2d-gru", "cnn2d-lstm"):
        made = load(SWEEPS / "crnn.toml", {"model": {"name": name}}, settings_class)
        assert made.config(made.combination(3839)).model.name == name


@pytest.mark.slow
def test_every_candidate_of_the_crnns_makes_a_run() -> None:
    made = space("crnn")
    assert made.size is not None
    for number in range(made.size):
        made.config(made.combination(number))


def test_the_searches_of_the_cnns_have_the_ranges_of_their_source() -> None:
    dense = Widths(Range(4, 10, 1, False, True), Range(4, 256, 1, False, True))
    shared = {
        "optimiser.lr": Range(1e-5, 1e-4, 0, True, False),
        "model.dense": dense,
        "model.dropout": Range(0.2, 0.5, 0, False, False),
    }
    channels = Widths(Range(4, 4, 1, False, True), Range(64, 256, 1, False, True))
    assert space("fma-cnn1d").dimensions == {**shared, "model.channels": channels}
    assert space("fma-cnn2d").dimensions == {**shared, "optimiser.weight_decay": Range(0.0, 0.01, 0, False, False)}
    for name in ("fma-cnn1d", "fma-cnn2d"):
        made = space(name)
        for each in candidates(made, 60):
            config = made.config(each)
            assert (config.training.epochs, config.batches.batch_size, config.model.name) == (10, 16, name[4:])
            assert 4 <= str(each["model.dense"]).count("-") + 1 <= 10


def test_the_se_ratio_goes_from_8_to_32() -> None:
    made = space("se-ratio")
    assert made.size == 25
    ratios = [made.config(made.combination(number)).values()["model"]["se_ratio"] for number in range(25)]
    assert ratios == list(range(8, 33))


def written(folder: Path, text: str) -> Path:
    path = folder / "ours.toml"
    path.write_text(text)
    return path


def read(folder: Path, text: str, **given: dict[str, Any]) -> Space:
    return load(written(folder, text), given, settings_class)


def test_a_space_counts_its_combinations_and_the_last_changes_fastest(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        'method = "grid"\n[space]\noptimiser.lr = { low = 0.1, high = 0.3, step = 0.1 }\n'
        'batches.batch_size = { low = 8, high = 12, step = 4 }\nmodel.name = ["mlp", "cel"]\n',
    )
    assert (made.size, made.trials) == (12, 12)
    found = [tuple(made.combination(number).values()) for number in range(12)]
    assert found[:3] == [(0.1, 8, "mlp"), (0.1, 8, "cel"), (0.1, 12, "mlp")]
    assert found[-1] == (0.3, 12, "cel")
    assert all(a != b for a, b in pairwise(found))
    assert len(set(found)) == 12


def test_what_a_value_makes_meaningless_in_the_base_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('[optimiser]\nname = "sgd"\nmomentum = 0.5\n')
    made = read(tmp_path, 'base = "base.toml"\ntrials = 2\n[space]\noptimiser.name = ["sgd", "adam"]\n')
    assert "momentum" in made.settings({"optimiser.name": "sgd"})["optimiser"]
    assert made.settings({"optimiser.name": "adam"}) == {"optimiser": {"name": "adam"}}


def test_the_id_names_what_trials_are_drawn_by(tmp_path: Path) -> None:
    text = f"trials = 2\n[space]\n{LR}"
    made = read(tmp_path, text)
    assert re.fullmatch(r"ours-[0-9a-f]{8}", made.id)
    same = [
        read(tmp_path, text.replace("trials = 2", "trials = 1")),
        read(tmp_path, text, dataset={"data_dir": "elsewhere"}),
        with_trials(made, 1),
    ]
    assert {each.id for each in same} == {made.id}
    others = [
        read(tmp_path, text.replace("0.2", "0.3")),
        read(tmp_path, f"seed = 1\n{text}"),
        read(tmp_path, f'method = "random"\n{text}'),
        read(tmp_path, f'metric = "accuracy"\n{text}'),
        read(tmp_path, f'pruning = "median"\n{text}'),
        read(tmp_path, text, training={"seed": 3}),
    ]
    assert len({made.id, *(each.id for each in others)}) == 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[space", "ours.toml cannot be used (it is not valid TOML"),
        (f"trials = 1\ntrails = 2\n[space]\n{LR}", "unknown name 'trails' (did you mean 'trials'?): there are base,"),
        ("trials = 1\n", "there is no table [space]: give it lists or ranges"),
        ("trials = 1\n[space]\n", "there is no table [space]"),
        (f"base = 3\ntrials = 1\n[space]\n{LR}", "base must be the path of a recipe, not 3."),
        (f'base = "no.toml"\ntrials = 1\n[space]\n{LR}', "no.toml cannot be read"),
        (f'method = "tpe"\ntrials = 1\n[space]\n{LR}', "method must be one of bayesian, random, grid, not 'tpe'."),
        (f'metric = "loss"\ntrials = 1\n[space]\n{LR}', "metric must be one of accuracy, f1_macro, cross_entropy"),
        (f"[space]\n{LR}", "trials is missing, which only a grid has by itself"),
        (f"trials = 0\n[space]\n{LR}", "trials must be a whole number from 1 to 1000000, not 0."),
        (f"trials = true\n[space]\n{LR}", "trials must be a whole number"),
        (f"trials = 3\n[space]\n{LR}", "The sweep ours has 2 combinations, fewer than 3 trials"),
        (f"seed = -1\ntrials = 1\n[space]\n{LR}", "seed must be a whole number from 0"),
        (f"pruning_warmup = 1\ntrials = 1\n[space]\n{LR}", "pruning_warmup applies only where pruning is median or"),
        ("trials = 1\n[space]\noptimizer.lr = [1]\n", "unknown section 'optimizer' (did you mean 'optimiser'?)"),
        ("trials = 1\n[space]\noptimiser = 3\n", "optimiser must be a section with settings below it"),
        ("trials = 1\n[space]\noptimiser.lrr = [1]\n", "unknown setting optimiser.lrr (did you mean 'optimiser.lr'?)"),
        ("trials = 1\n[space]\nmodel.hidden = [64]\n", "unknown setting model.hidden"),
        ('trials = 1\n[space]\ndataset.data_dir = ["a"]\n', "unknown setting dataset.data_dir"),
        (f'base = "a\\u0000b"\ntrials = 1\n[space]\n{LR}', "base must be the path of a recipe"),
        ("trials = 1\n[space]\ntraining.epochs = [1, 0]\n", "training.epochs is 0, which leaves nothing to search by"),
        ("trials = 2\n[space]\noptimiser.lr = { low = 0.1, high = 0.1 }\n", "has 1 combinations, fewer than 2 trials"),
        (
            "trials = 1\n[space]\noptimiser.lr = { low = 0.001, high = 0.002, step = 1e-12 }\n",
            "a step of 1e-12 makes more than 1000000 values: leave step out.",
        ),
        ("trials = 1\n[space]\noptimiser.lr = 0.1\n", "nothing to search: give a list or a range."),
        ("trials = 1\n[space]\noptimiser.lr = []\n", "optimiser.lr must be a list of one or more values, each once"),
        (
            "trials = 1\n[space]\noptimiser.lr = [1, 1]\n",
            "optimiser.lr must be a list of one or more values, each once",
        ),
        ("trials = 1\n[space]\noptimiser.lr = [[1]]\n", "optimiser.lr must be a list of numbers or texts"),
        ("trials = 1\n[space]\noptimiser.lr = { low = 1 }\n", "optimiser.lr has no high: a range is"),
        ("trials = 1\n[space]\noptimiser.lr = { low = 2, high = 1 }\n", "low must be at most high (1), not 2."),
        (
            "trials = 1\n[space]\noptimiser.lr = { low = 1, high = inf }\n",
            "optimiser.lr.high is inf, which is not",
        ),
        ("trials = 1\n[space]\noptimiser.lr = { low = 1, hi = 2 }\n", "unknown name 'hi' (did you mean 'high'?)"),
        ("trials = 1\n[space]\noptimiser.lr = { low = 0, high = 1, log = true }\n", "with log, low must be above 0"),
        ("trials = 1\n[space]\noptimiser.lr = { low = 1, high = 2, log = 1 }\n", "log must be true or false, not 1."),
        ("trials = 1\n[space]\noptimiser.lr = { low = 0.1, high = 1, step = 0.4 }\n", "lead from low to high in whole"),
        ("trials = 1\n[space]\nbatches.batch_size = { low = 1.5, high = 3 }\n", "low must be a whole number, not 1.5."),
        ("trials = 1\n[space]\noptimiser.name = { low = 1, high = 2 }\n", "optimiser.name is a text: give a list of"),
        (
            'trials = 1\n[space]\nmodel.name = "mlp2"\nmodel.nodes = { layers = 0, low = 1, high = 2 }\n',
            "layers must be from 1 to 100, not [0, 0].",
        ),
        (
            'method = "grid"\n[space]\noptimiser.lr = { low = 0.1, high = 1 }\n',
            "The sweep ours is a grid, but optimiser.lr has values beyond counting",
        ),
        ("trials = 1\n[space]\nbatches.batch_size = [1, 8]\n", "has a candidate that makes no run (batches.batch_size"),
        (
            'trials = 1\n[space]\noptimiser.name = ["adam", "sgd"]\noptimiser.momentum = [0.5, 0.9]\n',
            "applies only where optimiser.name is sgd",
        ),
        (f"trials = 1\n[space]\ntraining.epochs = 0\n{LR}", "training.epochs is 0, which leaves nothing to search by"),
    ],
)
def test_what_is_no_space(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(GenreclsError) as raised:
        read(tmp_path, text)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_flag_for_what_the_space_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optimiser\.lr is of the sweep .* already: change it there\."):
        read(tmp_path, f"trials = 1\n[space]\n{LR}", optimiser={"lr": 0.5})


def test_a_space_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GenreclsError, match=r"The sweep .*none\.toml cannot be read \(No such file or directory\)"):
        load(tmp_path / "none.toml", {}, settings_class)


def test_a_range_of_small_numbers_keeps_its_steps() -> None:
    small = Range(0.0, 1e-12, 1e-13, False, False)
    assert [small.value(i) for i in range(3)] == [0.0, 1e-13, 2e-13]
    assert Range(0.1, 0.9, 0.1, False, False).value(2) == 0.3


@pytest.mark.parametrize("name", ["two\nlines.toml", "no-\udcff.toml"])
def test_a_file_whose_name_cannot_be_printed_is_no_sweep(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(f"trials = 1\n[space]\n{LR}")
    with pytest.raises(GenreclsError, match=r"cannot be printed: rename the file\.$"):
        load(path, {}, settings_class)
