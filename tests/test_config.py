"""Settings: defaults are valid, wrong ones are named, and one id is pinned."""

import dataclasses
from pathlib import Path

import pytest

from genrecls import config, recipes
from genrecls.config import Config
from genrecls.errors import ConfigError, GenreclsError
from genrecls.identity import run_id
from genrecls.models.registry import settings_class
from genrecls.settings import setting


def read(**sections: dict[str, object]) -> Config:
    return config.read(sections, settings_class)


def resolved(settings: Config) -> Config:
    compute = dataclasses.replace(settings.compute, device="cpu", precision="bf16", threads=2)
    split = dataclasses.replace(settings.split, policy="filtered")
    return dataclasses.replace(settings, compute=compute, split=split)


def test_the_pinned_id() -> None:
    """It changes only with a new schema number: otherwise nobody's runs are found again."""
    settings = resolved(read(training={"seed": 42}, model={"se_ratio": 8}))
    assert run_id(settings, "fingerprint", "cache") == PINNED


PINNED = "d4129efca01b"


def test_values_read_back_as_they_were() -> None:
    settings = read(
        optimiser={"name": "sgd", "momentum": 0.5}, split={"policy": "kfold", "fold": 2}, model={"width": 16}
    )
    assert config.read(settings.values(), settings_class) == settings


def test_a_default_and_its_being_written_are_one_id() -> None:
    written = resolved(read(optimiser={"lr": read().optimiser.lr}, model={"name": "se-resnet"}))
    assert run_id(written, "f", "c") == run_id(resolved(read()), "f", "c")


@pytest.mark.parametrize("section", [name for name in config.SECTIONS if name != "model"])
def test_every_setting_that_changes_bits_changes_the_id(section: str) -> None:
    # With both inputs, with variants and with all augmentations, so that every setting has a meaning.
    names = [field.name for field, _ in config.described(config.AugmentSettings) if field.name.endswith("_probability")]
    varied: dict[str, object] = {"variants": 1, "wave_mask_low": 0.05, **dict.fromkeys(names, 0.5)}
    usual = resolved(read(model={"name": "mixnet"}, augment=varied))
    for field, known in config.described(config.SECTIONS[section]):
        if not known.changes_bits or known.applies is not None or (known.only and not known.only.holds(usual)):
            continue
        value = getattr(getattr(usual, section), field.name)
        others = [choice for choice in known.choices if choice not in (value, "auto")]
        other = (
            others[0]
            if others
            else f"{value}x"
            if isinstance(value, str)
            else value * 0.5
            if type(value) is float
            else value + 1
        )
        if other == value:
            other = min(100.0, known.high or 100.0)
        moved = dataclasses.replace(
            usual, **{section: dataclasses.replace(getattr(usual, section), **{field.name: other})}
        )
        assert run_id(moved, "f", "c") != run_id(usual, "f", "c"), field.name


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"optimiser": {"lrr": 1.0}}, "Unknown setting optimiser.lrr (did you mean 'lr'?)"),
        ({"model": {"squeeze": 4}}, "Unknown setting model.squeeze of the model se-resnet"),
        ({"optimizer": {"lr": 1.0}}, "Unknown section 'optimizer' of settings (did you mean 'optimiser'?)"),
        ({"optimiser": 3}, "'optimiser' must be a section of settings"),
        ({"model": {"name": "se-resnext"}}, "Unknown model 'se-resnext' (did you mean 'se-resnet'?)"),
        ({"model": {"name": 3}}, "model.name (--model) must be a text, not 3"),
        ({"optimiser": {"lr": 0}}, "optimiser.lr (--lr) must be above 0 and at most 100, not 0.0"),
        ({"optimiser": {"lr": float("nan")}}, "optimiser.lr (--lr) must be a finite number"),
        ({"optimiser": {"lr": "fast"}}, "optimiser.lr (--lr) must be a number, not 'fast'"),
        ({"training": {"epochs": 2.5}}, "training.epochs (--epochs) must be a whole number, not 2.5"),
        ({"training": {"epochs": True}}, "training.epochs (--epochs) must be a whole number, not True"),
        ({"training": {"seed": -1}}, "training.seed (--seed) must be from 0 to"),
        ({"training": {"seed": 2**63}}, "training.seed (--seed) must be from 0 to"),
        ({"batches": {"batch_size": 1}}, "batches.batch_size (--batch-size) must be from 2 to"),
        (
            {"compute": {"precision": "fp16"}},
            "compute.precision (--precision) must be one of auto, fp32, bf16, not 'fp16'",
        ),
        ({"split": {"policy": "filterd"}}, "(did you mean 'filtered'?)"),
        ({"split": {"fold": 1}}, "split.fold (--fold) applies only where split.policy is kfold, not auto"),
        ({"split": {"policy": "kfold", "fold": 5}}, "split.fold (--fold) must be below split.folds (--folds 5), not 5"),
        ({"split": {"policy": "filtered", "seed": 1}}, "split.seed (--split-seed) applies only where"),
        ({"optimiser": {"momentum": 0.8}}, "optimiser.momentum (--momentum) applies only where optimiser.name is sgd"),
        (
            {"optimiser": {"step_gamma": 0.5}},
            "optimiser.step_gamma (--step-gamma) applies only where optimiser.schedule is step or step-plateau, "
            "not cosine: leave it out.",
        ),
        (
            {"training": {"minimum_change": 0.1}},
            "training.minimum_change (--minimum-change) applies only to training that --patience can end, which is not "
            "so for se-resnet with the other settings: leave it out.",
        ),
        ({"features": {"hop_length": 4096}}, "features.hop_length (--hop-length) must be at most features.n_fft"),
        ({"features": {"f_max": 12000}}, "features.f_max (--f-max) must be at most half the sample rate (11025 Hz)"),
        ({"features": {"f_min": 9000, "f_max": 8000}}, "features.f_min (--f-min) must be below the highest frequency"),
        (
            {"augment": {"noise_snr_low": 50}},
            "noise_snr_low must be at most augment.noise_snr_high (40), not 50",
        ),
        ({"augment": {"pitch_probability": 1}}, "(--pitch-probability) applies only to variants (--variants)"),
        ({"augment": {"variants": 2}}, "augment.variants (--variants) applies only to splits of whole clips"),
        ({"augment": {"gain_probability": 0.5}}, "applies only to models that take the waveform, and to variants"),
        ({"augment": {"wave_mask_low": 0.05}}, "augment.wave_mask_low applies only to models that take the waveform"),
        (
            {"augment": {"mask_probability": 0, "time_masks": 3}},
            "augment.time_masks applies only to models that take a 2-D feature, with augment.mask_probability above 0",
        ),
        ({"augment": {"time_shift": 0.3}}, "with augment.time_shift_probability above 0"),
        (
            {"augment": {"variants": 2, "pitch_probability": 1, "stretch": 0.2}},
            "augment.stretch applies only to variants (--variants), with augment.stretch_probability above 0",
        ),
        (
            {"split": {"policy": "contaminated"}, "augment": {"variants": 2, "stretch_probability": 1}},
            "applies only to splits of whole clips (any but contaminated)",
        ),
        (
            {"model": {"name": "cnn1d"}, "augment": {"variants": 2, "noise_probability": 1}},
            "with something to render: a probability of stretching, pitch or speed, or, for models without the wave",
        ),
        ({"model": {"depth": 20}}, "model.depth (--depth) must be one of 18, 34, 50, not 20"),
        ({"model": {"width": 8, "se_ratio": 16}}, "model.se_ratio (--se-ratio) must be at most 8"),
    ],
)
def test_wrong_settings_are_named(sections: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.read(sections, settings_class)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_model_of_the_waveform_may_skip_further_than_a_window() -> None:
    assert read(model={"name": "cnn1d"}, features={"hop_length": 4096}).features.hop_length == 4096


def test_excluded_genres_have_one_form() -> None:
    """Order, blanks and repeats make no run of their own, nor does the way a system writes an accent."""
    (first, second) = (
        read(dataset={"exclude_genres": text}).dataset
        for text in (" Soul-RnB,Easy Listening ,, Soul-RnB,Forro\u0301", "Easy Listening,Forr\u00f3,Soul-RnB")
    )
    assert first == second
    assert first.excluded == ("Easy Listening", "Forr\u00f3", "Soul-RnB")
    assert read(dataset={"exclude_genres": " , "}).dataset == read().dataset
    assert read().dataset.excluded == ()


def test_assignments() -> None:
    assert recipes.parse_assignment("optimiser.lr=1e-3") == ("optimiser", "lr", 0.001)
    assert recipes.parse_assignment("model.name=se-resnet") == ("model", "name", "se-resnet")
    assert recipes.parse_assignment('dataset.data_dir="3"') == ("dataset", "data_dir", "3")
    for wrong in ("lr=3", "optimiser.lr", ".lr=3", "optimiser.=3"):
        with pytest.raises(ConfigError, match=r"section\.field=value"):
            recipes.parse_assignment(wrong)


@pytest.mark.parametrize("text", ["2048-10-12", "10:20:30", "9" * 30, "9" * 5000, "0x" + "f" * 5000, "[" * 5000])
def test_what_toml_would_make_more_of_is_a_text(text: str) -> None:
    assert recipes.parse_assignment(f"model.nodes={text}") == ("model", "nodes", text)


def test_an_assignment_of_several_lines_is_one_text() -> None:
    for text in ("0.1\nseed = 3", "0.1\n[training]\nseed = 3", "0.1\n# or 0.2", "0.1\r\nseed = 3"):
        assert recipes.parse_assignment(f"optimiser.lr={text}") == ("optimiser", "lr", text)
    assert recipes.parse_assignment("optimiser.lr=0.1\n") == ("optimiser", "lr", 0.1)


def recipe(path: Path, text: str = "") -> config.Nested:
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return recipes.load(path, settings_class)


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(GenreclsError, match="cannot be read"):
        recipe(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="not valid TOML"):
        recipe(tmp_path / "torn.toml", "[optimiser\n")
    for value in ("9" * 30, "9" * 5000, "[" * 5000, f"[{{a = {2**63}}}]", "inf"):
        with pytest.raises(ConfigError, match=r"huge\.toml cannot be used \(.*(64 bits|digits|levels|is inf)"):
            recipe(tmp_path / "huge.toml", f"[optimiser]\nlr = {value}\n")
    with pytest.raises(ConfigError, match=r"In the recipe .*other\.toml: Unknown section 'optimizer'"):
        recipe(tmp_path / "other.toml", "[optimizer]\nlr = 1\n")
    with pytest.raises(ConfigError, match=r"In the recipe .*value\.toml: optimiser\.lr \(--lr\) must be above 0"):
        recipe(tmp_path / "value.toml", "[optimiser]\nlr = 0\n")


def test_a_recipe_states_its_difference(tmp_path: Path) -> None:
    recipe(tmp_path / "all.toml", "[training]\nepochs = 7\nseed = 3\n[optimiser]\nlr = 0.5\n")
    recipe(tmp_path / "a/first.toml", 'base = "../all.toml"\n[training]\nepochs = 8\n')
    made = recipe(tmp_path / "b/second.toml", 'base = "../a/first.toml"\n[optimiser]\nname = "adam"\n')
    assert made == {"training": {"epochs": 8, "seed": 3}, "optimiser": {"lr": 0.5, "name": "adam"}}


def test_what_no_longer_applies_is_not_inherited(tmp_path: Path) -> None:
    recipe(tmp_path / "sgd.toml", '[optimiser]\nname = "sgd"\nmomentum = 0.5\nlr = 0.1\n')
    adam = 'base = "sgd.toml"\n[optimiser]\nname = "adam"\n'
    assert recipe(tmp_path / "adam.toml", adam)["optimiser"] == {"lr": 0.1, "name": "adam"}
    with pytest.raises(ConfigError, match=r"In the recipe .*stated\.toml: optimiser\.momentum .* applies only where"):
        recipe(tmp_path / "stated.toml", f"{adam}momentum = 0.5\n")


def test_a_flag_over_a_recipe_leaves_out_what_it_makes_meaningless() -> None:
    base: config.Nested = {"split": {"policy": "kfold", "folds": 4, "fold": 1, "seed": 2}}
    assert config.inherit(base, {"split": {"policy": "filtered"}}, settings_class) == {"split": {"policy": "filtered"}}
    kept = config.inherit(base, {"split": {"policy": "random"}}, settings_class)
    assert kept == {"split": {"policy": "random", "seed": 2}}


def test_another_corpus_inherits_nothing_of_the_first() -> None:
    base: config.Nested = {
        "dataset": {"name": "fma-large", "exclude_genres": "Blues"},
        "split": {"policy": "official"},
    }
    synth: config.Nested = {"dataset": {"name": "synth"}}
    assert config.inherit(base, synth, settings_class) == {**synth, "split": {}}
    assert config.inherit(base, {"training": {"seed": 1}}, settings_class) == {**base, "training": {"seed": 1}}
    random: config.Nested = {**base, "split": {"policy": "random", "seed": 3}}
    assert config.inherit(random, synth, settings_class) == {**synth, "split": {"policy": "random", "seed": 3}}


def test_another_model_inherits_none_of_the_model_s_settings() -> None:
    @dataclasses.dataclass(frozen=True)
    class OtherSettings(config.ModelSettings):
        name = "other"
        dropout: float = setting(0.0, "Dropout.", low=0, high=0.95)

    kinds = {"se-resnet": settings_class("se-resnet"), "other": OtherSettings}
    base: config.Nested = {"model": {"name": "se-resnet", "dropout": 0.25, "width": 32}}
    made = config.inherit(base, {"model": {"name": "other"}}, kinds.__getitem__)
    assert made == {"model": {"name": "other"}}
    assert config.inherit(base, {"model": {"name": "se-resnet", "width": 64}}, kinds.__getitem__)["model"] == {
        "name": "se-resnet",
        "dropout": 0.25,
        "width": 64,
    }
    assert config.inherit(base, {"training": {"seed": 1}}, kinds.__getitem__)["model"] == base["model"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a": 'base = "none.toml"'}, r"The base \S*none\.toml of the recipe \S*a\.toml cannot be read \(No such file"),
        ({"a": 'base = "."'}, r"of the recipe \S*a\.toml cannot be used \(it is a folder and no file\): correct it\.$"),
        ({"a": 'base = "0.toml"', **{str(i): f'base = "{i + 1}.toml"' for i in range(40)}}, "has more than 32 recipes"),
        (
            {"a": 'base = "a.toml"'},
            r"bases of one another, \S*a\.toml -> \S*a\.toml: take one of their `base` lines out",
        ),
        (
            {"a": 'base = "b.toml"', "b": 'base = "../{}/a.toml"'},
            r"bases of one another, \S*a\.toml -> \S*b\.toml -> \S*a\.toml: take",
        ),
        ({"a": "base = 3"}, r"In the recipe \S*a\.toml: base must be the path of another recipe, not 3\."),
        ({"a": 'base = "a\\u0000"'}, "base must be the path of another recipe"),
        ({"a": "[base]\nx = 1"}, "base must be the path of another recipe"),
        ({"a": 'base = "b.toml"', "b": "[optimiser]\nlr = 0"}, r"^In the recipe \S*b\.toml: optimiser\.lr"),
        ({"a": 'base = "b.toml"\n[optimiser]\nlr = 0', "b": ""}, r"^In the recipe \S*a\.toml: optimiser\.lr"),
        ({"a": 'base = "b.toml"', "b": 'model = "se-resnet"'}, r"^In the recipe \S*b\.toml: 'model' must be a section"),
    ],
)
def test_bases_that_are_none(files: dict[str, str], sentence: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text.replace("{}", tmp_path.name))
    with pytest.raises(GenreclsError, match=sentence):
        recipe(tmp_path / "a.toml")


def test_what_no_longer_applies_beside_another_section_is_not_inherited() -> None:
    @dataclasses.dataclass(frozen=True)
    class WaveSettings(config.ModelSettings):
        name = "of-wave"

        @property
        def inputs(self) -> tuple[config.Input, ...]:
            return ("wave",)

    kinds = {"se-resnet": settings_class("se-resnet"), "of-wave": WaveSettings}
    base: config.Nested = {
        "features": {"n_fft": 1024, "sample_rate": 24000},
        "augment": {"frequency_mask_bins": 8, "mixup": 0.1},
    }
    made = config.inherit(base, {"model": {"name": "of-wave"}}, kinds.__getitem__)
    assert made == {"model": {"name": "of-wave"}, "features": {"sample_rate": 24000}, "augment": {"mixup": 0.1}}
    config.read(made, kinds.__getitem__)
    stated = config.inherit(base, {"model": {"name": "of-wave"}, "features": {"n_fft": 1024}}, kinds.__getitem__)
    with pytest.raises(ConfigError, match=r"features\.n_fft \(--n-fft\) applies only to"):
        config.read(stated, kinds.__getitem__)
