"""The page: what runs' records and the corpus say, as one HTML file by Jinja2, everything from outside escaped.

The page has no script, and a content security policy that lets it fetch nothing. The same runs, corpus and software
give the same bytes.
"""

import dataclasses
import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

import genrecls
from genrecls.config import Config
from genrecls.errors import ConfigError, GenreclsError
from genrecls.preparation import Workplace
from genrecls.report import figures
from genrecls.report.embeddings import FEWEST
from genrecls.report.figures import Plot, shown
from genrecls.report.material import SECONDS, SPECTRUM_CLIPS, Excerpt, Material, gather
from genrecls.report.records import Recorded, config_difference, read
from genrecls.run import Run

_TEMPLATE = "page.html.j2"
_COLUMNS = (
    ("accuracy", "accuracy"),
    ("precision_macro", "macro precision"),
    ("f1_macro", "macro F1"),
    ("f1_weighted", "weighted F1"),
    ("cross_entropy", "cross-entropy"),
)


@dataclass(frozen=True)
class Heard:
    """An excerpt on the page. words: what it is and what was predicted."""

    plot: Plot
    clip: str
    words: str
    sound: str


@dataclass(frozen=True)
class Part:
    """What the page has of one run.

    spectra: of its corpus, where no run before had them. left_out: sentences of what it lacks and why.
    """

    recorded: Recorded
    scored: list[Plot] = field(default_factory=list)
    maps: list[Plot] = field(default_factory=list)
    typical: list[Heard] = field(default_factory=list)
    wrong: list[Heard] = field(default_factory=list)
    spectra: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def plots(self) -> Iterator[Plot]:
        """All pictures of this run alone."""
        yield from (*self.scored, *self.maps, *(each.plot for each in (*self.typical, *self.wrong)))


@dataclass(frozen=True)
class Ground:
    """The corpus and split of some runs. labels: of these runs, "" where they are all there are."""

    labels: str
    plots: list[Plot]


@dataclass(frozen=True)
class Page:
    """A finished page. plots: every picture on it. parts: of each run."""

    html: str
    plots: list[Plot]
    parts: list[Part]


def make(runs: Sequence[Run], place: Workplace, data_dir: str = "", device: str = "auto", sound: bool = True) -> Page:
    """The page of these runs. data_dir: where the corpus lies now. sound: with excerpts to hear.

    What needs the corpus is computed where it is at hand, and otherwise left out with a sentence.
    Raises ConfigError where a run is given twice, GenreclsError where one is damaged.
    """
    paths = [run.path.resolve() for run in runs]
    if twice := [run.path for i, run in enumerate(runs) if paths[i] in paths[:i]]:
        raise ConfigError(f"{twice[0]} is given twice: name each run once.")
    recorded = read(runs)
    curves = figures.curves(recorded)
    parts: list[Part] = []
    for i, each in enumerate(recorded):
        measured = any(other.spectra and other.recorded.ground == each.ground for other in parts)
        part = _part(each, place, data_dir, device, sound, spectra=not measured)
        parts.append(_named(part, _prefix(i)) if len(recorded) > 1 else part)
    grounds = list(_grounds(parts))
    html = _template().render(
        parts=parts,
        several=len(parts) > 1,
        curves=curves,
        grounds=grounds,
        difference=config_difference(recorded),
        columns=_COLUMNS,
        version=genrecls.__version__,
        seconds=SECONDS,
    )
    own = [plot for part in parts for plot in part.plots]
    return Page(html, [*curves, *own, *(plot for ground in grounds for plot in ground.plots)], parts)


def _prefix(number: int) -> str:
    """Of the names of a run's pictures."""
    return f"run{number + 1}-"


def _part(each: Recorded, place: Workplace, data_dir: str, device: str, sound: bool, spectra: bool) -> Part:
    scored = each.scored
    left_out = []
    if not each.trained:
        why = "No epoch was asked for" if each.run.finished else "Training has not come to its end"
        left_out.append(f"{why}, so that there are no weights to look into and no scores.")
    elif scored is None:
        left_out.append(
            f"This run is not scored: run `genrecls evaluate {each.run.name}` and make the report again to see its "
            "accuracy, confusion matrix, figures by genre, reliability diagram and clips."
        )
    found: Material | None = None
    try:
        found = gather(each, place, data_dir, device, sound, spectra)
    except GenreclsError as error:
        left_out.append(f"Embeddings, excerpts and spectra are left out. {error}")
    if found:
        each = dataclasses.replace(each, genre_of=found.genre_of)
        if each.trained and not found.map:
            left_out.append(f"The maps of embeddings are left out, because fewer than {FEWEST} test clips make none.")
    elif not each.genre_of:
        left_out.append("Which clip is of which genre is not in this run's record, an earlier version's.")
    part = Part(
        each,
        scored=[figures.confusion(scored, each.genres), figures.per_genre(scored), figures.calibration(scored)]
        if scored
        else [],
        spectra=found.spectra if found else {},
        left_out=left_out,
    )
    if found:
        _add(part, found)
    return part


def _add(part: Part, found: Material) -> None:
    if found.map:
        part.maps.append(figures.plane(found.map, "genre"))
        if any(found.map.group):
            part.maps.append(figures.plane(found.map, "artist"))
        else:
            part.left_out.append("The map by artist is left out, because the corpus does not say whose clips are.")
    part.typical.extend(_heard(i, "typical", each) for i, each in enumerate(found.typical, 1))
    part.wrong.extend(_heard(i, "wrong", each) for i, each in enumerate(found.wrong, 1))


def _grounds(parts: Sequence[Part]) -> Iterator[Ground]:
    """Each corpus and split once, however many runs share it."""
    sharing: dict[Hashable, list[Part]] = {}
    for part in parts:
        if part.recorded.spans:
            sharing.setdefault(part.recorded.ground, []).append(part)
    for some in sharing.values():
        # The first of them that knows most.
        known = max(some, key=lambda part: (bool(part.spectra), bool(part.recorded.genre_of)))
        each = known.recorded
        plots = [figures.cloud(each), figures.corpus_bars(each)] if each.genre_of else []
        plots.append(figures.lengths(each))
        if known.spectra:
            plots.append(figures.spectra(known.spectra, SPECTRUM_CLIPS))
        if len(some) == len(parts):
            yield Ground("", plots)
        else:
            labels, prefix = ", ".join(part.recorded.label for part in some), _prefix(parts.index(some[0]))
            yield Ground(labels, [dataclasses.replace(plot, name=prefix + plot.name, run=labels) for plot in plots])


def _heard(number: int, kind: str, each: Excerpt) -> Heard:
    words = f"predicted {shown(each.predicted)} with {100 * each.probability:.0f}\N{NO-BREAK SPACE}%"
    if each.genre != each.predicted:
        words = f"{shown(each.genre)}, {words}"
    return Heard(figures.spectrogram(number, kind, each), shown(each.clip), words, each.sound)


def _named(part: Part, prefix: str) -> Part:
    """With the run in the names of its pictures."""
    label = part.recorded.label

    def own(plot: Plot) -> Plot:
        return dataclasses.replace(plot, name=prefix + plot.name, run=label)

    def heard(each: Heard) -> Heard:
        return dataclasses.replace(each, plot=own(each.plot))

    return dataclasses.replace(
        part,
        scored=[own(each) for each in part.scored],
        maps=[own(each) for each in part.maps],
        typical=[heard(each) for each in part.typical],
        wrong=[heard(each) for each in part.wrong],
    )


def _template() -> jinja2.Template:
    # Escaping is on for everything, whatever the name of the template.
    rooms = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Callable[..., str]] = {
        "shown": lambda value: shown(str(value)),
        "lines": lambda text: "\n".join(map(shown, str(text).splitlines())),
        "figure": lambda value: "–" if value is None else f"{value:.3f}",
        "percent": lambda value: f"{100 * value:.1f}\N{NO-BREAK SPACE}%",
    }
    rooms.filters.update(filters)
    rooms.globals.update(settings=_settings, machine=_machine, facts=_facts)
    return rooms.from_string(resources.files("genrecls.report").joinpath(_TEMPLATE).read_text(encoding="utf-8"))


def _settings(config: Config) -> Iterator[tuple[str, str]]:
    yield "model.name", config.model.name
    for section, fields in config.values().items():
        for name, value in fields.items():
            if value != "" and (name != "name" or section != "model"):
                yield f"{section}.{name}", str(value)


def _machine(environment: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What `environment.json` says, but for places of the machine, which are nobody else's matter."""
    git = environment.get("git") or {}
    if git.get("commit"):
        yield "commit", f"{git['commit'][:12]}{' with changes' if git.get('dirty') else ''}"
    for name in ("genrecls", "python", "platform", "processor", "cpu_capability", "cores", "gpu", "cuda", "cudnn"):
        if environment.get(name) is not None:
            yield name, str(environment[name])
    for part in ("packages", "switches"):
        for name, value in (environment.get(part) or {}).items():
            yield name, value if isinstance(value, str) else json.dumps(value)


def _facts(each: Recorded) -> Iterator[tuple[str, str]]:
    """The summary in pairs."""
    record = each.record
    yield "run", each.run.name
    yield "model", each.config.model.name
    yield "data set", each.config.dataset.name
    yield "split", each.config.split.policy + (f", seed {each.config.split.seed}" if each.config.split.seed else "")
    clips = {role: len({span.clip for span in each.spans if span.role == role}) for role in ("train", "valid", "test")}
    yield "clips", ", ".join(f"{count} {role}" for role, count in clips.items())
    yield "seed", str(each.config.training.seed)
    yield "status", str(record["status"])
    if record["best_epoch"] is not None:
        yield "epochs", f"{len(each.history)}, the best {record['best_epoch']} (from 0)"
    if record.get("valid"):
        yield "validation", f"accuracy {record['valid']['accuracy']:.1%}".replace("%", " %")
