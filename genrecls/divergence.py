"""Where a run and its repetition part: bits of features, split, weights, draws, history and predictions compared."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

import torch

from genrecls import weights
from genrecls.datasets.index import Role
from genrecls.digests import file_sha256, text_sha256
from genrecls.manifest import UNREADABLE
from genrecls.reading import csv_rows
from genrecls.run import Entry, Run
from genrecls.weights import weights_sha256

SUBSETS: tuple[Role, ...] = ("test", "valid", "train")


@dataclass(frozen=True)
class Difference:
    """How one part of a repetition differs from the run's.

    part: what was compared ("history", "best weights"). statement: in words. epoch (from 0), clip, tensor, figure: the
    first place that differs, None where that is no matter of one. run, here: the values at that place, in the run and
    in the repetition. differing, of: how many epochs, tensors, clips or files differ, and of how many. largest: the
    largest absolute difference of two numbers in the part; None where it is not finite or not known.
    """

    part: str
    statement: str
    epoch: int | None = None
    clip: str | None = None
    tensor: str | None = None
    figure: str | None = None
    run: Any = None
    here: Any = None
    differing: int | None = None
    of: int | None = None
    largest: float | None = None

    def values(self) -> dict[str, Any]:
        """The fields of `reproduce --json`."""
        return asdict(self)


@dataclass(frozen=True)
class Compared:
    """A part that was compared. extent: how much it was, in words. difference: None where every bit is the same."""

    part: str
    extent: str
    difference: Difference | None


@dataclass(frozen=True)
class Contents:
    """What a finished run holds that a repetition must have again. Of one without epochs only the first two.

    predictions: the text of each table that `genrecls evaluate` wrote, by subset.
    """

    record: dict[str, Any]
    initial: dict[str, torch.Tensor]
    spans: str = ""
    normalisation: Mapping[str, torch.Tensor] | None = None
    draws: Sequence[dict[str, Any]] = ()
    history: Sequence[dict[str, Any]] = ()
    history_sha256: str = text_sha256("")
    best: Mapping[str, torch.Tensor] | None = None
    predictions: Mapping[Role, str] = field(default_factory=dict)


def contents(run: Run) -> Contents:
    """Read a finished run. Raises GenreclsError where a file is missing or damaged."""
    record, initial = run.record, weights.read(run, "initial")
    if record["best_epoch"] is None:
        return Contents(record, initial)
    tables = {subset: f"evaluation/{_predictions(subset)}.csv" for subset in SUBSETS}
    return Contents(
        record=record,
        initial=initial,
        spans=_table(run, "spans.csv"),
        normalisation=weights.read(run, "normalisation"),
        draws=run.lines("draws"),
        history=run.lines("metrics"),
        history_sha256=file_sha256(run.path / "metrics.jsonl"),
        best=weights.read(run, "best"),
        predictions={subset: _table(run, name) for subset, name in tables.items() if (run.path / name).exists()},
    )


def _table(run: Run, name: str) -> str:
    """The text of a CSV file. Raises GenreclsError where it is missing or damaged."""
    with run.reading(name) as content:
        csv_rows(content)
        return content.decode()


def _predictions(subset: str) -> str:
    return "predictions" if subset == "test" else f"predictions-{subset}"


def compare(run: Contents, here: Contents) -> list[Compared]:
    """Every part, in the order in which they come about: the first that differs is the nearest to the cause."""
    initial = tensors("initial weights", run.initial, here.initial)
    if run.best is None or here.best is None:
        return [initial]
    assert run.normalisation is not None
    assert here.normalisation is not None
    parts = [
        arrays(run.record.get("cache_arrays") or {}, here.record["cache_arrays"]),
        table("split", "spans", run.spans, here.spans),
        tensors("normalisation", run.normalisation, here.normalisation),
        initial,
        lines("draws", run.draws, here.draws),
        lines("history", run.history, here.history),
        tensors("best weights", run.best, here.best),
    ]
    for subset, text in run.predictions.items():
        part = "predictions" if subset == "test" else f"{subset} predictions"
        parts.append(table(part, "clips", text, here.predictions[subset]))
    return parts


def arrays(run: Mapping[str, Any], here: Mapping[str, Any]) -> Compared:
    """The features, by the hashes of the arrays. run, here: `cache_arrays` of `run.json`."""
    names = sorted(run.keys() | here.keys())
    hashes = {name: [(each.get(name) or {}).get("sha256") for each in (run, here)] for name in names}
    apart = [name for name, (left, right) in hashes.items() if left != right]
    difference = None
    if apart:
        left, right = hashes[apart[0]]
        difference = Difference(
            "features",
            f"{len(apart)} of {len(names)} arrays differ, {apart[0]} for one, though the files are the same: they were "
            "decoded or transformed otherwise",
            figure=apart[0],
            run=left,
            here=right,
            differing=len(apart),
            of=len(names),
        )
    return Compared("features", ", ".join(names), difference)


def tensors(part: str, run: Mapping[str, torch.Tensor], here: Mapping[str, torch.Tensor]) -> Compared:
    """Sets of tensors, bit by bit, in the order of their names."""
    names = sorted(run.keys() | here.keys())
    apart = [name for name in names if not _same(run.get(name), here.get(name))]
    difference = None
    if apart:
        both = [name for name in apart if name in run and name in here and run[name].shape == here[name].shape]
        largest = max((_distance(run[name], here[name]) for name in both), default=math.nan)
        shown = f"; the largest absolute difference is {largest:.3g}" if both else ""
        difference = Difference(
            part,
            f"{len(apart)} of {len(names)} tensors differ, first {apart[0]}{shown}",
            tensor=apart[0],
            run=_digest(run.get(apart[0])),
            here=_digest(here.get(apart[0])),
            differing=len(apart),
            of=len(names),
            largest=_finite(largest),
        )
    return Compared(part, f"{len(names)} tensors", difference)


def _same(left: torch.Tensor | None, right: torch.Tensor | None) -> bool:
    if left is None or right is None or left.dtype != right.dtype or left.shape != right.shape:
        return False
    return _bytes(left) == _bytes(right)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def _distance(left: torch.Tensor, right: torch.Tensor) -> float:
    """The largest absolute difference of two tensors of one shape; NaN if one of them has a NaN."""
    return float((left.double() - right.double()).abs().max()) if left.numel() else 0.0


def _digest(tensor: torch.Tensor | None) -> str | None:
    return None if tensor is None else hashlib.sha256(_bytes(tensor)).hexdigest()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def lines(part: str, run: Sequence[dict[str, Any]], here: Sequence[dict[str, Any]]) -> Compared:
    """Lines of a `.jsonl` file, one an epoch, figure by figure."""
    nothing: dict[str, Any] = {}
    pairs = [(_flat(left), _flat(right)) for left, right in zip_longest(run, here, fillvalue=nothing)]
    apart = [(epoch, name) for epoch, pair in enumerate(pairs) if (name := _parting(*pair)) is not None]
    difference = None
    if apart:
        epoch, figure = apart[0]
        left, right = pairs[epoch]
        if left and right:
            where = f"{figure} is {left.get(figure)} in the run and {right.get(figure)} here"
        else:
            where = f"which only {'the run' if left else 'the repetition'} has"
        difference = Difference(
            part,
            f"{len(apart)} of {len(pairs)} epochs differ, first epoch {epoch}: {where}",
            epoch=epoch,
            figure=figure,
            run=left.get(figure),
            here=right.get(figure),
            differing=len(apart),
            of=len(pairs),
            largest=_largest((left.get(name), right.get(name)) for left, right in pairs for name in left),
        )
    return Compared(part, f"{len(pairs)} epoch{'' if len(pairs) == 1 else 's'}", difference)


def _parting(left: dict[str, Any], right: dict[str, Any]) -> str | None:
    """The first figure that differs, as it is written: so a NaN is the same as another."""
    names = (*left, *right)
    return next((name for name in names if _written(left, name) != _written(right, name)), None)


def _written(figures: dict[str, Any], name: str) -> str | None:
    return repr(figures[name]) if name in figures else None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries by dotted name, in their order."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: leaf for key, each in value.items() for k, leaf in _flat(each, f"{name}.{key}" if name else key).items()}


def _largest(pairs: Iterable[tuple[Any, Any]]) -> float | None:
    """The largest absolute difference of those pairs that are numbers, None where there are none."""
    made = [abs(a - b) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float)]
    return _finite(float(max(made))) if made else None


def table(part: str, what: str, run: str, here: str) -> Compared:
    """CSV texts whose first column names the clip, line by line. what: a line is one of ("clips")."""
    pairs = list(zip_longest(_rows(run), _rows(here)))
    apart = [pair for pair in pairs if pair[0] != pair[1]]
    difference = None
    if apart or run != here:
        difference = _of_table(part, what, apart, len(pairs))
    return Compared(part, f"{len(pairs)} {what}", difference)


def _rows(text: str) -> list[list[tuple[str, str]]]:
    """Name and content of each cell, in their order: a genre may be called as a column before it is."""
    header, *rows = csv_rows(text.encode())
    return [list(zip(header, row, strict=True)) for row in rows]


def _of_table(part: str, what: str, apart: list[tuple[Any, Any]], of: int) -> Difference:
    if not apart:
        return Difference(part, "the figures are the same, and the file is written otherwise", differing=0, of=of)
    left, right = apart[0]
    clip = (left or right)[0][1]
    figure = run = here = None
    where = f"first {clip}"
    if left and right:
        (figure, run), (_, here) = next(
            pair for pair in zip_longest(left, right, fillvalue=("", "")) if len({*pair}) > 1
        )
        where = f"first {clip}, where {figure} is {run} in the run and {here} here"
    if [name for name, _ in (left or right)[:3]] == ["clip", "genre", "predicted"]:
        others = sum((a or [])[2:3] != (b or [])[2:3] for a, b in apart)
        where = f"{others} of them in the predicted genre, {where}"
    numbers = (
        (_number(ours), _number(theirs))
        for a, b in apart
        if a and b
        for (_, ours), (_, theirs) in zip(a, b, strict=False)
    )
    return Difference(
        part,
        f"{len(apart)} of {of} {what} differ, {where}",
        clip=clip,
        figure=figure,
        run=run,
        here=here,
        differing=len(apart),
        of=of,
        largest=_largest(numbers),
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def own(run: Run, held: Contents) -> Compared:
    """The run's files against the hashes and figures that `run.json` has of them: changed since, by whom ever?"""
    record = held.record
    files: dict[str, tuple[Any, Any]] = {
        "initial.safetensors": (weights_sha256(held.initial), record.get("initial_weights_sha256"))
    }
    if held.best is not None:
        valid = [line.get("valid", {}).get("clip") for line in held.history]
        best = record["best_epoch"]
        files |= {
            "best.safetensors": (weights_sha256(held.best), record.get("weights_sha256")),
            "metrics.jsonl": (held.history_sha256, record.get("history_sha256")),
            "best_epoch": (valid[best] if best < len(valid) else None, record.get("valid")),
            "epochs": (len(valid), record.get("epochs")),
        }
    changed = [name for name, (found, known) in files.items() if found != known]
    difference = None
    if changed:
        found, known = files[changed[0]]
        difference = Difference(
            "record",
            f"run.json in {run.path} does not fit {' and '.join(changed)}: one of them was changed after training",
            figure=changed[0],
            run=known,
            here=found,
            differing=len(changed),
            of=len(files),
        )
    return Compared("record", f"{len(files)} entries", difference)


def corpus_changes(run: Mapping[str, Entry], here: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Ids of the clips that differ.

    changed: other bytes. unreadable: could be read then and cannot be now. missing, added: there only then, only now.
    relabelled: same bytes, other genre, group or official split.
    """
    both = [clip for clip in run if clip in here]
    other = [clip for clip in both if run[clip].sha256 != here[clip].sha256]
    return {
        "changed": [clip for clip in other if here[clip].sha256 != UNREADABLE],
        "unreadable": [clip for clip in other if here[clip].sha256 == UNREADABLE],
        "missing": [clip for clip in run if clip not in here],
        "added": [clip for clip in here if clip not in run],
        "relabelled": [clip for clip in both if clip not in other and run[clip] != here[clip]],
    }
