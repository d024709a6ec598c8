"""Which of many fingerprints are of the same recording, at whatever shift in time.

Every pair is correlated at every shift, at a quarter of the fingerprint's rate: a Fourier transform makes that one
small matrix product for each frequency, for blocks of clips at once. No pair is missed for want of a common hash; it
is quadratic, and for 25,000 clips of 30 s takes about as long as decoding them. The best partners of each clip are then
aligned at the full rate and judged.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from genrecls.audit.fingerprint import DIFFERENCES, FRAMES_PER_SECOND, Fingerprint
from genrecls.datasets.loader import Progress

MIN_OVERLAP = 2.5
"""Seconds that two clips must share to be compared."""
SAME = 0.7
"""A correlation from which two clips are the same recording, over `SURE_OVERLAP` seconds at least."""
SURE_OVERLAP = 4.0
SAME_BRIEFLY = 0.85
"""The like where they share less."""
STANDING_OUT = 1.7
"""Evidence this many times that at any other shift is no matter of rhythm: then less correlation is enough."""
EVIDENCE = 1.5
"""How much then: correlation x square root of the seconds shared. Of clips in one style, by one artist, with the same
drums, whose bars happen to fit, it reaches 1.4 in 5 s."""
LONG_EVIDENCE = 1.0
LONG_OVERLAP = 12.0
"""Over this many seconds the bars of two pieces part, and it is chance, which reaches 0.6, that is to be exceeded."""

_COARSE = 4
_BLOCK = 128
_VALUES = 2**24
"""Correlations that are held for two blocks at once, at all shifts: 130 MB for each thread with what they come from."""
_PARTNERS = 8
"""Pairs that are looked at again for each clip."""
_WORTH = 0.6
"""Evidence at the coarse rate from which a pair is looked at again."""
_NEAR = FRAMES_PER_SECOND // 2
"""Frames around the best shift that do not count as another one."""
_WHOLE = 512
"""Parts of complex numbers are rounded to whole ones up to this: of 64 products of two float32 holds every sum, so that
the order of a matrix product, which is the processor's, moves no bit."""
_FLAT = 4.0
"""Energy added to that of a frame (in steps of a fingerprint, squared, for each value): steady sound is no evidence."""


@dataclass(frozen=True)
class Match:
    """Two fingerprints of one recording, by their positions a < b.

    score: their correlation in what they share, up to 1. seconds: how much that is. shift: seconds by which the same
    sound comes earlier in b than in a; negative where later.
    """

    a: int
    b: int
    score: float
    seconds: float
    shift: float


def matches(fingerprints: Sequence[Fingerprint], progress: Progress, jobs: int = 0) -> list[Match]:
    """All pairs that are of the same recording, by position; of one with many copies, the 8 most alike and more.

    jobs: threads, 0 for one each core.
    """
    pairs = _candidates(fingerprints, progress, jobs)
    found = []
    for done, (a, b) in enumerate(pairs, 1):
        match = _judged(a, b, fingerprints[a], fingerprints[b])
        if match is not None:
            found.append(match)
        progress("aligning", done, len(pairs))
    return found


def _candidates(fingerprints: Sequence[Fingerprint], progress: Progress, jobs: int) -> list[tuple[int, int]]:
    coarse = [_coarse(each) for each in fingerprints]
    least = round(MIN_OVERLAP * FRAMES_PER_SECOND / _COARSE)
    # Clips of about one length share a block, which is as long as its longest.
    order = [i for i in sorted(range(len(coarse)), key=lambda i: len(coarse[i])) if len(coarse[i]) >= least]
    blocks: list[list[int]] = []
    while rest := order[sum(map(len, blocks)) :]:
        longest = len(coarse[rest[:_BLOCK][-1]])
        blocks.append(rest[: max(1, min(_BLOCK, math.isqrt(_VALUES // (2 * longest))))])
    # For each clip its partners so far, the weakest first.
    best: dict[int, list[tuple[float, int]]] = {i: [] for i in order}
    work = list(combinations_with_replacement(range(len(blocks)), 2))

    def compare(pair: tuple[int, int]) -> list[tuple[float, int, int]]:
        left, right = blocks[pair[0]], blocks[pair[1]]
        evidence = _evidence([coarse[i] for i in left], [coarse[i] for i in right], least)
        if pair[0] == pair[1]:
            evidence[np.tril_indices(len(left))] = 0
        return [(float(evidence[i, j]), left[i], right[j]) for i, j in np.argwhere(evidence >= _WORTH)]

    pool = ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0)))
    try:
        # The matrices are so small that threads of the BLAS within each of ours cost four times what they bring.
        with threadpool_limits(1, "blas"):
            for done, some in enumerate(pool.map(compare, work), 1):
                for strength, a, b in some:
                    for one, other in ((a, b), (b, a)):
                        best[one] = sorted([*best[one], (strength, other)])[-_PARTNERS:]
                progress("comparing", done, len(work))
    finally:
        pool.shutdown(cancel_futures=True)
    return sorted({(min(a, b), max(a, b)) for a, partners in best.items() for _, b in partners})


def _coarse(fingerprint: Fingerprint) -> NDArray[np.float32]:
    """float32 (frames // 4, 32), of one energy a frame in the mean."""
    count = len(fingerprint) // _COARSE
    values = fingerprint[: count * _COARSE].reshape(count, _COARSE, DIFFERENCES).astype(np.float32)
    means: NDArray[np.float32] = values.mean(axis=1)
    if count:
        means /= np.float32(math.sqrt((float((means**2).mean()) + _FLAT) * DIFFERENCES))
    return means


def _evidence(
    left: Sequence[NDArray[np.float32]], right: Sequence[NDArray[np.float32]], least: int
) -> NDArray[np.float32]:
    """Correlation x square root of seconds at the best shift: float32 (left, right). Both are sorted by length."""
    long, other = len(left[-1]), len(right[-1])
    size = scipy.fft.next_fast_len(long + other, real=True)
    spectra = (scipy.fft.rfft(_stacked(each, size), axis=1) for each in (left, right))
    (ours, unit), (theirs, other_unit) = map(_whole, spectra)
    products = np.matmul(ours.transpose(1, 0, 2), theirs.conj().transpose(1, 2, 0)).transpose(1, 2, 0)
    sums = scipy.fft.irfft(products, size, axis=2)
    shifts = np.arange(size)
    shifts = np.where(shifts < long, shifts, shifts - size)
    shared = np.minimum(long, other + shifts) - np.maximum(shifts, 0)
    weight = np.where(shared >= least, 1 / np.sqrt(np.maximum(shared, 1) * FRAMES_PER_SECOND / _COARSE), 0)
    sums *= weight.astype(np.float32)
    strongest: NDArray[np.float32] = sums.max(axis=2) * (unit[:, None] * other_unit)
    return strongest


def _whole(spectra: NDArray[np.complex64]) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Spectra (clips, frequencies, 32) in whole numbers up to `_WHOLE`, in the units (clips,) that come with them."""
    parts = spectra.view(np.float32)
    largest = np.abs(parts).max(axis=(1, 2))
    largest[largest == 0] = 1
    unit = largest / np.float32(_WHOLE)
    return np.rint(parts / unit[:, None, None]).view(np.complex64), unit


def _stacked(clips: Sequence[NDArray[np.float32]], size: int) -> NDArray[np.float32]:
    stacked = np.zeros((len(clips), size, DIFFERENCES), np.float32)
    for row, clip in zip(stacked, clips, strict=True):
        row[: len(clip)] = clip
    return stacked


def _judged(a: int, b: int, left: Fingerprint, right: Fingerprint) -> Match | None:
    """The match of two fingerprints at their best shift, None where they are of two recordings."""
    size = scipy.fft.next_fast_len(len(left) + len(right), real=True)
    one, other = left.astype(np.float32), right.astype(np.float32)
    a_spectrum, b_spectrum = (scipy.fft.rfft(each, size, axis=0) for each in (one, other))
    # By parts: NumPy's own product of complex numbers rounds once or twice, as the processor has it.
    product = np.empty(len(a_spectrum), np.complex64)
    product.real = (a_spectrum.real * b_spectrum.real + a_spectrum.imag * b_spectrum.imag).sum(axis=1)
    product.imag = (a_spectrum.imag * b_spectrum.real - a_spectrum.real * b_spectrum.imag).sum(axis=1)
    sums = scipy.fft.irfft(product, size)
    shifts = np.arange(1 - len(other), len(one))
    first, last = np.maximum(shifts, 0), np.minimum(len(one), len(other) + shifts)
    enough = last - first >= MIN_OVERLAP * FRAMES_PER_SECOND
    if not enough.any():
        return None
    shifts, first, last = shifts[enough], first[enough], last[enough]
    before_one, before_other = (np.concatenate([[0.0], np.cumsum((x**2).sum(axis=1))]) for x in (one, other))
    flat = _FLAT * DIFFERENCES * (last - first)
    energy_one = before_one[last] - before_one[first] + flat
    energy_other = before_other[last - shifts] - before_other[first - shifts] + flat
    correlation = sums[shifts % size] / np.sqrt(energy_one * energy_other)
    evidence = correlation * np.sqrt((last - first) / FRAMES_PER_SECOND)
    at = int(np.argmax(evidence))
    score, seconds = float(correlation[at]), float(last[at] - first[at]) / FRAMES_PER_SECOND
    elsewhere = float(evidence[np.abs(shifts - shifts[at]) > _NEAR].max(initial=0.0))
    if not is_copy(score, seconds, elsewhere):
        return None
    return Match(a, b, round(score, 4), seconds, float(shifts[at]) / FRAMES_PER_SECOND)


def is_copy(score: float, seconds: float, elsewhere: float) -> bool:
    """The verdict on a pair. score: correlation at the best shift. elsewhere: the most evidence at any other shift."""
    if score >= (SAME if seconds >= SURE_OVERLAP else SAME_BRIEFLY):
        return True
    enough = LONG_EVIDENCE if seconds >= LONG_OVERLAP else EVIDENCE
    return score * math.sqrt(seconds) >= max(enough, STANDING_OUT * elsewhere)
