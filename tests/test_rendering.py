"""Variants of the training clips: rendered once, for those alone, and drawn from in training."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CommandLine, Desk, write_clip

from genrecls import config, normalisation
from genrecls.augment import Variant
from genrecls.batches import TrainingCrops, training_batches
from genrecls.config import AugmentSettings, Config
from genrecls.fragments import Fragments, Places, Stretch
from genrecls.models.registry import settings_class

CPU = torch.device("cpu")
VARIED = ("--variants", "2", "--stretch-probability", "1", "--pitch-probability", "0.5")
SMALL = ("--n-mels", "16", "--n-fft", "512", "--hop-length", "256")


def rows(cache: str) -> dict[str, dict[str, str]]:
    with open(Path(cache) / "index.csv", newline="", encoding="utf-8") as handle:
        return {row["clip"]: row for row in csv.DictReader(handle)}


@pytest.mark.slow
def test_preprocess_renders_the_training_clips(desk: Desk) -> None:
    made = desk.cli.json("preprocess", "folder", "--data-dir", desk.corpus, *VARIED, *SMALL, "--res", desk.res)
    own, one, two = map(rows, made["caches"])
    assert len(own) == 36
    assert len(one) == len(two) == 30  # 80 % of 12 clips of each genre, rounded
    settings = AugmentSettings(variants=2, stretch_probability=1.0, pitch_probability=0.5)
    for number, found in enumerate((one, two)):
        for clip, row in found.items():
            factor = Variant(settings, number, sound=True).variation(clip).stretch
            assert int(row["samples"]) == round(int(own[clip]["samples"]) * factor)
    assert json.loads((Path(made["caches"][1]) / "cache.json").read_text())["variant"]["number"] == 0
    again = desk.cli.json(
        "preprocess", "folder", "--data-dir", desk.corpus, *VARIED, *SMALL, "--res", desk.res, "--variants", "3"
    )
    assert again["caches"][:3] == made["caches"]


def test_a_build_that_was_cut_ends_with_the_same_bytes(cli: CommandLine, tmp_path: Path) -> None:
    for i in range(30):
        write_clip(tmp_path / "corpus" / "ab"[i % 2] / f"{i}.wav", 200.0 + i, seconds=0.6)
    given = ("preprocess", "folder", "--data-dir", tmp_path / "corpus", *VARIED, *SMALL, "--res")
    whole = cli.json(*given, tmp_path / "whole")["caches"]
    # Room for the manifest and some blocks, not for all.
    assert cli(*given, tmp_path / "cut", TEST_FILE_LIMIT="7000").status == 1
    finished = cli.json(*given, tmp_path / "cut")["caches"]
    for one, other in zip(whole, finished, strict=True):
        for name in ("mel.npy", "index.csv", "cache.json"):
            assert (Path(one) / name).read_bytes() == (Path(other) / name).read_bytes()


@pytest.mark.slow
def test_runs_share_what_was_rendered_and_are_scored_without_it(desk: Desk) -> None:
    one = desk.train(*VARIED, "--seed", "1")
    caches = sorted((desk.res / "cache").iterdir())
    two = desk.train(*VARIED, "--seed", "2")
    assert sorted((desk.res / "cache").iterdir()) == caches
    plain = desk.train("--seed", "1")
    assert one["initial_weights_sha256"] == plain["initial_weights_sha256"]
    assert len({made["weights_sha256"] for made in (one, two, plain)}) == 3
    record = json.loads((Path(one["run"]) / "run.json").read_text())
    assert set(record["cache_arrays"]) == {"mel.npy", "variant-1/mel.npy", "variant-2/mel.npy"}
    drawn, usual = (
        json.loads((Path(made["run"]) / "draws.jsonl").read_text().splitlines()[0]) for made in (one, plain)
    )
    assert drawn.keys() - usual.keys() == {"augment.variant"}
    assert usual.items() <= drawn.items()
    scored = desk.cli.json("evaluate", one["run"], *desk.places)
    assert scored["clips"] > 0


def test_a_split_that_cuts_clips_has_no_variants(desk: Desk) -> None:
    done = desk.cli("train", *desk.on_corpus, *VARIED, "--split", "contaminated", *desk.places)
    assert done.status == 2
    assert "augment.variants (--variants) applies only to splits of whole clips" in done.stderr


def settings(model: str = "se-resnet", **given: Any) -> Config:
    sections = {
        "model": {"name": model},
        "features": {} if model == "cnn1d" else {"n_mels": 8},
        "batches": {"fragment": 1.0, "batch_size": 4, "crops_per_clip": 300, "normalisation": "none"},
        "augment": given,
    }
    return config.read(sections, settings_class)


def test_crops_come_from_every_variant_as_far_from_its_begin() -> None:
    given = settings(variants=2, stretch_probability=1.0)
    clips = [Stretch("a", 0, 0, 143), Stretch("b", 1, 143, 243)]
    variants = [Stretch("b", 1, 133, 263, variant=1), Stretch("a", 0, 0, 133, variant=1)]
    variants += [Stretch("a", 0, 0, 20, variant=2), Stretch("b", 1, 20, 223, variant=2)]
    plan = TrainingCrops(clips, given, variants).plan(0)
    length = {(s.clip, s.variant): (s.first, s.frames) for s in (*clips, *variants)}
    for clip, name in enumerate("ab"):
        for variant in range(3):
            at = np.flatnonzero((plan.clip == clip) & (plan.places.variant == variant))
            assert 70 < len(at) < 130
            first, frames = length[name, variant]
            assert set(plan.places.first[at]) == {first}
            assert set(plan.places.frames[at]) == {frames}
            assert plan.places.start[at].min() >= 0
            latest = max(frames - 43, 0)
            assert latest - 8 <= plan.places.start[at].max() <= latest
    usual = TrainingCrops(clips, given).plan(0)
    assert (usual.clip == plan.clip).all()
    same = plan.places.variant == 0
    assert (usual.places.start[same] == plan.places.start[same]).all()


def test_fragments_are_gathered_from_the_variant_they_lie_in() -> None:
    given = settings("mixnet", variants=1, stretch_probability=1.0)
    arrays = [
        {
            "wave": np.arange(60000, dtype=np.int16) % 1000 + offset * 1000,
            "feature": (np.arange(200)[:, None] + np.zeros((200, 8)) + offset * 500).astype(np.float16),
        }
        for offset in (0, 1)
    ]
    scales = {"wave": normalisation.identity(1), "feature": normalisation.identity(8)}
    fragments = Fragments(arrays[0], scales, given, CPU, arrays[1:])  # type: ignore[arg-type]
    zero = np.zeros(4, np.int64)
    where = Places(zero, zero + 100, zero, zero + 51200, np.array([1, 0, 1, 0]), np.array([3, 4, 0, 5]))
    taken = fragments.at(where)
    assert taken["feature"][:, 0, 0].tolist() == [503, 4, 500, 5]
    assert (taken["wave"][:, 0] * 32768).round().tolist() == [1536, 48, 1000, 560]
    assert torch.equal(fragments.at(where[np.array([1])])["feature"][0], taken["feature"][1])


def test_the_waveform_of_a_batch_is_altered_where_drawn() -> None:
    stretches = [Stretch(f"c{i}", i % 2, 0, 50, 25600 * i, 25600) for i in range(8)]
    noise = np.random.default_rng(0).integers(-9000, 9000, 8 * 25600).astype(np.int16)
    scales = {"wave": normalisation.identity(1)}

    def batch(**given: Any) -> torch.Tensor:
        made = settings("cnn1d", mixup=0.0, **given)
        fragments = Fragments({"wave": noise}, scales, made, CPU)  # type: ignore[arg-type]
        return next(training_batches(fragments, TrainingCrops(stretches, made).plan(0), range(1))).inputs[0]

    usual = batch()
    altered = batch(noise_probability=0.5, wave_mask_probability=0.5)
    same = (altered == usual).all(dim=2)[:, 0].tolist()
    assert altered.shape == usual.shape
    assert not all(same)
    assert (batch(wave_mask_probability=1.0) == 0).sum() > 4 * 1000


def test_the_feature_of_a_batch_is_altered_where_drawn() -> None:
    stretches = [Stretch(f"c{i}", i % 2, 60 * i, 60) for i in range(8)]
    mel = np.random.default_rng(0).normal(size=(480, 8)).astype(np.float16)
    scales = {"feature": normalisation.identity(8)}

    def batch(**given: Any) -> torch.Tensor:
        made = settings(mixup=0.0, mask_probability=0.0, equaliser_db=0.0, **given)
        fragments = Fragments({"feature": mel}, scales, made, CPU)  # type: ignore[arg-type]
        return next(training_batches(fragments, TrainingCrops(stretches, made).plan(0), range(1))).inputs[0]

    usual = batch()
    assert batch(amplitude_probability=1.0)[0, 0, 0, 0] != usual[0, 0, 0, 0]
    rolled = batch(time_shift_probability=1.0)
    assert torch.equal(rolled.sort(dim=3).values, usual.sort(dim=3).values)
    assert not torch.equal(rolled, usual)


@pytest.mark.parametrize(("sound", "louder"), [(True, True), (False, False)])
def test_gain_and_noise_are_rendered_for_models_without_the_waveform(sound: bool, louder: bool) -> None:
    given = AugmentSettings(variants=1, gain_probability=1.0, noise_probability=1.0, gain_db=20.0)
    variant = Variant(given, 0, sound)
    tone = (np.sin(np.arange(20000) / 10) / 4).astype(np.float32)
    made, wanted = variant(tone, "clip"), variant.variation("clip")
    assert (made != tone).any() == louder
    assert ("gain_db" in variant.parameters["settings"]) == louder
    if louder:
        gain = 10 * np.log10(np.mean(made**2) / np.mean(tone**2))
        assert gain == pytest.approx(wanted.gain_db, abs=0.2)
        assert 20 <= wanted.noise_snr_db <= 40
