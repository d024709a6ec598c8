"""Scoring a run on a subset of its split: `evaluation/metrics.json` and `evaluation/predictions.csv`."""

import csv
import io
import json
from dataclasses import dataclass, replace
from typing import Any

import torch

from genrecls import atomic, metrics, run
from genrecls.compute import again
from genrecls.datasets.index import Role
from genrecls.errors import GenreclsError
from genrecls.fragments import Fragments, stretches_of
from genrecls.inference import Predictions, predict_subset, trained_model
from genrecls.preparation import Ground, Workplace, ground, index
from genrecls.run import Run
from genrecls.seeding import make_deterministic
from genrecls.selection import FIGURES

_COLUMNS = ("clip", "genre", "predicted")
"""The first of predictions.csv."""


@dataclass(frozen=True)
class Answers:
    """What a run said of the test subset. clips: ids, sorted. genre: the true label of each, predicted: the run's."""

    clips: tuple[str, ...]
    genre: tuple[str, ...]
    predicted: tuple[str, ...]


def answers(found: Run) -> Answers | None:
    """What `evaluate` wrote of the test subset, None where it was not scored.

    Raises GenreclsError where it is damaged.
    """
    folder = found.path / "evaluation"
    table, scores = folder / "predictions.csv", folder / "metrics.json"
    if not table.exists() and not scores.exists():
        return None
    try:
        text = table.read_bytes().decode("utf-8")
        if run.text_sha256(text) != json.loads(scores.read_text(encoding="utf-8"))["predictions_sha256"]:
            raise ValueError("they do not belong together")
        # By position: a genre may be called as a column is.
        header, *rows = csv.reader(io.StringIO(text), strict=True)
        if tuple(header[: len(_COLUMNS)]) != _COLUMNS or not rows:
            raise ValueError(f"there is nothing below {', '.join(_COLUMNS)}")
        return Answers(*(tuple(row[at] for row in rows) for at in range(len(_COLUMNS))))
    except (OSError, ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        shown = error.strerror if isinstance(error, OSError) else str(error)
        raise GenreclsError(
            f"The predictions of the run {found.path} cannot be read ({shown}): run `genrecls evaluate "
            f"{found.path}` again."
        ) from error


def scores(found: Run) -> dict[str, Any] | None:
    """What `evaluate` wrote of the test subset into metrics.json, None where it was not scored.

    Raises GenreclsError where it is damaged.
    """
    path = found.path / "evaluation" / "metrics.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _check_scores(values)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise GenreclsError(f"{path} is damaged ({reason}): run `genrecls evaluate {found.path}` again.") from error
    return values


def _check_scores(values: dict[str, Any]) -> None:
    """Raise what wrong types bring about, where something that is read of metrics.json is not there."""
    figures = [values[level][name] for level in ("clip", "fragment") for name in FIGURES]
    counts = [values["clips"], values["fragments"], *(count for row in values["confusion"] for count in row)]
    counts += [row["clips"] for row in values["per_genre"].values()]
    shares = [row[name] for row in values["per_genre"].values() for name in ("precision", "recall", "f1")]
    if not all(isinstance(each, int | float) for each in (*figures, *(each for each in shares if each is not None))):
        raise ValueError("a figure is no number")
    if not all(type(each) is int for each in counts):
        raise ValueError("a number of clips is no number")
    names = [values["split"], *values["absent_genres"], *values["genres"]]
    if not all(isinstance(each, str) for each in names) or [*values["per_genre"]] != values["genres"]:
        raise ValueError("its genres are no names")


def evaluate(found: Run, place: Workplace, subset: Role, data_dir: str = "", device: str = "auto") -> dict[str, Any]:
    """Score the best weights and write the two files (named after the subset where it is not the test's).

    Returns what `metrics.json` holds. Arguments and errors are those of `score`.
    """
    return _write(found, score(found, place, subset, data_dir, device), found.config.split.policy, subset)


def score(found: Run, place: Workplace, subset: Role, data_dir: str = "", device: str = "auto") -> Predictions:
    """What the best weights say of a subset; nothing is written.

    data_dir: where the corpus lies now, if not where the run found it. device: "auto" is the run's own.
    Raises GenreclsError where the run was not trained, or the corpus is not the one it was trained on.
    """
    config = found.config
    compute = again(config.compute, device)
    make_deterministic(compute.deterministic, compute.threads)
    device_here = torch.device(compute.device)
    # A damaged run is noticed before the corpus is read.
    model, scales, spans = trained_model(found, device_here), found.read_normalisation(), found.read_spans()
    standing = ground_of(found, place, data_dir)
    caches = standing.caches(config, place)
    fragments = Fragments({kind: cache.array for kind, cache in caches.items()}, scales, config, device_here)
    stretches = stretches_of(spans, caches, standing.corpus, config)[subset]
    return predict_subset(model, fragments, stretches, standing.corpus.genres)


def ground_of(found: Run, place: Workplace, data_dir: str = "") -> Ground:
    """The corpus that a run was trained on. data_dir: where it lies now, if not where the run found it.

    Raises GenreclsError where it is not there, or another one is, or its features cannot be made again.
    """
    config = found.config
    where = {name: found.environment[name] for name in ("data_dir", "groups")}
    if data_dir:
        where["data_dir"] = data_dir
    standing = ground(index(replace(config.dataset, **where), place.res), place)
    if standing.fingerprint != found.record["fingerprint"]:
        raise GenreclsError(
            f"The corpus below {standing.corpus.root} is not the one that {found.name} was trained on (files or labels "
            "differ): give the right one with --data-dir, or train again."
        )
    if standing.cache_key(config) != found.record["cache_key"]:
        raise GenreclsError(
            f"The features that {found.name} was trained on cannot be made again, because its config.toml was changed "
            "or another version of genrecls made them: undo that, or train again."
        )
    return standing


def _write(found: Run, predictions: Predictions, split: str, subset: Role) -> dict[str, Any]:
    table = predictions.csv()
    by_clip, by_fragment = predictions.clip_figures, predictions.fragment_figures
    values: dict[str, Any] = {
        "split": split,
        "subset": subset,
        "clips": len(predictions.clips),
        "fragments": len(predictions.owner),
        "clip": by_clip.values(),
        "fragment": by_fragment.values(),
        "absent_genres": list(by_clip.absent),
        "per_genre": metrics.per_genre(predictions.by_clip, predictions.genre, predictions.genres),
        "genres": list(predictions.genres),
        "confusion": metrics.confusion(predictions.by_clip, predictions.genre, len(predictions.genres)),
        "predictions_sha256": run.text_sha256(table),
    }
    ending = "" if subset == "test" else f"-{subset}"
    folder = found.path / "evaluation"
    atomic.write_text(folder / f"predictions{ending}.csv", table)
    atomic.write_text(folder / f"metrics{ending}.json", json.dumps(values, indent=2) + "\n")
    return values
