import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from genrecls import audio

RATE = 22050
FORMATS = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG", "au": "AU", "aiff": "AIFF", "aif": "AIFF"}
LOSSY = {"mp3", "ogg"}


def sine(frequency: float = 440.0, seconds: float = 2.0, rate: int = RATE, peak: float = 0.5) -> NDArray[np.float32]:
    samples: NDArray[np.float64] = peak * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)
    return samples.astype(np.float32)


def pitch(samples: NDArray[np.float32], rate: int) -> float:
    """The frequency in Hz of the highest bin of a windowed spectrum: within rate / n of a sine's."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def written(path: Path, samples: NDArray[np.float32], rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, format=FORMATS[path.suffix[1:].lower()], subtype=subtype)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_decodes_what_was_encoded(tmp_path: Path, suffix: str) -> None:
    samples = sine(seconds=3.0)
    decoded, rate = audio.decode(written(tmp_path / f"clip.{suffix}", samples))
    assert rate == RATE
    assert decoded.dtype == np.float32
    assert decoded.shape == samples.shape
    if suffix in LOSSY:  # Codecs may shift a signal in time: pitch and level are what must come through.
        assert abs(pitch(decoded, rate) - 440) <= RATE / len(decoded)
        for second in np.split(decoded, 3):
            assert np.sqrt(np.mean(second**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    else:
        assert np.abs(decoded - samples).max() < 2.0**-15


def test_two_channels_become_their_mean(tmp_path: Path) -> None:
    stereo = np.stack([sine(300), sine(700, peak=0.25)], axis=1)
    decoded, _ = audio.decode(written(tmp_path / "clip.wav", stereo, subtype="FLOAT"))
    np.testing.assert_array_equal(decoded, (stereo[:, 0] + stereo[:, 1]) / np.float32(2))


def test_opposite_channels_cancel_and_are_called_silent(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.wav", np.stack([sine(), -sine()], axis=1), subtype="FLOAT")
    decoded, rate = audio.decode(path)
    found = audio.fault(decoded, rate)
    assert found is not None
    assert found[0] == "silent"


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 32000, 44100, 48000, 96000, 384000, 44099])
def test_resampling_keeps_pitch_level_and_length(rate: int) -> None:
    resampled = audio.resample(sine(1000, rate=rate), rate, RATE)
    assert resampled.dtype == np.float32
    assert abs(len(resampled) - 2 * RATE) <= 3
    assert abs(pitch(resampled, RATE) - 1000) <= RATE / len(resampled)
    assert np.sqrt(np.mean(resampled[2000:-2000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    resampled = audio.resample(sine(15000, rate=44100), 44100, RATE)
    assert np.abs(resampled[1000:-1000]).max() < 0.01


def test_samples_at_the_wanted_rate_are_left_alone() -> None:
    samples = sine()
    assert audio.resample(samples, RATE, RATE) is samples


def test_load_gives_the_same_bits_each_time_and_the_wanted_rate(tmp_path: Path) -> None:
    stereo = np.stack([sine(440, rate=44100), sine(660, rate=44100)], axis=1)
    path = written(tmp_path / "clip.flac", stereo, rate=44100)
    first, second = audio.load(path, RATE), audio.load(path, RATE)
    assert first.tobytes() == second.tobytes()
    decoded, rate = audio.decode(path)
    np.testing.assert_array_equal(first, audio.resample(decoded, rate, RATE))


def test_decoding_and_judging_do_not_import_torch(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.wav", sine())
    program = (
        "import sys; from pathlib import Path; from genrecls import audio;"
        "print(audio.fault(*audio.decode(Path(sys.argv[1]))), 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["None", "False"]


def test_a_wav_cut_off_decodes_what_is_there(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.wav", sine())
    whole, _ = audio.decode(path)
    os.truncate(path, 44 + 2 * 20000)
    decoded, _ = audio.decode(path)
    np.testing.assert_array_equal(decoded, whole[:20000])


def test_a_flac_cut_off_decodes_the_blocks_before_the_cut(tmp_path: Path) -> None:
    noise = np.cumsum(np.sin(np.arange(4 * RATE) ** 1.5)).astype(np.float32)
    path = written(tmp_path / "clip.flac", noise / np.float32(2 * np.abs(noise).max()))
    whole, _ = audio.decode(path)
    os.truncate(path, path.stat().st_size * 3 // 4)
    decoded, _ = audio.decode(path)
    assert len(whole) // 2 < len(decoded) < len(whole)
    np.testing.assert_array_equal(decoded, whole[: len(decoded)])


def _no_file(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_no_file, "no such file"),
        (_dangling_link, "no such file"),
        (_folder, "is a folder, not an audio file"),
        (_pipe, "is not a regular file"),
        (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
        (lambda path: path.write_bytes(b"no music here\n" * 100), "cannot be decoded: "),
        (lambda path: os.truncate(path, 20), "cannot be decoded: "),
    ],
    ids=["absent", "dangling", "folder", "pipe", "zero bytes", "text", "header cut off"],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_not_audio_is_refused_with_one_reason(tmp_path: Path, suffix: str, spoil: object, reason: str) -> None:
    path = written(tmp_path / f"clip.{suffix}", sine(seconds=1.0))
    assert callable(spoil)
    spoil(path)
    with pytest.raises(audio.AudioError) as raised:
        audio.decode(path)
    message = str(raised.value)
    assert message.startswith(reason)
    assert str(tmp_path) not in message
    assert "\n" not in message


def test_a_header_without_samples_holds_no_audio(tmp_path: Path) -> None:
    with pytest.raises(audio.AudioError, match=r"^holds no audio$"):
        audio.decode(written(tmp_path / "clip.wav", sine(seconds=0.0)))


def test_raw_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.raw").write_bytes(bytes(1000))
    with pytest.raises(audio.AudioError, match="no header"):
        audio.decode(tmp_path / "clip.raw")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.wav", sine())
    path.chmod(0)
    with pytest.raises(audio.AudioError, match=r"^cannot be read: Permission denied$"):
        audio.decode(path)


def test_a_name_that_is_not_utf8_is_decoded(tmp_path: Path) -> None:
    plain = written(tmp_path / "clip.wav", sine())
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        plain.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(audio.decode(odd)[0]) == len(sine())


def test_remarks_on_a_damaged_mp3_do_not_reach_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "clip.mp3", sine(seconds=5.0))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b""
    path.write_bytes(content)
    soundfile.read(path)
    assert "warning" in capfd.readouterr().err.lower()
    decoded, _ = audio.decode(path)
    os.write(2, b"still here")
    assert len(decoded) > RATE
    assert capfd.readouterr().err == "still here"


def test_standard_error_survives_decoding_in_several_threads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "clip.mp3", sine(seconds=1.0))
    threads = [threading.Thread(target=lambda: [audio.decode(path) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_good_audio_has_no_fault() -> None:
    assert audio.fault(sine(seconds=0.5), RATE) is None
    assert audio.fault(sine(peak=1.1e-4), RATE) is None


@pytest.mark.parametrize(
    ("samples", "status", "reason"),
    [
        (np.zeros(RATE, np.float32), "silent", "-80 dB"),
        (sine(peak=0.9e-4), "silent", "-80 dB"),
        (np.full(RATE, 0.3, np.float32), "silent", "-80 dB"),
        (sine(seconds=0.4999), "short", "0.500 s long, shorter than 0.5 s"),
        (np.zeros(0, np.float32), "short", "0.000 s long"),
        (np.append(sine(), np.float32("nan")), "non-finite", "1 of 44101 samples"),
        (np.append(sine(), np.float32("inf")), "non-finite", "1 of 44101 samples"),
    ],
    ids=["zeros", "faint", "constant", "short", "nothing", "nan", "infinity"],
)
def test_faults_have_a_status_and_a_reason(samples: NDArray[np.float32], status: str, reason: str) -> None:
    found = audio.fault(samples, RATE)
    assert found is not None
    assert found[0] == status
    assert reason in found[1]


def test_a_non_finite_sample_is_still_found_after_resampling() -> None:
    samples = sine(rate=44100)
    samples[50000] = np.inf
    found = audio.fault(audio.resample(samples, 44100, RATE), RATE)
    assert found is not None
    assert found[0] == "non-finite"


@pytest.mark.parametrize("rate", [1, 999, 2**31 - 1])
def test_a_header_with_a_rate_that_no_audio_has_is_refused(tmp_path: Path, rate: int) -> None:
    path = written(tmp_path / "a.wav", sine())
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(audio.AudioError, match=rf"^its header says a rate of {rate} Hz, which no audio has$"):
        audio.decode(path)


@pytest.mark.parametrize("peak", [1e19, 3e38, -1e30])
def test_samples_whose_power_overflows_are_no_finite_ones(peak: float) -> None:
    for seconds in (0.2, 2.0):  # also of a clip that is too short to train on, which predict takes
        found = audio.fault(sine(seconds=seconds, peak=1.0) * np.float32(peak), RATE)
        assert found is not None
        assert found[0] == "non-finite"
        assert "of full scale, which no audio does" in found[1]


def test_whole_numbers_that_were_never_scaled_are_audio() -> None:
    assert audio.fault(sine() * np.float32(2**31), RATE) is None
