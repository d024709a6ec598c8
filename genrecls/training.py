"""Training a run from its settings to its best weights."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrecls import environment, manifest, provenance, splits, weights
from genrecls.advice import advice
from genrecls.allocator import keep_freed_memory
from genrecls.batches import steps_of_epoch
from genrecls.cache import Cache
from genrecls.checkpoint import Checkpoints
from genrecls.compute import total_memory
from genrecls.config import SCHEMA, Config
from genrecls.datasets.index import Corpus
from genrecls.digests import text_sha256
from genrecls.distributed import Ranks, launch
from genrecls.errors import GenreclsError, Untrainable
from genrecls.identity import run_id
from genrecls.interruption import Interruption
from genrecls.models.building import Model, build, parameters, weightless
from genrecls.models.initialisation import initialise
from genrecls.models.shapes import InputShape
from genrecls.preparation import Ground, Workplace, array_names, check_arrays, ground, index, resolved
from genrecls.run import CHECKPOINTS, PROGRESS, Run
from genrecls.seeding import make_deterministic
from genrecls.trainer import EpochSeen, Trainer

RunSeen = Callable[[Run], None]

_BYTES_OF_WEIGHT = 16
"""In training with an Adam: the weight, its gradient and two moments, float32."""


@dataclass(frozen=True)
class Outcome:
    """What `train` reports.

    status: finished (trained now), resumed (gone on with and finished) or found (it was there). planned: epochs asked
    for.
    """

    run: Run
    status: str
    planned: int

    def values(self) -> dict[str, Any]:
        """The fields of `train --json`."""
        record = self.run.record
        names = (
            "best_epoch",
            "epochs",
            "weights_sha256",
            "initial_weights_sha256",
            "history_sha256",
            "valid",
            "seconds",
        )
        return {
            "run": str(self.run.path),
            "id": record["id"],
            "status": self.status,
            "stopped_early": record["epochs"] < self.planned,
            **{name: record[name] for name in names},
        }


def train(
    config: Config,
    place: Workplace,
    runs: Path,
    seen: EpochSeen,
    known: RunSeen = lambda found: None,
    begun: RunSeen = lambda found: None,
) -> Outcome:
    """Train the run that these settings are, go on with it where it was left, or find it below `runs`.

    All processes that torchrun starts do this together, and the first of them writes.
    known: called once it is known which run these settings are, before anything is done to it.
    begun: called before its first epoch or, where it is gone on with, the next one; never for a run that is found.
    seen: may raise Interrupted, which leaves the run as a signal does: unfinished, to be gone on with.
    Raises GenreclsError for everything the user can mend (Untrainable where other settings may do better), OSError
    where the disk does not take it.
    """
    ranks = Ranks(launch())
    corpus = index(config.dataset, place.res)
    config = resolved(config, corpus)
    ranks.place(torch.device(config.compute.device))
    # What the index alone can show to be wrong is said before files are read and features made.
    model = _built(config, len(corpus.genres))
    if config.training.epochs:
        _check_split(config, corpus)
    with ranks.in_turn():
        standing = ground(corpus, place)
    identity = run_id(config, standing.fingerprint, standing.cache_key(config))
    ranks.agree(identity)
    found = Run(runs / f"{corpus.name}-{config.model.name}-{identity}", writes=ranks.first)
    known(found)
    if ranks.told(ranks.first and _is_there(found, identity, place)):
        return Outcome(found, "found", config.training.epochs)
    with found.locked():
        # Another training may have ended while this one came here.
        if ranks.told(ranks.first and _is_there(found, identity, place)):
            return Outcome(found, "found", config.training.epochs)
        going_on = ranks.told(ranks.first and found.has_progress)
        if going_on and ranks.first:
            provenance.check_same(found, "begun")
        arrays = ranks.told(found.arrays if ranks.first and going_on and "cache_arrays" in found.record else {})
        # The record stays until there is the next: it says which code and features the states are of.
        found.clear(keep=(*PROGRESS, "environment.json", "run.json") if going_on else ())
        started = time.monotonic()
        switches = make_deterministic(config.compute.deterministic, config.compute.threads)
        initialise(model, config.training.seed, config.training.initialisation)
        record = _begin(found, identity, config, standing, place, switches, model)
        status, earlier = "finished", 0.0
        if config.training.epochs == 0:
            record |= {"weights_sha256": record["initial_weights_sha256"], "history_sha256": text_sha256("")}
        else:
            with ranks.in_turn():
                caches = standing.caches(config, place)
                variants = standing.variants(config, caches, place)
            given = array_names(caches, variants)
            check_arrays({name: given[name] for name in given if name in arrays}, arrays, found.path, config, place)
            record |= {"cache_arrays": _arrays(given)}
            found.write_record(record)
            keep_freed_memory()
            with ranks.joined(), _enough_memory():
                trainer = Trainer(found, config, standing, caches, variants, model, ranks)
                _say_what_failed(next(iter(caches.values())), place)
                origin = json.dumps([identity, record["initial_weights_sha256"], record["cache_arrays"]])
                checkpoints = Checkpoints(found.path / CHECKPOINTS, text_sha256(origin))
                with ranks.in_turn():
                    if going_on and trainer.restore(checkpoints):
                        status, earlier = "resumed", trainer.earlier
                    elif going_on:
                        found.discard(PROGRESS)
                ranks.agree(f"{identity} at {trainer.position}")
                if status == "resumed":
                    place.say(f"Going on with {found.path} at {trainer.position}.")
                elif going_on:
                    place.say(
                        f"What was trained of {found.path} cannot be gone on with, because it is damaged or of other "
                        "features: training begins anew."
                    )
                if remark := advice(config):
                    place.say(remark)
                begun(found)
                interruption = Interruption()
                with interruption.noticed():
                    record |= trainer.train(checkpoints, interruption, seen)
        found.seal({**record, "status": "finished", "seconds": time.monotonic() - started + earlier})
        found.discard((CHECKPOINTS,))
        ranks.told()  # that all is written
    return Outcome(found, status, config.training.epochs)


def _is_there(found: Run, identity: str, place: Workplace) -> bool:
    """Whether the run is finished.

    Raises GenreclsError where it is not what training wrote, of another id, or made by other code.
    """
    if not found.finished:
        return False
    if found.record["id"] != identity:
        raise GenreclsError(
            f"{found.path / 'run.json'} is of the run {found.record['id']}, and the folder is that of {identity}: move "
            "the folder away, and train again."
        )
    if found.files is None:
        place.say(provenance.unsealed(found))
    else:
        found.check()
        provenance.check_same(found)
    return True


def _say_what_failed(cache: Cache, place: Workplace) -> None:
    if cache.failed:
        place.say(
            f"{len(cache.failed)} of {len(cache.rows)} clips cannot be used and are left out, "
            f"{cache.failed[0].clip} for one ({cache.failed[0].reason}): `genrecls preprocess` lists them."
        )


def _built(config: Config, genres: int) -> Model:
    """The model. Raises GenreclsError where it cannot be, for its fragment is too short or the machine too small."""
    shape = InputShape.of(config, genres)
    values = parameters(weightless(config.model, shape))
    with _enough_memory():
        # An allocation that succeeds may still end the process later, when it is written to.
        if _BYTES_OF_WEIGHT * values > total_memory(torch.device(config.compute.device)):
            raise MemoryError
        return build(config.model, shape)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Raise Untrainable where the block runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # PyTorch has no class of its own for a CPU without memory.
        known = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not known:
            raise
        raise Untrainable(
            "There is not enough memory to train this model: choose a smaller --batch-size or --fragment, or a model "
            "with fewer parameters (`genrecls models NAME` counts them)."
        ) from error


def _check_split(config: Config, corpus: Corpus) -> None:
    """Raise GenreclsError where the split or an epoch comes to nothing even if every clip can be used."""
    clips = len(corpus.clips)
    if config.split.policy != "contaminated":  # which cuts clips, whose lengths are not known yet
        whole = dict.fromkeys((clip.id for clip in corpus.clips), config.frames)
        made = splits.spans(corpus, config.split, whole, config.frames)
        clips = sum(span.role == "train" for span in made)
    steps_of_epoch(clips, config)


def _begin(
    found: Run,
    identity: str,
    config: Config,
    standing: Ground,
    place: Workplace,
    switches: dict[str, Any],
    model: Model,
) -> dict[str, Any]:
    found.write_config(config)
    found.write_corpus(manifest.entries(standing.corpus, standing.manifest))
    paths = {"res": str(place.res), "data_dir": config.dataset.data_dir, "groups": config.dataset.groups}
    here = environment.describe(switches)
    found.write_environment({**(_resumed(found, here) or here), **paths})
    record = {
        "schema": SCHEMA,
        "id": identity,
        "code": provenance.code(config.model.name),
        "status": "training",
        "corpus": standing.corpus.name,
        "fingerprint": standing.fingerprint,
        "cache_key": standing.cache_key(config),
        "genres": list(standing.corpus.genres),
        "split": config.split.policy,
        "parameters": parameters(model),
        "epochs": 0,
        "initial_weights_sha256": weights.write(found, "initial", model.state_dict()),
        "best_epoch": None,
        "valid": None,
    }
    found.write_record(record)
    return record


def _resumed(found: Run, here: dict[str, Any]) -> dict[str, Any] | None:
    """The environment that the run was begun in, with this one added; None where it was not begun."""
    try:
        begun = found.environment
    except GenreclsError:
        return None
    return {**begun, "resumed": [*begun.get("resumed", []), here]}


def _arrays(given: Mapping[str, Cache]) -> dict[str, Any]:
    """What was written of each array of `array_names`, and the folder of its cache."""
    return {
        name: {**cache.details["arrays"][Path(name).name], "cache": cache.path.name} for name, cache in given.items()
    }
