"""What runs there are below a folder, and what came of each. A damaged one is said so and stops nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from safetensors import SafetensorError, safe_open

from genrecls import provenance, reading, selection
from genrecls.config import Config, SplitSettings
from genrecls.errors import GenreclsError
from genrecls.lock import held
from genrecls.reading import Damaged
from genrecls.run import Run
from genrecls.scores import scores

FINISHED, UNFINISHED, RUNNING, DAMAGED = "finished", "unfinished", "running", "damaged"
UNSEALED, CHANGED = "unsealed", "changed"
"""Of finished runs: of a version that did not seal them; of a model whose code is another now."""
TRACES = (".lock", "config.toml", "run.json")
"""A folder with none of these is no run: training makes the first before anything else."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""The last parts of the names of tensors that are stored with the weights and are no parameters."""


@dataclass(frozen=True)
class Score:
    """What a scored run has for a table of results.

    clip, fragment: figures on the test subset by name, as in `metrics.json`, and precision_macro (of fragments: where
    the version that scored wrote it). clips: of the test subset. corpus: fingerprint of its files. parameters: of the
    model. seconds: of training and validation. fragments_per_second: in training, median over epochs. environment:
    `environment.json`. weights: SHA-256 of the best ones.
    """

    clip: dict[str, float]
    fragment: dict[str, float]
    clips: int
    corpus: str
    parameters: int
    seconds: float
    fragments_per_second: float
    environment: dict[str, Any]
    weights: str


@dataclass(frozen=True)
class Listed:
    """One line of `genrecls runs`.

    id: of the run; the end of the folder's name where `run.json` does not say. status: finished, unsealed or changed
    (which are finished, too), unfinished (stopped: its command goes on with it), running (a process holds its lock) or
    damaged, which has a reason and nothing else. A changed one has a reason, too, and an unfinished one where a sweep
    left it or its code has changed.
    config: None where it is not written yet.
    epochs: done, and asked for. tags: sorted. valid: figures per clip of the best epoch. score: where the test subset
    was scored. corpus: of a finished run, fingerprint of its files and labels. other_code: whether this package's own
    code is another than that which made the run.
    """

    run: Run
    id: str
    status: str
    config: Config | None = None
    epochs: tuple[int, int] = (0, 0)
    valid: dict[str, float] | None = None
    score: Score | None = None
    reason: str = ""
    tags: tuple[str, ...] = ()
    corpus: str = ""
    other_code: bool = False

    @property
    def measured_on(self) -> tuple[str, SplitSettings]:
        """What figures must share to compare: files and labels of the corpus, and the split, its seed and fold."""
        assert self.config is not None
        return self.corpus, self.config.split

    def figures(self, subset: str) -> dict[str, float] | None:
        """Per clip of a subset, valid or test; None where there are none yet."""
        if subset == "valid":
            return self.valid
        return self.score.clip if self.score else None

    def values(self) -> dict[str, Any]:
        """The fields of `runs --json`."""
        config = self.config
        return {
            "id": self.id,
            "run": str(self.run.path),
            "status": self.status,
            "model": config and config.model.name,
            "dataset": config and config.dataset.name,
            "split": config and config.split.policy,
            "seed": config and config.training.seed,
            "valid": self.valid,
            "test": self.score and self.score.clip,
            "reason": self.reason or None,
            "tags": list(self.tags),
        }


def runs_below(folder: Path) -> list[Listed]:
    """Every run directly below `folder`, by data set, split, model and seeds, those without settings at the end.

    Raises GenreclsError where there is no such folder.
    """
    if not folder.is_dir():
        raise GenreclsError(f"There is no folder {folder}: train a model first, or name the right one with --runs.")
    found = [path for path in folder.iterdir() if any((path / name).exists() for name in TRACES)]
    return sorted((_seen(Run(path)) for path in found), key=_place)


def ranked(listed: Iterable[Listed], by: str, subset: str) -> list[Listed]:
    """The finished runs that have the figure, the best first; equal ones stay in their order.

    by: of `selection.RANKED_BY`. subset: valid (the figures of the best epoch) or test (of scored runs), per clip.
    """
    having = [each for each in listed if each.figures(subset) is not None]
    return sorted(having, key=lambda each: selection.cost(by, each.figures(subset) or {}))


def _place(listed: Listed) -> tuple[Any, ...]:
    if listed.config is None:
        return (1, listed.run.name)
    config = listed.config
    seeds = (config.training.seed, config.split.seed)
    return (0, config.dataset.name, config.split.policy, config.model.name, *seeds, listed.id)


def _seen(run: Run) -> Listed:
    """As its files have it, unless they are being written."""
    listed = _listed(run)
    if listed.status in (FINISHED, UNSEALED, CHANGED) or not _locked(run):
        return listed
    return replace(listed, status=RUNNING, reason="")


def _locked(run: Run) -> bool:
    try:
        return held(run.path / ".lock")
    except OSError:  # A run of somebody else, whose lock is not for our eyes, is as its files say.
        return False


def _listed(run: Run) -> Listed:
    named = run.name.rpartition("-")[2]
    try:
        if not (run.path / "run.json").exists():
            # Stopped in its first moment: what it was to be may be there already.
            config = run.config if (run.path / "config.toml").exists() else None
            epochs = (0, config.training.epochs if config else 0)
            return Listed(run, named, UNFINISHED, config, epochs, tags=run.tags)
        made_by = provenance.changes(run)
        reason = provenance.of_model(run, made_by) if made_by and made_by.model else ""
        record = run.record
        if made_by and made_by.gone:  # Its settings cannot be read without the model.
            return Listed(run, record["id"], CHANGED, reason=reason, tags=run.tags)
        config = run.config
        epochs = (_epochs_done(run), config.training.epochs)
        if not run.finished:
            reason = reason or _pruned(run, epochs[1])
            return Listed(run, record["id"], UNFINISHED, config, epochs, reason=reason, tags=run.tags)
        return Listed(
            run,
            record["id"],
            CHANGED if reason else UNSEALED if run.files is None else FINISHED,
            config,
            epochs,
            _valid(run, record),
            _score(run, record),
            reason,
            run.tags,
            record["fingerprint"],
            bool(made_by and made_by.package),
        )
    except GenreclsError as error:
        return Listed(run, named, DAMAGED, reason=str(error))
    except OSError as error:
        reason = f"{error.filename} cannot be read ({error.strerror}): mend that, or move it away."
        return Listed(run, named, DAMAGED, reason=reason)


def _pruned(run: Run, asked: int) -> str:
    """Which sweep left an unfinished run, in a sentence; nothing where none did."""
    left = run.pruned
    if left is None:
        return ""
    sweep, epochs = left
    done = f"was pruned after {epochs} of {asked} epochs by the sweep {sweep}"
    return f"{run.path} {done}: `genrecls train` goes on with it."


def _epochs_done(run: Run) -> int:
    if not run.has("metrics.jsonl"):
        return 0
    with run.reading("metrics.jsonl") as content:
        return content.count(b"\n")


def _valid(run: Run, record: dict[str, Any]) -> dict[str, float] | None:
    """Figures of the best epoch, by name; None where there was no epoch."""
    with run.mending("run.json"):
        found = reading.optional(record, "valid", dict)
        if found is None:
            return None
        if missing := [name for name in selection.RANKED_BY if name not in found]:
            raise Damaged(f"its validation figures lack {missing[0]!r}")
        return {name: reading.field(found, name, float) for name in found}


def _score(run: Run, record: dict[str, Any]) -> Score | None:
    found = scores(run)
    if found is None:
        return None
    clip, fragment = (_figures(found[level]) for level in ("clip", "fragment"))
    clip.setdefault("precision_macro", _precision_macro(found["per_genre"]))
    seconds, speed = _timing(run, record)
    with run.mending("run.json"):
        weights = reading.field(record, "weights_sha256", str)
    parameters, corpus = _parameters(run, record), record["fingerprint"]
    return Score(clip, fragment, found["clips"], corpus, parameters, seconds, speed, run.environment, weights)


def _figures(level: dict[str, Any]) -> dict[str, float]:
    names = [*selection.FIGURES, *(name for name in ("precision_macro",) if level.get(name) is not None)]
    return {name: float(level[name]) for name in names}


def _precision_macro(per_genre: dict[str, dict[str, Any]]) -> float:
    """Of clips, as `metrics.figures` has it: version 0.1.0 wrote only the precision of each genre."""
    each = [float(row["precision"] or 0) for row in per_genre.values() if row["clips"]]
    return sum(each) / max(1, len(each))


def _timing(run: Run, record: dict[str, Any]) -> tuple[float, float]:
    lines = run.timing
    with run.mending("run.json"):
        epochs = reading.field(record, "epochs", int, low=1)
    if len(lines) < epochs:
        with run.mending("timing.jsonl"):
            raise Damaged(f"it lacks lines of the {epochs} epochs of run.json")
    seconds = sum(line["training_seconds"] + line["validation_seconds"] for line in lines)
    return seconds, median(line["fragments_per_second"] for line in lines)


def _parameters(run: Run, record: dict[str, Any]) -> int:
    """Of the model, as the run recorded it, else from the header of its weights, which has to be whole in any case."""
    name = "best.safetensors"
    with run.mending(name):
        reading.size(run.path / name)
        try:
            with safe_open(run.path / name, "numpy") as weights:
                names = [name for name in weights.offset_keys() if name.rpartition(".")[2] not in BUFFERS]
                counted = sum(prod(weights.get_slice(name).get_shape()) for name in names)
        except SafetensorError as error:
            raise Damaged(str(error)) from None
    with run.mending("run.json"):
        return reading.field(record, "parameters", int, low=0) if "parameters" in record else counted
