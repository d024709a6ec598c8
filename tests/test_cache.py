"""The cache: right numbers, right rows, the same bytes however it came about, nothing lost when it is stopped."""

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from conftest import PITCHES, RATE, CommandLine, write_clip
from numpy.typing import NDArray

from genrecls.assembly import record
from genrecls.cache import key
from genrecls.compute import one_thread
from genrecls.config import FeatureSettings
from genrecls.features import Spectral, Wave, restored
from genrecls.manifest import Manifest
from genrecls.seeding import uniform
from genrecls.stamp import STAMP

SMALL = ("--n-mels", "16", "--n-fft", "512", "--hop-length", "256")


def preprocess(cli: CommandLine, corpus: Path, res: Path, *given: object) -> Path:
    made = cli.json("preprocess", "folder", "--data-dir", corpus, "--res", res, *given)
    return Path(made["cache"])


def contents(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir() if path.name not in (".lock", STAMP)}


def rows(cache: Path) -> list[dict[str, str]]:
    with open(cache / "index.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_numbers_are_torchaudios(cli: CommandLine, corpus: Path, shared_res: Path) -> None:
    cache = preprocess(cli, corpus, shared_res)
    mel = np.load(cache / "mel.npy", mmap_mode="r", allow_pickle=False)
    transform = torchaudio.transforms.MelSpectrogram(22050, n_fft=2048, hop_length=512, n_mels=128)
    seen = 0
    for row in rows(cache):
        samples, rate = soundfile.read(corpus / row["path"], dtype="float32")
        assert rate == RATE
        plain = torch.log(transform(torch.from_numpy(samples)) + 1e-6).T
        first, frames = int(row["first_frame"]), int(row["frames"])
        assert (first, frames) == (seen, len(samples) // 512 + 1)
        assert mel[first : first + frames].dtype == np.float16
        np.testing.assert_allclose(mel[first : first + frames], plain.numpy(), atol=0.006)  # half a float16 step at 12
        seen += frames
    assert mel.shape == (seen, 128)


def test_the_index_says_what_is_where(cli: CommandLine, corpus: Path, shared_res: Path) -> None:
    cache = preprocess(cli, corpus, shared_res)
    found = rows(cache)
    assert [row["clip"] for row in found] == sorted(row["clip"] for row in found)
    assert {row["genre"] for row in found} == set(PITCHES)
    assert {row["status"] for row in found} == {"ok"}
    assert ",".join(found[0]) == (
        "clip,genre,group,official_split,path,sha256,first_frame,frames,first_sample,samples,status,reason"
    )
    details = json.loads((cache / "cache.json").read_text())
    assert details["features"]["n_mels"] == 128
    assert cache.name == f"folder-{details['key']}"
    assert str(corpus) not in (cache / "index.csv").read_text() + (cache / "cache.json").read_text()


def test_workers_and_one_process_give_the_same_bytes(cli: CommandLine, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for i in range(70):  # more than are done without workers
        write_clip(corpus / "ab"[i % 2] / f"{i}.wav", 200.0 + i, seconds=0.6)
    alone = preprocess(cli, corpus, tmp_path / "one", *SMALL, "--jobs", "1")
    together = preprocess(cli, corpus, tmp_path / "two", *SMALL, "--jobs", "2")
    assert contents(alone) == contents(together)


@pytest.mark.slow
def test_every_option_makes_another_cache(cli: CommandLine, corpus: Path, tmp_path: Path) -> None:
    options = {"--n-mels": "24", "--n-fft": "1024", "--hop-length": "128", "--f-min": "40", "--f-max": "6000"}
    made = {preprocess(cli, corpus, tmp_path, *SMALL, flag, value).name for flag, value in options.items()}
    resampled = preprocess(cli, corpus, tmp_path, *SMALL, "--sample-rate", "16000")
    assert len(made | {resampled.name}) == 6
    assert int(rows(resampled)[0]["samples"]) == 1.6 * 16000
    assert preprocess(cli, corpus, tmp_path, *SMALL, "--n-mels", "24").name in made


def test_bad_clips_are_left_out_with_a_reason(cli: CommandLine, corpus: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(corpus, mixed)
    (mixed / "low" / "text.wav").write_text("this is no audio")
    (mixed / "low" / "empty.flac").write_bytes(b"")
    soundfile.write(mixed / "low" / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(mixed / "low" / "short.wav", np.sin(np.arange(RATE // 4)), RATE)
    soundfile.write(mixed / "low" / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    made = cli.json("preprocess", "folder", "--data-dir", mixed, "--res", tmp_path, *SMALL)
    assert made["clips"] == 36
    reasons = {each["clip"]: each["reason"].split(":")[0] for each in made["failed"]}
    assert reasons == {
        "low/text.wav": "unreadable",
        "low/empty.flac": "unreadable",
        "low/silent.wav": "silent",
        "low/short.wav": "short",
        "low/nan.wav": "non-finite",
    }
    listed = {row["clip"]: row for row in rows(Path(made["cache"]))}
    assert all(int(listed[clip]["frames"]) == 0 and listed[clip]["reason"] for clip in reasons)
    assert str(tmp_path) not in Path(made["cache"], "index.csv").read_text()
    good = np.load(Path(made["cache"], "mel.npy"), allow_pickle=False)
    assert (good == np.load(preprocess(cli, corpus, tmp_path, *SMALL) / "mel.npy", allow_pickle=False)).all()


@pytest.mark.slow
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(cli: CommandLine, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for i in range(90):
        write_clip(corpus / "ab"[i % 2] / f"{i}.wav", 200.0 + i, seconds=4)
    whole = preprocess(cli, corpus, tmp_path / "whole")
    given = ("preprocess", "folder", "--data-dir", corpus, "--res", tmp_path / "torn", "--jobs", "1")
    command = cli.start(*given)
    parts = tmp_path / "torn" / "cache" / whole.name / "parts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("*.json"))) < 2:
        assert time.monotonic() < deadline
        assert command.process.is_alive(), command.wait()
        time.sleep(0.002)
    assert command.process.pid is not None
    os.kill(command.process.pid, signal.SIGKILL)
    command.wait()
    done = {path: path.stat().st_mtime_ns for path in parts.glob("*.json")}
    assert 2 <= len(done) < 12
    assert not (parts.parent / "cache.json").exists()
    # The blocks that were done are not done again: a marked one survives into the index.
    marked = sorted(done)[0]
    block = json.loads(marked.read_text())
    block["note"][0]["reason"] = "kept"
    marked.write_bytes(record(block["bytes"], block["note"]))
    finished = cli.json(*given)
    assert "kept" in Path(finished["cache"], "index.csv").read_text()
    shutil.rmtree(finished["cache"])
    assert contents(Path(cli.json(*given)["cache"])) == contents(whole)
    assert not parts.exists()


@pytest.mark.parametrize("note", [[], [{"clip": "another"}], "words", None])
def test_blocks_of_another_version_are_made_again(cli: CommandLine, corpus: Path, tmp_path: Path, note: Any) -> None:
    whole = preprocess(cli, corpus, tmp_path / "whole", *SMALL)
    parts = tmp_path / "res" / "cache" / whole.name / "parts"
    parts.mkdir(parents=True)
    (parts / "array").write_bytes(b"#" * 128)
    (parts / "000000.json").write_bytes(record(0, note))
    assert contents(preprocess(cli, corpus, tmp_path / "res", *SMALL)) == contents(whole)


def test_two_builders_at_once_make_one_cache(cli: CommandLine, corpus: Path, tmp_path: Path) -> None:
    given = ("preprocess", "folder", "--data-dir", corpus, "--res", tmp_path, "--json", "--n-mels", "20")
    both = [cli.start(*given), cli.start(*given)]
    results = [command.wait() for command in both]
    assert [result.status for result in results] == [0, 0]
    assert results[0].value["cache"] == results[1].value["cache"]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_that_lost_bytes_is_noticed(cli: CommandLine, corpus: Path, tmp_path: Path) -> None:
    given = ("preprocess", "folder", "--data-dir", corpus, "--res", tmp_path, *SMALL)
    mel = preprocess(cli, corpus, tmp_path, *SMALL) / "mel.npy"
    whole = mel.read_bytes()
    mel.write_bytes(whole[:-2])
    torn = cli(*given)
    assert torn.status == 1
    assert "is damaged (mel.npy: it has 159,102 bytes instead of 159,104): remove the folder" in torn.stderr
    mel.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1, whole[-1]]))
    for flipped in (cli(*given), cli(*given, "--verify")):
        assert flipped.status == 1
        assert "is not what preprocess wrote" in flipped.stderr


def test_hashes_of_files_are_kept_until_size_or_time_change(cli: CommandLine, corpus: Path, tmp_path: Path) -> None:
    moved = tmp_path / "corpus"
    shutil.copytree(corpus, moved)
    first = preprocess(cli, moved, tmp_path, *SMALL)
    victim = moved / "low" / "low00.wav"
    before = victim.stat()
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert preprocess(cli, moved, tmp_path, *SMALL) == first
    changed = preprocess(cli, moved, tmp_path, *SMALL, "--verify")
    assert changed != first
    assert preprocess(cli, moved, tmp_path, *SMALL) == changed


def test_excluded_genres_are_not_in_the_cache_and_their_hashes_stay(
    cli: CommandLine, corpus: Path, tmp_path: Path
) -> None:
    own = tmp_path / "corpus"
    shutil.copytree(corpus, own)
    whole = preprocess(cli, own, tmp_path, *SMALL)
    (kept,) = (tmp_path / "manifests").glob("*.csv")
    before = kept.read_bytes()
    some = preprocess(cli, own, tmp_path, *SMALL, "--exclude-genres", "middle")
    assert some != whole
    assert {row["genre"] for row in rows(some)} == {"high", "low"}
    assert preprocess(cli, own, tmp_path, *SMALL, "--exclude-genres", " middle,") == some
    # Another file of those that are left is read anew; what is excluded keeps its hash.
    os.utime(own / "low" / "low00.wav", ns=(1, 1))
    preprocess(cli, own, tmp_path, *SMALL, "--exclude-genres", "middle")
    changed = set(before.splitlines()) ^ set(kept.read_bytes().splitlines())
    assert {line.split(b",")[0] for line in changed} == {b"low/low00.wav"}


def test_the_mel_floor_and_the_rounding() -> None:
    silent = Spectral(FeatureSettings())(np.zeros(RATE, np.float32))
    assert silent.dtype == np.float16
    assert np.unique(silent).tolist() == [float(np.float16(np.log(1e-6)))]
    assert Spectral(FeatureSettings())(np.ones(10, np.float32)).shape == (3, 128)
    threads = torch.get_num_threads()
    noise = np.sin(np.arange(RATE, dtype=np.float32) ** 1.5)
    Spectral(FeatureSettings())(noise)
    assert torch.get_num_threads() == threads


def test_a_cache_of_mel_keeps_its_name() -> None:
    """The key as the cache's schema 2 made it at first: a cache is found again, and so are runs."""
    files = Manifest({"a": "b"})
    assert key(Spectral(FeatureSettings()), files, "portable") == "35bab7b34c3840a1"
    assert key(Spectral(FeatureSettings(n_mels=64, f_min=50.0)), files, "portable") == "5b0996d86e7a35b7"
    assert key(Spectral(FeatureSettings(scale="power")), files, "portable") == "35bab7b34c3840a1"


def test_each_array_has_a_key_of_what_it_depends_on() -> None:
    files = Manifest({"a": "b"})
    keys = {key(Spectral(FeatureSettings(kind=kind)), files, "portable") for kind in ("mel", "mfcc", "spectrogram")}
    keys.add(key(Wave(FeatureSettings()), files, "portable"))
    assert len(keys) == 4
    assert key(Wave(FeatureSettings(n_mels=64)), files, "portable") in keys
    assert key(Wave(FeatureSettings(sample_rate=16000)), files, "portable") not in keys
    assert key(Spectral(FeatureSettings(kind="spectrogram", n_mels=64)), files, "portable") in keys
    assert key(Spectral(FeatureSettings(kind="mfcc", n_mfcc=13)), files, "portable") not in keys


def chirp() -> NDArray[np.float32]:
    return (0.5 * np.sin(np.arange(RATE, dtype=np.float64) ** 1.4)).astype(np.float32)


def test_a_spectrogram_is_torchaudios_and_power_comes_back() -> None:
    settings = FeatureSettings(kind="spectrogram", n_fft=1024, scale="power")
    made = Spectral(settings)(chirp())
    power = torchaudio.transforms.Spectrogram(n_fft=1024, hop_length=512)(torch.from_numpy(chirp())).T
    assert made.shape == (RATE // 512 + 1, settings.bins) == (44, 513)
    np.testing.assert_allclose(made, (power + 1e-6).log(), atol=0.006)
    back = restored(torch.from_numpy(made), "feature", settings)
    np.testing.assert_allclose(back, power, rtol=0.006, atol=1e-6)
    assert float(back.min()) >= 0


@pytest.mark.parametrize("length", [1, 128 * 512 - 1, 128 * 512, 100_001])
@pytest.mark.parametrize(
    "changed",
    [{}, {"n_fft": 400, "hop_length": 200, "n_mels": 20}, {"n_fft": 1023, "hop_length": 1000, "f_min": 300.0}],
    ids=["default", "small", "odd"],
)
@pytest.mark.parametrize("kind", ["mel", "mfcc", "spectrogram"])
def test_blocks_are_the_plain_torchaudio_path(kind: Any, changed: dict[str, Any], length: int) -> None:
    """Before they are rounded, within 1e-4."""
    settings = FeatureSettings(kind=kind, n_mfcc=20, **changed)
    noise = uniform(0, "blocks", 0, np.arange(length)) - 0.5
    samples = (noise * np.sin(np.arange(length) / 9000)).astype(np.float32)
    wave = torch.from_numpy(np.pad(samples, (0, max(0, settings.n_fft // 2 + 1 - length))))
    window = {"n_fft": settings.n_fft, "hop_length": settings.hop_length}
    if kind == "spectrogram":
        power = torchaudio.transforms.Spectrogram(**window)(wave)
    else:
        mel = {"n_mels": settings.n_mels, "f_min": settings.f_min}
        power = torchaudio.transforms.MelSpectrogram(RATE, **window, **mel)(wave)
    plain = (power + 1e-6).log().T
    if kind == "mfcc":
        plain = plain @ torchaudio.functional.create_dct(20, settings.n_mels, "ortho")
    with one_thread():
        made = torch.cat([rows.clone() for rows in Spectral(settings).blocks(samples)])
    assert made.shape == plain.shape
    # A coefficient is a sum over the mel bins, with weights whose squares sum to 1.
    np.testing.assert_allclose(made, plain, rtol=0, atol=1e-4 * (settings.n_mels**0.5 if kind == "mfcc" else 1))
    assert (Spectral(settings)(samples) == made.to(torch.float16).numpy()).all()


def test_a_feature_is_the_same_on_any_number_of_threads_and_after_another_clip() -> None:
    settings, samples = FeatureSettings(), (uniform(0, "clip", 0, np.arange(200_000)) - 0.5).astype(np.float32)
    first = Spectral(settings)(samples)
    extract, threads = Spectral(settings), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        extract(np.ones(300_000, np.float32))
        assert (extract(samples) == first).all()
    finally:
        torch.set_num_threads(threads)


def test_mfcc_are_torchaudios() -> None:
    settings = FeatureSettings(kind="mfcc", n_mfcc=20)
    made = Spectral(settings)(chirp())
    window = {"n_fft": 2048, "hop_length": 512, "n_mels": 128}
    plain = torchaudio.transforms.MFCC(RATE, n_mfcc=20, log_mels=True, melkwargs=window)(torch.from_numpy(chirp())).T
    assert made.shape == (44, 20)
    np.testing.assert_allclose(made, plain, atol=0.07)  # half a float16 step at 130


def test_waveforms_are_kept_to_the_bit(cli: CommandLine, corpus: Path, shared_res: Path) -> None:
    cache = preprocess(cli, corpus, shared_res, "--model", "cnn1d")
    wave = np.load(cache / "wave.npy", mmap_mode="r", allow_pickle=False)
    assert wave.dtype == np.int16
    for row in rows(cache):
        samples, _ = soundfile.read(corpus / row["path"], dtype="int16")
        first = int(row["first_sample"])
        assert (wave[first : first + int(row["samples"])] == samples).all()
    assert Wave(FeatureSettings())(np.array([-2, -1, 0, 0.5, 1, 2], np.float32)).tolist() == [
        *(-32768, -32768, 0, 16384, 32767, 32767)
    ]


@pytest.mark.parametrize(("limit", "blocks"), [(20_000, 0), (300_000, 2)])
def test_a_full_disk_loses_nothing(cli: CommandLine, corpus: Path, tmp_path: Path, limit: int, blocks: int) -> None:
    """A limit on the size of files stands in for a full disk: writes past it fail in the same place."""
    given = ("preprocess", "folder", "--data-dir", corpus, "--res", tmp_path, "--jobs", "1")
    full = cli(*given, TEST_FILE_LIMIT=str(limit))
    assert full.status == 1
    assert full.stderr.startswith("Error: File too large")
    place = next((tmp_path / "cache").iterdir())
    assert not (place / "cache.json").exists()
    assert not list(place.rglob("*.part"))
    assert len(list(place.glob("parts/*.json"))) == blocks
    assert cli(*given).status == 0
