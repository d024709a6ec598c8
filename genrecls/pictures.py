"""Pictures for people, by matplotlib, which is an extra of the installation."""

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genrecls import exact
from genrecls.config import FeatureSettings
from genrecls.errors import GenreclsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_RANGE_DB = 80.0
_CLOSEST = 0.06
"""Of two labelled frequencies, as a share of the axis: nearer ones would be printed over each other."""
_LABELLED_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)


@dataclass(frozen=True)
class Panel:
    """A mel-spectrogram with its title and a line of text. log_mel: natural log of power (bins, frames)."""

    title: str
    text: str
    log_mel: NDArray[np.float32]


def figure(width: float, height: float) -> "Figure":
    """An empty figure in inches, which belongs to no window. Raises GenreclsError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GenreclsError(
            "Pictures need matplotlib, which is not installed: run `pip install -e '.[plots]'` in the checkout."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def mel_spectrograms(panels: Sequence[Panel], settings: FeatureSettings) -> bytes:
    """A PNG of mel-spectrograms one under the other, on one scale of colours, with seconds and Hz at the axes."""
    drawn = figure(10, 0.6 + 3.0 * len(panels))
    rows: NDArray[np.object_] = drawn.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    levels = [decibels(panel.log_mel) for panel in panels]
    highest = max(map(highest_of, levels))
    for axes, panel, level in zip(rows, panels, levels, strict=True):
        image = draw_mel(axes, level, settings, highest)
        lines = "\n".join(textwrap.wrap(panel.text, 118))
        axes.annotate(
            lines, (0, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", fontsize=9, va="bottom"
        )
        axes.set_title(panel.title, loc="left", fontsize=12, fontweight="bold", pad=8 + 12 * (lines.count("\n") + 1))
    rows[-1].set_xlabel("time (s)")
    drawn.colorbar(image, ax=rows.tolist(), label="power (dB)", aspect=40, pad=0.01)
    png = io.BytesIO()
    drawn.savefig(png, format="png", dpi=110)
    return png.getvalue()


def decibels(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The natural log of power as 10 times its decimal one."""
    level: NDArray[np.float32] = log_mel * np.float32(10 / exact.LN_10)
    return level


def highest_of(level: NDArray[np.float32]) -> float:
    """Where its colours end: not at the very highest value, which a single bright point would put far above others."""
    return float(np.percentile(level, 99.5))


def draw_mel(
    axes: "Axes", level: NDArray[np.float32], settings: FeatureSettings, highest: float, begin: float = 0.0
) -> "AxesImage":
    """Levels in dB (mel bins, frames) as colours over 80 dB, from seconds `begin` on, with Hz at the upright axis."""
    hop = settings.hop_length / settings.sample_rate
    image = axes.imshow(
        level,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        vmin=highest - _RANGE_DB,
        vmax=highest,
        extent=(begin, begin + level.shape[1] * hop, -0.5, level.shape[0] - 0.5),
    )
    label_frequencies(axes, settings)
    return image


def confusion_matrix(genres: Sequence[str], counts: Sequence[Sequence[int]], title: str) -> bytes:
    """A PNG of clips by true (row) and predicted (column) genre, shaded by their share of the row."""
    side = 2.2 + 0.45 * len(genres)
    drawn = figure(side, side)
    axes: Axes = drawn.subplots()
    draw_confusion(axes, genres, np.asarray(counts, dtype=np.int64))
    axes.set_title(title)
    png = io.BytesIO()
    drawn.savefig(png, format="png", dpi=110)
    return png.getvalue()


def draw_confusion(axes: "Axes", genres: Sequence[str], counts: NDArray[np.int64], ink: str = "black") -> None:
    """Clips by true (row) and predicted (column) genre, shaded by their share of the row.

    ink: of numbers in pale cells. The shade of nothing is transparent, so that the picture's ground shows.
    """
    from matplotlib.colors import LinearSegmentedColormap

    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    blues = LinearSegmentedColormap.from_list("blues", [(0, 0.447, 0.698, 0), (0, 0.447, 0.698, 1)])
    axes.imshow(share, cmap=blues, vmin=0, vmax=1, interpolation="nearest")
    size = 8 if len(genres) <= 12 else 6
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[row, column] > 0.5 else ink
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size)
    # Names come from outside: in matplotlib a pair of dollar signs would begin a formula.
    named: Any = {"fontsize": size, "parse_math": False}
    axes.set_xticks(range(len(genres)), genres, rotation=45, ha="right", rotation_mode="anchor", **named)
    axes.set_yticks(range(len(genres)), genres, **named)
    axes.set_xlabel("predicted genre")
    axes.set_ylabel("true genre")


def pixels(png: bytes) -> NDArray[np.uint8]:
    """A PNG of this module as (height, width, 3)."""
    from matplotlib.image import imread

    return (imread(io.BytesIO(png), format="png")[:, :, :3] * 255).round().astype(np.uint8)


def label_frequencies(axes: "Axes", settings: FeatureSettings) -> None:
    """Round frequencies at the upright axis of a picture whose rows are mel bins."""
    labels: dict[float, str] = {}
    for hertz in _LABELLED_HZ:
        at = float(bin_of(hertz, settings))
        apart = at - max(labels, default=-math.inf) > settings.n_mels * _CLOSEST
        if settings.f_min <= hertz <= settings.highest and apart:
            labels[at] = f"{hertz // 1000}k" if hertz >= 1000 else str(hertz)
    axes.set_yticks(list(labels), list(labels.values()))
    axes.set_ylim(-0.5, settings.n_mels - 0.5)
    axes.set_ylabel("frequency (Hz)")


def bin_of(hertz: float, settings: FeatureSettings) -> float:
    """Which mel bin has its centre at a frequency, with fractions (HTK mel scale)."""
    low, high = _mel(settings.f_min), _mel(settings.highest)
    return (_mel(hertz) - low) / (high - low) * (settings.n_mels + 1) - 1


def hertz_of(position: float, settings: FeatureSettings) -> float:
    """The inverse of `bin_of`."""
    low, high = _mel(settings.f_min), _mel(settings.highest)
    mel = low + (position + 1) / (settings.n_mels + 1) * (high - low)
    made: float = 700 * (10 ** (mel / 2595) - 1)
    return made


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
