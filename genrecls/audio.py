"""From a file to samples: decode (libsndfile), mix down to one channel, resample, and judge what came out.

torch is imported only where a rate has to change: decoding and judging do not need it.
"""

import math
import os
import threading
from contextlib import nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from genrecls.errors import GenreclsError

Samples = NDArray[np.float32]

MIN_SECONDS = 0.5
"""A clip shorter than this is not used."""
SILENCE = 1e-4
"""A clip that moves less than this around its middle is silence: -80 dB of full scale, 3 steps of 16-bit audio."""

_FILTER_WIDTH = 6
_ROLLOFF = 0.99
_MAX_DENOMINATOR = 2560
PARAMETERS: dict[str, Any] = {
    "mix": "mean",
    "resample": "sinc_interp_hann",
    "lowpass_filter_width": _FILTER_WIDTH,
    "rolloff": _ROLLOFF,
    "max_denominator": _MAX_DENOMINATOR,
    "min_seconds": MIN_SECONDS,
    "silence": SILENCE,
}
"""Everything here that the samples of a file, or whether it is used, depend on. The filter is torchaudio's default."""

# What lies outside these is no audio, and made NaN, gigabytes or a traceback of it: no usable file depends on them.
RATES = (1000, 10**7)
"""Hz. The header of a file with another rate lies: at 1 Hz a minute of sound is a month."""
_LOUDEST = 1e12
"""Of full scale. Whole numbers of 32 bits that were never scaled to [-1, 1] lie below; the power of 1e19 overflows."""

_BLOCK = 2**14


class AudioError(GenreclsError):
    """A file that gives no samples. The message is the reason alone: whoever catches it knows which file."""


def decode(path: Path) -> tuple[Samples, int]:
    """The samples of an audio file as float32 (n,), the mean of its channels, and its rate in Hz.

    Integer formats are scaled to [-1, 1); float formats come as they are. Where a file is cut off or damaged, what
    lies before the fault is decoded, as far as libsndfile can. n is at least 1.
    Raises AudioError where there is no such file, it cannot be read, it is not audio or holds none.
    """
    samples, rate = decode_channels(path)
    return mixed(samples), rate


def decode_channels(path: Path) -> tuple[Samples, int]:
    """As `decode`, with the channels apart: float32 (n, channels)."""
    _check_readable(path)
    if path.suffix.lower() == ".raw":
        raise AudioError("cannot be decoded: raw samples have no header that tells their rate and format")
    with _mpg123_silenced if path.suffix.lower() == ".mp3" else nullcontext():
        try:
            with _open(path) as file:
                rate: int = file.samplerate
                samples = _read(file)
        except soundfile.LibsndfileError as error:
            samples = _before_fault(path)
            if not samples.size:
                raise AudioError(f"cannot be decoded: {_reason(error)}") from error
    if not samples.size:
        raise AudioError("holds no audio")
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"its header says a rate of {rate} Hz, which no audio has")
    return samples, rate


def announced(path: Path) -> int:
    """How many samples of each channel the header of a file that can be decoded announces."""
    with _mpg123_silenced, _open(path) as file:
        return int(file.frames)


def mixed(samples: Samples) -> Samples:
    """The mean of the channels: float32 (n, channels) to (n,)."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mean: Samples = samples.mean(axis=1)
    return mean


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """`samples` float32 (n,) taken at `rate` Hz, at `new_rate` Hz: float32 (m,), m = ceil(n x new_rate / rate).

    Windowed-sinc interpolation by torchaudio, on the CPU. The filter's size is the product of both terms of the
    ratio of rates, gigabytes for 44,099 to 22,050 Hz: a ratio whose denominator is above 2560 is replaced by the
    nearest one below, half a cent of pitch away at most. All usual rates, 384 kHz included, are exact.
    """
    ratio = Fraction(new_rate, rate).limit_denominator(_MAX_DENOMINATOR)
    if ratio == 1:
        return samples
    import torch
    import torchaudio

    from genrecls import portable

    portable.ready()
    resampled: Samples = torchaudio.functional.resample(
        torch.from_numpy(samples),
        ratio.denominator,
        ratio.numerator,
        lowpass_filter_width=_FILTER_WIDTH,
        rolloff=_ROLLOFF,
        resampling_method="sinc_interp_hann",
    ).numpy()
    return resampled


def load(path: Path, rate: int) -> Samples:
    """The samples of an audio file at `rate` Hz, one channel, float32 (n,). Raises AudioError as `decode` does."""
    samples, own_rate = decode(path)
    return resample(samples, own_rate, rate)


def fault(samples: Samples, rate: int) -> tuple[str, str] | None:
    """Why samples float32 (n,) at `rate` Hz are of no use: a status and its reason in words; None if they are.

    "non-finite": NaN, infinity or numbers whose power is infinite among them. "short": less than 0.5 s. "silent": no
    sample is further than -80 dB of full scale from the middle between the lowest and the highest, a constant offset
    included.
    """
    with np.errstate(invalid="ignore"):
        # They are NaN where a sample is.
        low, high = (float(samples.min()), float(samples.max())) if samples.size else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        strange = samples.size - int(np.isfinite(samples).sum())
        return "non-finite", f"{strange} of {samples.size} samples are not finite numbers"
    if (peak := max(high, -low)) > _LOUDEST:
        return "non-finite", f"its samples reach {peak:.1e} of full scale, which no audio does"
    if samples.size < MIN_SECONDS * rate:
        return "short", f"{samples.size / rate:.3f} s long, shorter than {MIN_SECONDS} s"
    if (swing := (high - low) / 2) < SILENCE:
        return "silent", f"its peak, {swing:.1e} of full scale, is below {SILENCE:.0e} (-80 dB)"
    return None


def _check_readable(path: Path) -> None:
    """libsndfile calls every failure to open a file a "System error": find the cause before it does."""
    try:
        if path.is_dir():
            raise AudioError("is a folder, not an audio file")
        if path.exists() and not path.is_file():
            raise AudioError("is not a regular file")
        with open(path, "rb") as handle:
            if not handle.read(1):
                raise AudioError("is empty (0 bytes)")
    except FileNotFoundError as error:
        raise AudioError("no such file") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _open(path: Path) -> soundfile.SoundFile:
    file = soundfile.SoundFile(os.fsencode(path))  # As bytes: a name need not be valid UTF-8.
    if file.format == "RAW":
        file.close()
        # libsndfile takes any bytes in a file called .au for 8-bit samples at 8 kHz.
        raise AudioError("cannot be decoded: it has no audio header")
    return file


def _read(file: soundfile.SoundFile) -> Samples:
    """float32 (n, channels)."""
    if file.subtype != "PCM_16" or file.format == "MP3":
        whole: Samples = file.read(dtype="float32", always_2d=True)
        return whole
    # libsndfile itself converts 16-bit samples one by one, to the same bits.
    steps = file.read(dtype="int16", always_2d=True)
    samples: Samples = steps.astype(np.float32)
    samples *= np.float32(2**-15)
    return samples


def _before_fault(path: Path) -> Samples:
    """What can be read block by block of a file that fails when read at once: float32 (n, channels), n may be 0.

    Not of an MP3: soundfile seeks after each block, and an MP3 decoder that has sought drops frames.
    """
    blocks: list[Samples] = []
    with suppress(soundfile.LibsndfileError), _open(path) as file:
        while file.format != "MP3" and len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
    return np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)


def _reason(error: soundfile.LibsndfileError) -> str:
    reason: str = error.error_string.removeprefix("Error : ").rstrip(". ")
    # What libsndfile says of an existing file called .mp3 without an MPEG frame.
    if reason.startswith("File does not exist"):
        return "no audio format recognised"
    return reason[:1].lower() + reason[1:]


class _Mpg123Silenced:
    """Keeps mpg123's remarks on damaged MP3 files, printed by C code, out of the terminal: they garble the bars.

    Standard error belongs to the process, so the first thread to enter takes it away and the last one puts it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._saved = self._redirect()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._saved is not None:
                os.dup2(self._saved, 2)
                os.close(self._saved)

    @staticmethod
    def _redirect() -> int | None:
        try:
            saved = os.dup(2)
        except OSError:  # Closed already: nothing to keep quiet.
            return None
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        return saved


_mpg123_silenced = _Mpg123Silenced()
