"""Scoring a run on a subset of its split: `evaluation/metrics.json` and `evaluation/predictions.csv`."""

import json
from dataclasses import replace
from typing import Any

import torch

from genrecls import metrics
from genrecls.cache import Cache
from genrecls.compute import again
from genrecls.config import Input
from genrecls.datasets.index import Role
from genrecls.digests import text_sha256
from genrecls.errors import GenreclsError
from genrecls.fragments import Fragments, stretches_of
from genrecls.inference import Predictions, predict_subset, trained_model
from genrecls.preparation import Ground, Workplace, array_names, check_arrays, ground, index
from genrecls.run import Run
from genrecls.seeding import make_deterministic
from genrecls.weights import read_normalisation


def evaluate(found: Run, place: Workplace, subset: Role, data_dir: str = "", device: str = "auto") -> dict[str, Any]:
    """Score the best weights and write the two files (named after the subset where it is not the test's).

    Returns what `metrics.json` holds. Arguments and errors are those of `score`.
    """
    predictions = score(found, place, subset, data_dir, device)
    table, ending = predictions.csv(), "" if subset == "test" else f"-{subset}"
    values = _values(predictions, table, found.config.split.policy, subset)
    texts = {f"predictions{ending}.csv": table, f"metrics{ending}.json": json.dumps(values, indent=2) + "\n"}
    found.write_evaluation(texts, place.say)
    return values


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
    model, scales, spans = trained_model(found, device_here), read_normalisation(found), found.read_spans()
    standing = ground_of(found, place, data_dir)
    caches = caches_of(found, standing, place)
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


def caches_of(found: Run, standing: Ground, place: Workplace) -> dict[Input, Cache]:
    """The cache of each input of a run's model, whose arrays are those that it was trained on.

    standing: of `ground_of`. Native kernels may have made others on another processor, which is a remark. Raises
    GenreclsError where portable ones have.
    """
    config = found.config
    caches = standing.caches(config, place)
    check_arrays(array_names(caches), found.arrays, found.path, config, place)
    return caches


def _values(predictions: Predictions, table: str, split: str, subset: Role) -> dict[str, Any]:
    """What `metrics.json` holds."""
    by_clip, by_fragment = predictions.clip_figures, predictions.fragment_figures
    return {
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
        "predictions_sha256": text_sha256(table),
    }
