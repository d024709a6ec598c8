"""What training would make of a file, to be heard and seen: so that a person can judge how strong augmentations are.

The same draws by the same functions as in training: those of the first crop of a clip whose id is the file's name
without its ending, in the first epoch of a run with this seed.
"""

import io
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from scipy.io import wavfile

from genrecls import atomic, audio, augment, config, normalisation
from genrecls.audio import Samples
from genrecls.augment import Variant
from genrecls.batches import augmented, longest_time_mask
from genrecls.compute import one_thread
from genrecls.config import (
    LOG_POWER,
    AugmentSettings,
    BatchSettings,
    Config,
    FeatureSettings,
    Input,
    ModelSettings,
    Nested,
    TrainingSettings,
)
from genrecls.errors import ConfigError, GenreclsError
from genrecls.features import LOG_OFFSET, Spectral
from genrecls.normalisation import Normalisation
from genrecls.pictures import Panel, hertz_of, mel_spectrograms
from genrecls.seeding import name_key, uniform

_UPDATES = 100
_ITERATIONS = 64
_TINY = 1e-12


@dataclass(frozen=True)
class _AnyModel(ModelSettings):
    """Stands for one of the waveform and one of the feature at a time, since both are shown."""

    name: ClassVar[str] = "`genrecls augment`"

    @property
    def inputs(self) -> tuple[Input, ...]:
        return ("wave", "feature")


@dataclass(frozen=True)
class Audition:
    """What was written and what was drawn. excerpt: begin and end in the file, in seconds.

    original, augmented: the excerpt and what augmentation makes of its waveform. feature: what a model of the 2-D
    feature sees of that, made audible. picture: the mel-spectrograms of the three. waveform, feature_changes: what was
    done, by name. text: the same in words, of both.
    """

    original: Path
    augmented: Path
    feature: Path
    picture: Path
    excerpt: tuple[float, float]
    waveform: dict[str, Any]
    feature_changes: dict[str, Any]
    text: tuple[str, str]


def applies(section: str, field: str) -> bool:
    """Whether a setting matters here."""
    return (
        section == "features"
        or (section == "augment" and field not in ("variants", "mixup"))
        or (section, field) in (("batches", "fragment"), ("batches", "normalisation"), ("training", "seed"))
    )


def settings(raw: Nested, variant: int) -> Config:
    """The settings of `raw` that matter here.

    variant: number of the one to be rendered, from 1, where any is. Raises ConfigError for a wrong setting, for one
    without effect, and for another feature than log-mel normalised by the corpus or not at all.
    """
    config.check_sections(raw)
    own = {
        section: {name: value for name, value in fields.items() if applies(section, name)}
        for section, fields in raw.items()
    }
    augmentation = AugmentSettings.read(own.get("augment", {}))
    if augmentation.renders(("wave",)):
        augmentation = replace(augmentation, variants=variant)
    made = Config(
        model=_AnyModel(),
        features=FeatureSettings.read(own.get("features", {})),
        batches=BatchSettings.read(own.get("batches", {})),
        augment=augmentation,
        training=TrainingSettings.read(own.get("training", {})),
    )
    if made.features.kind != "mel" or not LOG_POWER.holds(made):
        raise ConfigError(
            "`genrecls augment` shows mel on a log scale alone, normalised by the corpus or not at all: leave out "
            "features.kind (--feature), features.scale (--scale) and batches.normalisation."
        )
    config.check(made)
    return made


def audition(path: Path, given: Config, out: Path, number: int) -> Audition:
    """Augment an excerpt of a file, as long as a fragment, and write what came out below `out`.

    number: of the variant, from 1. Raises GenreclsError where the file is of no use, or matplotlib is missing.
    """
    rate, hop = given.features.sample_rate, given.features.hop_length
    samples = _load(path, rate)
    clip = path.stem
    key = np.array([name_key(clip)], dtype=np.uint64)

    def draw(stream: str) -> NDArray[np.float64]:
        return uniform(given.training.seed, stream, 0, key)

    variant = Variant(given.augment, number - 1, sound=False)
    u = float(draw("crop")[0])
    start, original = _crop(samples, u, given)
    _, varied = _crop(variant(samples, clip), u, given)

    drawn = {
        **augment.mask_draws(given.augment, draw),
        **augment.wave_draws(given.augment, draw),
        **augment.feature_draws(given.augment, draw),
    }
    tone = augment.equaliser_draws(draw)
    with one_thread():
        wave = augmented({"wave": torch.from_numpy(varied)[None]}, tone, drawn, given, None)["wave"][0].numpy()
        spectral = Spectral(given.features)
        by_file = given.batches.normalisation == "corpus"
        bins = given.features.bins
        scale = normalisation.corpus([spectral(samples)], bins) if by_file else normalisation.identity(bins)
        before, after = (torch.from_numpy(spectral(each)).float() for each in (original, wave))
        seen = _seen(after, tone, drawn, given, scale)
        heard = _audible(seen, given.features, len(wave))

    waveform, wave_words = _waveform(variant, clip, drawn, given, len(wave))
    changes, feature_words = _changes(tone, drawn, given, len(after))
    words = (", ".join(wave_words) or "unchanged", ", ".join(feature_words) or "unchanged")
    begin = start * hop / rate
    end = begin + len(original) / rate
    panels = [
        Panel("Original", f"{path.name}, {begin:.2f} s to {end:.2f} s", before.T.numpy()),
        Panel("Augmented waveform", words[0], after.T.numpy()),
        Panel("Augmented feature", words[1], seen),
    ]
    files = {
        "original": _wav(original, rate),
        "augmented": _wav(wave, rate),
        "feature": _wav(heard, rate),
        "picture": mel_spectrograms(panels, given.features),
    }
    names = {"picture": f"{clip}.png"}
    places = {kind: out / names.get(kind, f"{clip}-{kind}.wav") for kind in files}
    for kind, content in files.items():
        atomic.write_bytes(places[kind], content)
    return Audition(**places, excerpt=(begin, end), waveform=waveform, feature_changes=changes, text=words)


def _load(path: Path, rate: int) -> Samples:
    try:
        samples = audio.load(path, rate)
    except audio.AudioError as error:
        raise GenreclsError(f"The file {path} cannot be used ({error}): give another one.") from error
    if fault := audio.fault(samples, rate):
        raise GenreclsError(f"The file {path} cannot be used ({fault[0]}: {fault[1]}): give another one.")
    return samples


def _crop(samples: Samples, u: float, given: Config) -> tuple[int, Samples]:
    """First frame and samples of the crop that the draw u means; all samples where there are no more."""
    hop = given.features.hop_length
    start = math.floor(u * (max(len(samples) // hop + 1 - given.frames, 0) + 1))
    return start, samples[start * hop : start * hop + given.samples]


def _seen(
    log_mel: torch.Tensor, tone: NDArray[np.float64], drawn: augment.Draws, given: Config, scale: Normalisation
) -> NDArray[np.float32]:
    """What a model sees of (frames, bins), with the normalisation undone: (bins, frames)."""
    feature = scale(log_mel[None]).transpose(1, 2)
    changed = augmented({"feature": feature}, tone, drawn, given, scale.deviation)["feature"][0]
    undone: NDArray[np.float32] = (changed * scale.deviation[:, None] + scale.mean[:, None]).numpy()
    return undone


def _audible(log_mel: NDArray[np.float32], features: FeatureSettings, samples: int) -> Samples:
    """A waveform (samples,) of this mel-spectrogram (bins, frames): phases by Griffin and Lim 1984.

    The power of the Fourier transform is not negative and nearest to the mel-spectrogram's, by the multiplicative
    updates of Lee and Seung 2001: least squares with negative values cut off miss it by a decibel.
    """
    power = (torch.from_numpy(log_mel).exp() - LOG_OFFSET).clamp(min=0)
    filters = torchaudio.functional.melscale_fbanks(
        features.n_fft // 2 + 1, features.f_min, features.highest, features.n_mels, features.sample_rate
    )
    wanted = filters @ power
    found = wanted / (filters.sum(dim=1, keepdim=True) + _TINY)
    for _ in range(_UPDATES):
        found = found * wanted / (filters @ (filters.T @ found) + _TINY)
    phases = torchaudio.transforms.GriffinLim(
        features.n_fft, _ITERATIONS, hop_length=features.hop_length, rand_init=False, length=samples
    )
    heard: Samples = phases(found).numpy()
    return heard


def _wav(samples: Samples, rate: int) -> bytes:
    """32-bit float, so that nothing is clipped. Not by libsndfile, which writes the time of day into it."""
    content = io.BytesIO()
    wavfile.write(content, rate, samples)
    return content.getvalue()


def _waveform(
    variant: Variant, clip: str, drawn: augment.Draws, given: Config, samples: int
) -> tuple[dict[str, Any], list[str]]:
    """What was done to the waveform, by name and in words."""
    rate = given.features.sample_rate
    amounts = {name: values[0].item() for name, values in augment.wave_amounts(drawn, given.augment, samples).items()}
    wanted = asdict(variant.variation(clip))
    made: dict[str, Any] = {}
    words = []
    if wanted["stretch"] != 1:
        made["stretch"] = wanted["stretch"]
        words.append(f"stretched to {wanted['stretch']:.3f} of its length")
    if wanted["semitones"] != 0:
        made["semitones"] = wanted["semitones"]
        words.append(f"pitch {wanted['semitones']:+.2f} semitones")
    if wanted["speed"] != 1:
        made["speed"] = wanted["speed"]
        words.append(f"speed {wanted['speed']:.3f}")
    if amounts.get("gain_db"):
        made["gain_db"] = amounts["gain_db"]
        words.append(f"gain {amounts['gain_db']:+.1f} dB")
    if math.isfinite(amounts.get("noise_snr_db", math.inf)):
        made["noise_snr_db"] = amounts["noise_snr_db"]
        words.append(f"white noise {amounts['noise_snr_db']:.1f} dB below the signal")
    if amounts.get("wave_mask_width"):
        begin = amounts["wave_mask_first"] / rate
        made["silence"] = [begin, begin + amounts["wave_mask_width"] / rate]
        words.append("silence {:.2f} s to {:.2f} s".format(*made["silence"]))
    return made, words


def _changes(
    tone: NDArray[np.float64], drawn: augment.Draws, given: Config, frames: int
) -> tuple[dict[str, Any], list[str]]:
    """What was done to the feature, by name and in words."""
    features, hop = given.features, given.features.hop_length / given.features.sample_rate
    amounts = {name: values[0].item() for name, values in augment.feature_amounts(drawn, given.augment, frames).items()}
    made: dict[str, Any] = {}
    words = []
    if given.augment.equaliser_db:
        made["tone_db"] = augment.equaliser_gains(tone, given.augment.equaliser_db)[0].tolist()
        words.append("tone " + " ".join(f"{gain:+.0f}" for gain in made["tone_db"]) + " dB from low to high")
    if amounts.get("amplitude", 1) != 1:
        made["amplitude"] = amounts["amplitude"]
        words.append(f"amplitude x {amounts['amplitude']:.2f}")
    if amounts.get("frequency_shift"):
        made["frequency_shift_bins"] = amounts["frequency_shift"]
        words.append(f"moved by {amounts['frequency_shift']:+d} bins")
    if amounts.get("time_shift"):
        made["time_shift_seconds"] = amounts["time_shift"] * hop
        words.append(f"rolled by {made['time_shift_seconds']:+.2f} s")
    if amounts.get("feature_noise"):
        made["noise_deviation"] = amounts["feature_noise"]
        words.append(f"noise of deviation {amounts['feature_noise']:g}")
    if given.augment.mask_probability:
        size = (features.bins, frames, longest_time_mask(given))
        for each in augment.masks_of(drawn, given.augment, *size):
            first, width = int(each.first[0]), int(each.width[0])
            if not width:
                continue
            if each.axis == "frequency":
                ends = [hertz_of(first - 0.5, features), hertz_of(first + width - 0.5, features)]
                words.append("mask {:.0f} Hz to {:.0f} Hz".format(*ends))
            else:
                ends = [first * hop, (first + width) * hop]
                words.append("mask {:.2f} s to {:.2f} s".format(*ends))
            made.setdefault(f"{each.axis}_masks", []).append(ends)
    return made, words
