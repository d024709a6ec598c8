"""Digests of what NumPy, SciPy and scikit-learn compute for genrecls, as JSON: no processor's choice may move one.

Run as a program, natively, with NPY_DISABLE_CPU_FEATURES, or under an emulator of another processor.
"""

import hashlib
import json
import sys
from collections.abc import Iterator

import numpy as np

from genrecls import augment, exact, metrics
from genrecls.audit.copies import _evidence, matches
from genrecls.audit.fingerprint import fingerprint
from genrecls.augment.draws import chosen
from genrecls.augment.wave import amplify
from genrecls.compare import mcnemar
from genrecls.config import AugmentSettings
from genrecls.datasets.synth.mix import record
from genrecls.export import _signal, _waves
from genrecls.report.calibration import reliability
from genrecls.report.embeddings import plane
from genrecls.seeding import name_key, uniform
from genrecls.significance import estimate, permuted

EVERY = {f"{kind}_probability": 1.0 for kind in ("mask", "gain", "noise", "wave_mask", "amplitude", "frequency_shift")}
EVERY |= {f"{kind}_probability": 1.0 for kind in ("time_shift", "feature_noise", "stretch", "pitch", "speed")}


def drawn(stream: str, *shape: int) -> np.ndarray:
    """Uniform in [0, 1), float64 (*shape,)."""
    return uniform(0, stream, 0, 1, np.arange(int(np.prod(shape)))).reshape(shape)


def figures() -> Iterator[object]:
    clips = np.arange(900) // 3
    probabilities = metrics.softmax(((drawn("logits", 900, 9) - 0.5) * 30).astype(np.float32))
    genre = np.floor(drawn("genre", 300) * 9).astype(np.int64)
    by_clip = metrics.mean_by_clip(probabilities, clips, 300)
    names = tuple("abcdefghi")
    yield from (probabilities, by_clip)
    yield metrics.figures(probabilities, genre[clips], clips, names)
    yield metrics.figures(by_clip, genre, np.arange(300), names)
    few = np.arange(6)  # So few that a last bit is not lost in the mean.
    yield [metrics.figures(by_clip[at : at + 6], genre[at : at + 6], few, names) for at in range(0, 300, 6)]
    yield metrics.per_genre(by_clip, genre, names)
    yield vars(reliability(by_clip.max(axis=1), by_clip.argmax(axis=1) == genre))


def strengths() -> Iterator[object]:
    import torch

    settings = AugmentSettings.read({**EVERY, "equaliser_db": 6.0})
    u = {}

    def draw(stream: str) -> np.ndarray:
        u[stream] = drawn(stream, 2000)
        return u[stream]

    draws = {
        **augment.wave_draws(settings, draw),
        **augment.feature_draws(settings, draw),
        **augment.mask_draws(settings, draw),
    }
    amounts = augment.wave_amounts(draws, settings, 30000)
    yield from amounts.values()
    yield from augment.feature_amounts(draws, settings, 128).values()
    yield [vars(each) for each in augment.masks_of(draws, settings, 128, 256, 40)]
    yield chosen(draws, "gain", 0.5, draws["gain.amount"], 0.0)
    yield amplify(torch.ones(2000, 3), amounts["gain_db"]).numpy()
    tone = augment.equaliser_draws(lambda stream: drawn(stream, 40))
    yield augment.equalise(torch.zeros(40, 128, 3), tone, 6.0, torch.ones(128)).numpy()
    sixteen = {name: values[:16] for name, values in amounts.items()}
    yield augment.alter_wave(torch.from_numpy(drawn("wave", 16, 3000).astype(np.float32)), sixteen, 441).numpy()


def mixup() -> Iterator[object]:
    for alpha in (0.1, 0.2, 0.4, 1.0, 3.0):
        yield augment.mixup_weights(drawn("mixup", 1000), alpha)


def variants() -> Iterator[object]:
    from genrecls.augment.vocoder import stretch

    settings = AugmentSettings.read({**EVERY, "variants": 2})
    variant = augment.Variant(settings, 1, sound=True)
    yield [vars(variant.variation(str(number))) for number in range(300)]
    wave = record("techno", 1, 1).pcm[:20000]
    yield stretch((wave.reshape(len(wave), -1)[:, 0] / 32768).astype(np.float32), 23456)


def significance() -> Iterator[object]:
    for number in range(5):
        a, b = ((drawn(f"{which} {number}", 4, 290) < 0.6).astype(np.float64) for which in "ab")
        for paired in (False, True):
            yield vars(estimate(a, b, paired))
        yield vars(permuted(a.mean(axis=1), b.mean(axis=1), paired=True))
    many = drawn("many", 2, 20)
    yield [vars(permuted(many[0], many[1], paired)) for paired in (False, True)]
    yield [mcnemar(i % 20, 20 + i) for i in range(60)]


def maps() -> Iterator[object]:
    heaps = np.repeat(drawn("heaps", 4, 24), 10, axis=0)
    points = heaps + 0.3 * drawn("places", 40, 24)
    points[7] = points[6]
    yield plane(points)


def audits() -> Iterator[object]:
    samples = [(wave.reshape(len(wave), -1)[:, 0] / 32768).astype(np.float32) for wave in _clips()]
    # Copies at another rate, shifted and among noise.
    samples += [samples[0][3000:], samples[0] + ((drawn("hiss", len(samples[0])) - 0.5) / 200).astype(np.float32)]
    prints = [fingerprint(each, 22050) for each in samples]
    yield from prints
    yield [vars(each) for each in matches(prints, lambda *_: None, 1)]
    coarse = sorted((each[::4].astype(np.float32) / np.float32(40) for each in prints), key=len)
    yield _evidence(coarse, coarse, 12)


def _clips() -> list[np.ndarray]:
    return [record(genre, 1, 1).pcm[:200_000] for genre in ("techno", "waltz")]


def synth() -> Iterator[object]:
    yield from _clips()


def exports() -> Iterator[object]:
    waves = _waves(1000)
    assert waves is not None
    yield from (each.numpy() for each in waves)
    yield _signal(20000, 22050)


def functions() -> Iterator[object]:
    x = drawn("numbers", 20000) * 200 - 100
    yield from (exact.exp(x), exact.log(np.abs(x)), exact.power_of_ten(x / 20), exact.cosine(x), exact.sine(x))
    yield exact.product(x[:12000].reshape(60, 200), x[:14000].reshape(200, 70))
    yield name_key("numbers")


KINDS = (figures, strengths, mixup, variants, significance, maps, audits, synth, exports, functions)


def digest(values: Iterator[object]) -> str:
    """SHA-256 of arrays' bytes and of other values' shortest exact form."""
    made = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            made.update(f"{value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes())
        else:
            with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
                made.update(repr(value).encode())
    return made.hexdigest()


if __name__ == "__main__":
    wanted = sys.argv[1:] or [kind.__name__ for kind in KINDS]
    print(json.dumps({kind.__name__: digest(kind()) for kind in KINDS if kind.__name__ in wanted}))
