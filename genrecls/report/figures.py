"""The pictures of the page, by matplotlib, each with the numbers it shows.

A picture has no background and one colour of ink, which the SVG takes from the reader's light or dark theme and the PNG
prints on white. Everything is drawn inside `style`, outside of which matplotlib's settings are as they were.
"""

import base64
import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genrecls import atomic
from genrecls.pictures import bin_of, decibels, draw_confusion, draw_mel, figure, hertz_of, highest_of
from genrecls.report.calibration import BINS, reliability
from genrecls.report.material import FEATURES, Excerpt, Map
from genrecls.report.records import Recorded, Scored
from genrecls.tables import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1b87cc", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#a89a00", "#8c8c8c")
"""Of Okabe and Ito 2008, told apart with any colour vision. So that they show on white and on black, its black is a
grey, its yellow darker and its blue lighter."""
MARKERS = "osD^vPX*<>"
_INK = "#24292f"
_ON_DARK = "#e6e8eb"
_MANY = 14
"""Names beside a map; the clips of others are drawn in grey."""
_CLOUD_POINTS = 4.5 * 72
"""Width of a line of names, a little less than the picture's."""

Cell = str | int | float


@dataclass(frozen=True)
class Plot:
    """A picture with its numbers.

    name: of its files, ASCII. run: label of the run it is of, "" for one of several. caption: what is to be seen.
    columns, rows: the numbers. drawn: by matplotlib.
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(repr=False)
    drawn: "Figure" = field(repr=False)
    run: str = ""

    @property
    def uri(self) -> str:
        """The SVG as a data URI: a document of its own, whose names cannot clash with those of the page."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg().encode('utf-8')).decode('ascii')}"

    def svg(self) -> str:
        """In ink that is light on a dark theme. The same plot gives the same text."""
        content = io.BytesIO()
        with style(self.name):
            self.drawn.savefig(content, format="svg", transparent=True, metadata={"Date": None})
        text = content.getvalue().decode("utf-8")
        head, begin, rest = text[text.index("<svg") :].partition(">")
        theme = f"<style>:root{{--ink:{_INK}}}@media(prefers-color-scheme:dark){{:root{{--ink:{_ON_DARK}}}}}</style>"
        return head + begin + theme + rest.replace(_INK, "var(--ink)")

    def png(self) -> bytes:
        """On white, 200 dots an inch."""
        content = io.BytesIO()
        with style(self.name):
            self.drawn.savefig(content, format="png", dpi=200, facecolor="white", metadata={"Software": None})
        return content.getvalue()

    def csv(self) -> str:
        """The numbers, floats in the shortest form that reads back as the same."""
        rows = ([repr(cell) if isinstance(cell, float) else cell for cell in row] for row in self.rows)
        return csv_text([self.columns, *rows])


@contextmanager
def style(salt: str) -> Iterator[None]:
    """How pictures look, for the block alone. salt: what names inside an SVG are made from."""
    figure(1, 1)  # says so where matplotlib is missing
    import matplotlib

    ink = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK
    )
    chosen: Any = {
        **ink,
        "font.size": 9,
        "axes.titlesize": 9,
        "legend.fontsize": 8,
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.15,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "axes.facecolor": "none",
        # Names come from outside: no dollar sign in one is to start a formula.
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
    }
    with matplotlib.rc_context(chosen), warnings.catch_warnings():
        # The reader's fonts have more letters than matplotlib's own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def shown(name: str) -> str:
    """A name from outside as pictures and pages can have it: no control character, no half of a surrogate pair."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)


def short(name: str, most: int = 18) -> str:
    """`shown`, cut so that it fits beside an axis."""
    plain = shown(name)
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def _colours(count: int) -> list[tuple[str, str]]:
    """A colour and a marker for each of `count` things, of which no two have both in common up to 40."""
    return [(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i in range(count)]


_CURVES = (
    ("loss", "Loss", "cross-entropy (nats)"),
    ("accuracy", "Accuracy", "accuracy on validation clips"),
    ("f1", "Macro F1", "macro F1 on validation clips"),
    ("learning-rate", "Learning rate", "learning rate"),
)


def curves(runs: Sequence[Recorded]) -> list[Plot]:
    """Loss, accuracy, macro F1 and learning rate by epoch, one line for each run."""
    runs = [each for each in runs if each.history]
    if not runs:
        return []
    columns = ("run", "epoch", "lr", "train_cross_entropy", "valid_cross_entropy", "valid_accuracy", "valid_f1_macro")
    rows: list[tuple[Cell, ...]] = [
        (each.label, line["epoch"], line["lr"], line["train"]["cross_entropy"], *_valid(line))
        for each in runs
        for line in each.history
    ]
    made = []
    for name, title, label in _CURVES:
        with style(name):
            from matplotlib.ticker import MaxNLocator

            labelled = (2 if name == "loss" else 0) if len(runs) == 1 else len(runs)
            drawn = figure(4.6, 2.9 + 0.17 * math.ceil(labelled / 2))
            axes = drawn.subplots()
            for each, (colour, marker) in zip(runs, _colours(len(runs)), strict=True):
                # Beyond the colours there are, markers tell lines apart; a lone epoch makes no line.
                marked = marker if len(runs) > len(COLOURS) else "." if len(each.history) == 1 else ""
                _curve(axes, name, each, colour, marked, len(runs) > 1)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if name in ("accuracy", "f1"):
                axes.set_ylim(0, 1)
            if name == "learning-rate":
                axes.set_ylim(bottom=0)
            if labelled:
                # Above the curves, so that it hides none of them.
                drawn.legend(loc="outside upper left", ncols=2, columnspacing=1)
        dashed = "Dashed is training. " if len(runs) > 1 else ""
        captions = {
            "loss": f"{dashed}Training loss is of augmented crops, so that it may lie above validation's. "
            "The dot is the epoch whose weights were kept.",
            "learning-rate": "At the end of each epoch.",
        }
        caption = captions.get(name, "Per clip. The dot is the epoch whose weights were kept.")
        if len(runs) > 1:
            caption += " Of lines that lie on each other the last run's is seen."
        made.append(Plot(name, title, caption, columns, rows, drawn))
    return made


def _valid(line: Mapping[str, Any]) -> tuple[float, float, float]:
    clip = line["valid"]["clip"]
    return clip["cross_entropy"], clip["accuracy"], clip["f1_macro"]


def _curve(axes: "Axes", name: str, each: Recorded, colour: str, marker: str, several: bool) -> None:
    epochs = [line["epoch"] for line in each.history]
    label = short(each.label, 28) if several else "validation"
    drawn: Any = {"color": colour, "marker": marker, "markersize": 4}
    if name == "learning-rate":
        axes.plot(epochs, [line["lr"] for line in each.history], label=label, **drawn)
        return
    values = [_valid(line)[("loss", "accuracy", "f1").index(name)] for line in each.history]
    if name == "loss":
        training = [line["train"]["cross_entropy"] for line in each.history]
        axes.plot(epochs, training, linestyle=(0, (3, 1.5)), label="_" if several else "training", alpha=0.8, **drawn)
    axes.plot(epochs, values, label=label, **drawn)
    best = each.record["best_epoch"]
    if best in epochs:
        axes.plot([best], [values[epochs.index(best)]], "o", color=colour, markersize=5)


def confusion(scored: Scored, genres: Sequence[str]) -> Plot:
    """Counts by true and predicted genre, shaded by the share of the true genre's clips."""
    counts = np.zeros((len(genres), len(genres)), dtype=np.int64)
    np.add.at(counts, (scored.genre, scored.predicted), 1)
    with style("confusion"):
        drawn = figure(4.6, 4.4)
        axes = drawn.subplots()
        draw_confusion(axes, [short(genre, 12) for genre in genres], counts, _INK)
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_alpha(0.3)
        axes.tick_params(length=0)
    rows: list[tuple[Cell, ...]] = [(genre, *map(int, row)) for genre, row in zip(genres, counts, strict=True)]
    caption = "Test clips; the shade is the share of the true genre's clips (of a row)."
    return Plot("confusion", "Confusion matrix", caption, ("true genre", *genres), rows, drawn)


def per_genre(scored: Scored) -> Plot:
    """Precision, recall and F1 of each genre."""
    table = scored.values["per_genre"]
    names = list(table)
    with style("per-genre"):
        drawn = figure(4.6, 0.9 + 0.28 * len(names))
        axes = drawn.subplots()
        for at, genre in enumerate(names):
            known = [table[genre][what] for what in ("precision", "recall", "f1") if table[genre][what] is not None]
            if known:
                axes.plot([min(known), max(known)], [at, at], color=_INK, alpha=0.25, linewidth=3)
        for what, label, colour, marker in zip(
            ("precision", "recall", "f1"), ("precision", "recall", "F1"), COLOURS, "s^o", strict=False
        ):
            points = [(table[g][what], at) for at, g in enumerate(names) if table[g][what] is not None]
            axes.plot(*zip(*points, strict=True), marker, color=colour, label=label, markersize=6, alpha=0.9)
        axes.set_yticks(range(len(names)), [short(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("share")
        drawn.legend(loc="outside upper center", ncols=3)
    columns = ("genre", "precision", "recall", "f1", "clips")
    rows: list[tuple[Cell, ...]] = [
        (name, *("" if table[name][c] is None else table[name][c] for c in columns[1:])) for name in names
    ]
    caption = "Of test clips. What is undefined, because no clip is of a genre or predicted as one, is left out."
    return Plot("per-genre", "Precision, recall and F1 by genre", caption, columns, rows, drawn)


def calibration(scored: Scored) -> Plot:
    """The reliability diagram, with how many clips stand behind each bar."""
    confidence = scored.probabilities.max(axis=1)
    found = reliability(confidence, scored.right)
    edges = np.linspace(0, 1, BINS + 1)
    middles, wide = (edges[:-1] + edges[1:]) / 2, 0.92 / BINS
    with style("reliability"):
        drawn = figure(4.6, 4.0)
        axes, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        filled = found.clips > 0
        axes.bar(middles[filled], found.accuracy[filled], wide, color=COLOURS[0], alpha=0.75, label="accuracy")
        axes.plot(
            found.confidence[filled],
            found.accuracy[filled],
            "o",
            color=COLOURS[3],
            markersize=5,
            label="mean probability",
            clip_on=False,
        )
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
        axes.set_ylim(0, 1)
        axes.set_xlim(0, 1)
        axes.set_ylabel("share that is right")
        axes.set_title(f"expected calibration error (ECE) {found.error:.3f}", loc="left")
        drawn.legend(loc="outside upper left", ncols=3, columnspacing=1)
        below.bar(middles, found.clips, wide, color=_INK, alpha=0.5)
        below.set_ylabel("clips")
        below.set_xlabel("probability of the predicted genre")
    rows: list[tuple[Cell, ...]] = [
        (
            float(edges[i]),
            float(edges[i + 1]),
            int(n),
            *(("", "") if not n else (float(found.confidence[i]), float(found.accuracy[i]))),
        )
        for i, n in enumerate(found.clips)
    ]
    columns = ("from", "to", "clips", "mean_probability", "accuracy")
    caption = (
        f"The expected calibration error is {found.error:.3f}: by so much probability and share of right answers "
        f"differ on average, over {BINS} bins."
    )
    return Plot("reliability", "Reliability diagram", caption, columns, rows, drawn)


def plane(found: Map, by: str) -> Plot:
    """The map of test clips, coloured by "genre" or by "artist"."""
    labels = found.genre if by == "genre" else found.group
    names, counts = np.unique([label for label in labels if label], return_counts=True)
    largest = names if len(names) <= _MANY else names[np.argsort(-counts, kind="stable")[:_MANY]]
    listed = [str(name) for name in sorted(largest)]
    with style(f"tsne-{by}"):
        drawn = figure(4.6, 4.6)
        axes = drawn.subplots()
        rest = np.array([label not in listed for label in labels])
        if rest.any():
            what = "others, unknown" if by == "artist" else "others"
            axes.scatter(
                found.points[rest, 0],
                found.points[rest, 1],
                s=16,
                color="#8c8c8c",
                alpha=0.35,
                label=what,
                linewidths=0,
            )
        for name, (colour, marker) in zip(listed, _colours(len(listed)), strict=True):
            of = np.array([label == name for label in labels])
            axes.scatter(
                found.points[of, 0],
                found.points[of, 1],
                s=26,
                color=colour,
                marker=marker,
                alpha=0.85,
                label=short(name, 14 if by == "genre" else 18),
                linewidths=0,
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("t-SNE 1 (no unit)")
        axes.set_ylabel("t-SNE 2 (no unit)")
        axes.spines[:].set_visible(True)
        axes.spines[:].set_alpha(0.3)
        drawn.legend(loc="outside lower center", ncols=4 if by == "genre" else 3, handletextpad=0.3, columnspacing=1)
    rows: list[tuple[Cell, ...]] = [
        (clip, genre, group, float(x), float(y))
        for clip, genre, group, (x, y) in zip(found.clips, found.genre, found.group, found.points, strict=True)
    ]
    caption = "What the model's last linear layer is given, mean of each test clip's fragments. Near is alike; "
    caption += "distances between heaps mean little."
    if len(names) > _MANY:
        caption += f" Coloured are the {_MANY} of {len(names)} {by}s with most clips."
    columns = ("clip", "genre", "group", "x", "y")
    return Plot(f"tsne-{by}", f"Clip embeddings by {by}", caption, columns, rows, drawn)


def spectrogram(number: int, kind: str, excerpt: Excerpt) -> Plot:
    """The mel-spectrogram of an excerpt. kind: "typical" or "wrong". number: from 1."""
    level = decibels(excerpt.log_mel)
    hop = FEATURES.hop_length / FEATURES.sample_rate
    name = f"{kind}-{number:02d}"
    with style(name):
        drawn = figure(3.6, 2.2)
        axes = drawn.subplots()
        draw_mel(axes, level, FEATURES, highest_of(level), excerpt.begin)
        axes.set_xlabel("time in the clip (s)")
        axes.grid(visible=False)
    frames = range(level.shape[1])
    columns = ("seconds", *(f"{hertz_of(i, FEATURES):.0f} Hz" for i in range(level.shape[0])))
    rows: list[tuple[Cell, ...]] = [
        (excerpt.begin + i * hop, *(round(float(db), 2) for db in level[:, i])) for i in frames
    ]
    return Plot(name, "Mel-spectrogram", "Levels in dB.", columns, rows, drawn)


def corpus_bars(each: Recorded) -> Plot:
    """Clips of each genre in each part of the split."""
    with style("clips"):
        drawn = figure(4.6, 0.9 + 0.28 * len(each.genres))
        axes = drawn.subplots()
        left = np.zeros(len(each.genres))
        for (role, counts), colour in zip(each.counts.items(), COLOURS, strict=False):
            widths = np.array([counts[genre] for genre in each.genres])
            axes.barh(range(len(each.genres)), widths, left=left, color=colour, label=role)
            left = left + widths
        axes.set_yticks(range(len(each.genres)), [short(genre) for genre in each.genres])
        axes.set_ylim(len(each.genres) - 0.5, -0.5)
        axes.set_xlabel("clips")
        axes.grid(visible=False, axis="y")
        drawn.legend(loc="outside upper center", ncols=3)
    rows: list[tuple[Cell, ...]] = [(genre, *(c[genre] for c in each.counts.values())) for genre in each.genres]
    caption = f"The split {each.config.split.policy}."
    return Plot("clips", "Clips by genre and split", caption, ("genre", *each.counts), rows, drawn)


def lengths(each: Recorded) -> Plot:
    """How long clips are."""
    seconds = each.seconds
    values = np.array(list(seconds.values()))
    with style("lengths"):
        drawn = figure(4.6, 3.0)
        axes = drawn.subplots()
        axes.hist(values, bins=30, color=COLOURS[0], alpha=0.85)
        axes.set_xlabel("length (s)")
        axes.set_ylabel("clips")
    caption = (
        f"{len(values)} clips, {values.sum() / 3600:.2f} h; median {np.median(values):.1f} s, "
        f"{values.min():.1f} s to {values.max():.1f} s."
    )
    return Plot("lengths", "Lengths", caption, ("clip", "seconds"), list(seconds.items()), drawn)


def spectra(levels: Mapping[str, NDArray[np.float64]], clips: int) -> Plot:
    """The mean spectrum of each genre. levels: dB (bins,). clips: most that each is of."""
    hertz = [hertz_of(i, FEATURES) for i in range(FEATURES.n_mels)]
    with style("spectra"):
        drawn = figure(4.6, 3.8)
        axes = drawn.subplots()
        for (genre, level), (colour, marker) in zip(levels.items(), _colours(len(levels)), strict=True):
            axes.plot(
                range(len(level)),
                level,
                color=colour,
                marker=marker,
                markevery=(5, 16),
                markersize=4,
                label=short(genre, 14),
            )
        ticks = (100, 300, 1000, 3000, 10000)
        axes.set_xticks([bin_of(f, FEATURES) for f in ticks], [f"{f // 1000}k" if f >= 1000 else str(f) for f in ticks])
        axes.set_xlabel("frequency (Hz, mel scale)")
        axes.set_ylabel("mean level (dB)")
        drawn.legend(loc="outside lower center", ncols=4, handletextpad=0.4, columnspacing=1)
    rows: list[tuple[Cell, ...]] = [
        (float(f), *(float(level[i]) for level in levels.values())) for i, f in enumerate(hertz)
    ]
    caption = f"Mean over time of the log-mel spectrogram, of up to {clips} training clips of each genre."
    return Plot("spectra", "Mean spectrum by genre", caption, ("hertz", *levels), rows, drawn)


def cloud(each: Recorded) -> Plot:
    """Genres' names, the larger the more clips are of it."""
    total = {genre: sum(counts[genre] for counts in each.counts.values()) for genre in each.genres}
    most = max(total.values(), default=0) or 1
    words = [
        (short(g, 16), 9 + 17 * math.sqrt(n / most), c)
        for (g, n), (c, _) in zip(total.items(), _colours(len(total)), strict=True)
    ]
    lines: list[list[tuple[str, float, str, float]]] = [[]]
    used = 0.0
    for word, size, colour in words:
        wide = len(word) * size * 0.62 + 10
        if lines[-1] and used + wide > _CLOUD_POINTS:
            lines.append([])
            used = 0.0
        lines[-1].append((word, size, colour, wide))
        used += wide
    heights = [max(word[1] for word in line) * 1.5 for line in lines]
    with style("cloud"):
        drawn = figure(4.6, (sum(heights) + 12) / 72)
        drawn.set_layout_engine("none")
        axes = drawn.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, 4.6 * 72)
        axes.set_ylim(sum(heights) + 12, 0)
        top = 6.0
        for line, height in zip(lines, heights, strict=True):
            x = (4.6 * 72 - sum(word[3] for word in line)) / 2
            for word, size, colour, wide in line:
                axes.text(x + wide / 2, top + height / 2, word, fontsize=size, color=colour, ha="center", va="center")
                x += wide
            top += height
    caption = "The area of a name goes with its clips in the split."
    return Plot("cloud", "Genres", caption, ("genre", "clips"), list(total.items()), drawn)


def write(plots: Iterable[Plot], folder: Path) -> list[Path]:
    """Write the PNG and the CSV of each. Returns the files, in the order of the plots."""
    written = []
    for each in plots:
        for ending, content in (("png", each.png()), ("csv", each.csv().encode("utf-8", errors="replace"))):
            written.append(folder / f"{each.name}.{ending}")
            atomic.write_bytes(written[-1], content, sync=False)
    return written
