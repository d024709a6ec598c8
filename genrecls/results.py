"""The results file: Markdown tables of scored runs, generated from run directories and never typed."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev

from genrecls.command import train_command
from genrecls.config import Config
from genrecls.listing import Listed, Score
from genrecls.models.registry import entry
from genrecls.settings import described

COLUMNS = (
    *("row", "model", "seed", "epochs", "parameters", "minutes", "fragments/s", "validation accuracy", "accuracy"),
    *("95 % interval", "macro precision", "macro F1", "weighted F1", "cross-entropy", "accuracy per fragment"),
    "the source's figure, on other data",
)
AVERAGED = {
    "accuracy": "accuracy",
    "precision_macro": "macro precision",
    "f1_macro": "macro F1",
    "f1_weighted": "weighted F1",
    "cross_entropy": "cross-entropy",
}
EXPLANATION = """\
Each row is one run. Its figures are those of the test subset, scored with the weights that validation chose, per clip
(mean of its fragments' probabilities) where nothing else is said; the interval is a 95 % bootstrap interval over clips.
Rows of different data sets or splits are not to be compared as better and worse: they answer different questions.
Minutes are of training and validation, fragments/s is the speed of the median epoch's training; both depend on what
else the machine was doing. **The last column is what the model's source reports, measured on another data set or split
than this table's**: to be looked up, not to be compared."""


@dataclass(frozen=True)
class _Row:
    number: int
    config: Config
    epochs: int
    valid: dict[str, float]
    score: Score


def markdown(listed: Iterable[Listed], titles: Mapping[str, str], preface: str = "") -> str:
    """The file: what is said at its top, then a section for each data set and split.

    listed: sorted as `runs_below` has them; those that are not scored are left out. titles: what a data set is called,
    by its name. preface: Markdown for the top, instead of a plain title. The same runs give the same text.
    """
    rows = list(_rows(listed))
    parts = [
        preface.strip() or "# Results",
        "Generated from run directories by `genrecls runs --markdown`, never typed.",
    ]
    parts += [EXPLANATION, "\n".join(_machines(rows))] if rows else ["There are no scored runs."]
    corpora = {name: {row.score.corpus for row in rows if row.config.dataset.name == name} for name in _datasets(rows)}
    for (dataset, split, corpus), members in groupby(rows, key=_section):
        title = titles.get(dataset, dataset)
        if len(corpora[dataset]) > 1:
            title += f" (files {corpus[:8]})"
        parts += _described(title, dataset, split, list(members))
    return "\n\n".join(parts) + "\n"


def _rows(listed: Iterable[Listed]) -> Iterator[_Row]:
    found = [
        (each.config, each.epochs[0], each.valid, each.score)
        for each in listed
        if each.config and each.valid and each.score
    ]
    # Stable: within a section the order is that of the list.
    found.sort(key=lambda each: (each[0].dataset.name, each[0].split.policy, each[3].corpus))
    for number, each in enumerate(found, 1):
        yield _Row(number, *each)


def _section(row: _Row) -> tuple[str, str, str]:
    return row.config.dataset.name, row.config.split.policy, row.score.corpus


def _datasets(rows: Iterable[_Row]) -> set[str]:
    return {row.config.dataset.name for row in rows}


def _described(title: str, dataset: str, split: str, rows: list[_Row]) -> Iterator[str]:
    clips = sorted({row.score.clips for row in rows})
    called = f" In commands the data set is called `{dataset}`." if title != dataset else ""
    yield f"## {title}, split {split}"
    yield f"{' or '.join(map(str, clips))} test clips.{called}"
    yield _table(COLUMNS, map(_cells, rows))
    if means := list(_means(rows)):
        yield "Mean +- deviation of the runs that differ by their seeds alone:"
        yield _table(("rows", "model", "n", *AVERAGED.values()), means)
    yield "The command of each row, after which `genrecls evaluate RUN` scored it, and the SHA-256 of its weights:"
    yield "\n".join(
        f"{row.number}. `{train_command(row.config, row.score.environment)}`<br>{row.score.weights}" for row in rows
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _cells(row: _Row) -> Iterator[str]:
    config, score, clip = row.config, row.score, row.score.clip
    yield str(row.number)
    yield _model(config)
    split_seed = f" (split {config.split.seed})" if config.split.seed else ""
    yield f"{config.training.seed}{split_seed}"
    yield str(row.epochs)
    yield f"{score.parameters:,}"
    yield f"{score.seconds / 60:.1f}"
    yield f"{score.fragments_per_second:.0f}"
    yield _shown(row.valid, "accuracy")
    yield _shown(clip, "accuracy")
    yield f"{clip['accuracy_low']:.3f} to {clip['accuracy_high']:.3f}"
    for name in ("precision_macro", "f1_macro", "f1_weighted", "cross_entropy"):
        yield _shown(clip, name)
    yield _shown(score.fragment, "accuracy")
    yield entry(config.model.name).reported


def _shown(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:.3f}"


def _model(config: Config) -> str:
    """The model's name, with its settings that are not the default."""
    values = config.values()["model"]
    different = [
        f"{field.name} {values[field.name]}"
        for field, _ in described(type(config.model))
        if values.get(field.name, field.default) != field.default
    ]
    return f"{config.model.name} ({', '.join(different)})" if different else config.model.name


def _means(rows: list[_Row]) -> Iterator[list[str]]:
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        values = row.config.values()
        values["training"].pop("seed")
        values["split"].pop("seed", None)
        groups.setdefault(json.dumps(values, sort_keys=True), []).append(row)
    for members in groups.values():
        if len(members) > 1:
            numbers = ", ".join(str(row.number) for row in members)
            figures = [[row.score.clip[name] for row in members] for name in AVERAGED]
            means = [f"{fmean(each):.3f} +- {stdev(each):.3f}" for each in figures]
            yield [numbers, _model(members[0].config), str(len(members)), *means]


def _machines(rows: list[_Row]) -> Iterator[str]:
    """A line for each machine, with its rows where there are several machines."""
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        groups.setdefault(_machine(row), []).append(row)
    for machine, members in groups.items():
        of = f"Rows {_ranges([row.number for row in members])}: measured" if len(groups) > 1 else "Measured"
        yield f"- {of} with {machine}."


def _machine(row: _Row) -> str:
    found, compute = row.score.environment, row.config.compute
    packages = found.get("packages") or {}
    cores = f"{found.get('cores')} cores of {found.get('processor')}, {found.get('cpu_capability')}"
    facts = (
        f"genrecls {found.get('genrecls')}",
        f"PyTorch {packages.get('torch')}",
        f"Python {found.get('python')}",
        f"{found['gpu']} and {cores}" if compute.device == "cuda" and found.get("gpu") else f"{cores}",
        f"{compute.kernels} kernels",
        f"{compute.threads} threads" if compute.threads > 1 else "1 thread",
        f"{compute.precision} in training",
        f"`--deterministic {compute.deterministic}`",
    )
    return ", ".join(facts)


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as "1 to 4, 7"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ", ".join(str(each[0]) if len(each) == 1 else f"{each[0]} to {each[-1]}" for each in ranges)
