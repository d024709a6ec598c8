"""Training a run from its settings to its best weights."""

import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrecls import environment, inference, manifest, normalisation, run, selection, splits
from genrecls.batches import TrainingCrops, steps_of_epoch, training_batch
from genrecls.cache import Cache
from genrecls.compute import total_memory
from genrecls.config import Config, Input
from genrecls.datasets.index import Corpus
from genrecls.errors import GenreclsError
from genrecls.features import restored
from genrecls.fragments import Fragments, Stretch, frames_by_clip, stretches_of, stretches_of_variants
from genrecls.loss import Loss
from genrecls.metrics import Figures
from genrecls.models.dropout import begin_step
from genrecls.models.initialisation import initialise
from genrecls.models.registry import InputShape, Model, build, parameters, weightless
from genrecls.normalisation import Normalisation
from genrecls.optimisation import optimiser, update
from genrecls.preparation import Ground, Workplace, ground, index, resolved
from genrecls.run import Run
from genrecls.schedule import learning_rates
from genrecls.seeding import make_deterministic

EpochSeen = Callable[[dict[str, Any], int], None]
"""seen(line of metrics.jsonl, epochs in all): called after each epoch."""
_BYTES_OF_WEIGHT = 16
"""In training with an Adam: the weight, its gradient and two moments, float32."""


@dataclass(frozen=True)
class Outcome:
    """What `train` reports. status: finished (trained now) or found (it was there). planned: epochs asked for."""

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


def train(config: Config, place: Workplace, runs: Path, seen: EpochSeen) -> Outcome:
    """Train the run that these settings are, or find it below `runs`.

    Raises GenreclsError for everything the user can mend, OSError where the disk does not take it.
    """
    corpus = index(config.dataset, place.res)
    config = resolved(config, corpus)
    # What the index alone can show to be wrong is said before files are read and features made.
    model = _built(config, len(corpus.genres))
    if config.training.epochs:
        _check_split(config, corpus)
    standing = ground(corpus, place)
    identity = run.identity(config, standing.fingerprint, standing.cache_key(config))
    found = Run(runs / f"{corpus.name}-{config.model.name}-{identity}")
    if found.finished:
        return Outcome(found, "found", config.training.epochs)
    with found.locked():
        found.clear()
        started = time.monotonic()
        switches = make_deterministic(config.compute.deterministic, config.compute.threads)
        initialise(model, config.training.seed, config.training.initialisation)
        record = _begin(found, identity, config, standing, place, switches, model)
        if config.training.epochs == 0:
            record |= {"weights_sha256": record["initial_weights_sha256"], "history_sha256": run.text_sha256("")}
        else:
            caches = standing.caches(config, place)
            variants = standing.variants(config, caches, place)
            record |= {"cache_arrays": _arrays(caches, variants)}
            with _enough_memory():
                training = _Training(found, config, standing, caches, variants, model)
                first = next(iter(caches.values()))
                if first.failed:
                    place.say(
                        f"{len(first.failed)} of {len(first.rows)} clips cannot be used and are left out, "
                        f"{first.failed[0].clip} for one ({first.failed[0].reason}): `genrecls preprocess` lists them."
                    )
                record |= training.loop(seen)
        found.write_record({**record, "status": "finished", "seconds": time.monotonic() - started})
    return Outcome(found, "finished", config.training.epochs)


def _built(config: Config, genres: int) -> Model:
    """The model. Raises GenreclsError where it cannot be, for its fragment is too short or the machine too small."""
    shape = InputShape.of(config, genres)
    weights = parameters(weightless(config.model, shape))
    with _enough_memory():
        # An allocation that succeeds may still end the process later, when it is written to.
        if _BYTES_OF_WEIGHT * weights > total_memory(torch.device(config.compute.device)):
            raise MemoryError
        return build(config.model, shape)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Raise GenreclsError where the block runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # PyTorch has no class of its own for a CPU without memory.
        known = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not known:
            raise
        raise GenreclsError(
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
    found.write_environment({**environment.describe(switches), **paths})
    record = {
        "id": identity,
        "status": "training",
        "corpus": standing.corpus.name,
        "fingerprint": standing.fingerprint,
        "cache_key": standing.cache_key(config),
        "genres": list(standing.corpus.genres),
        "split": config.split.policy,
        "epochs": 0,
        "initial_weights_sha256": found.write_weights("initial", model.state_dict()),
        "best_epoch": None,
        "valid": None,
    }
    found.write_record(record)
    return record


def _arrays(caches: dict[Input, Cache], variants: list[dict[Input, Cache]]) -> dict[str, Any]:
    """What was written of each array, by its file's name, which for variants is below theirs."""
    return {
        f"{folder}{name}": written
        for folder, group in (("", caches), *((f"variant-{i}/", each) for i, each in enumerate(variants, 1)))
        for cache in group.values()
        for name, written in cache.details["arrays"].items()
    }


class _Training:
    def __init__(
        self,
        found: Run,
        config: Config,
        standing: Ground,
        caches: dict[Input, Cache],
        variants: list[dict[Input, Cache]],
        model: Model,
    ) -> None:
        self._run, self._config, self._standing = found, config, standing
        self._device = torch.device(config.compute.device)
        spans = splits.spans(standing.corpus, config.split, frames_by_clip(caches, config), config.frames)
        found.write_spans(spans)
        stretches = stretches_of(spans, caches, standing.corpus, config)
        scales = {kind: _scale(kind, config, cache, stretches["train"]) for kind, cache in caches.items()}
        found.write_normalisation(scales)
        varied = stretches_of_variants(stretches["train"], variants, config)
        self._crops = TrainingCrops(stretches["train"], config, varied)
        self._valid = stretches["valid"]
        arrays, *others = ({kind: cache.array for kind, cache in each.items()} for each in (caches, *variants))
        self._fragments = Fragments(arrays, scales, config, self._device, others)
        self._model = inference.placed(model, self._device)
        self._optimiser = optimiser(self._model, config.optimiser)
        training_clips = {stretch.clip: stretch.genre for stretch in stretches["train"]}
        self._loss = Loss(config, training_clips.values(), len(standing.corpus.genres), self._device)

    def loop(self, seen: EpochSeen) -> dict[str, Any]:
        """All epochs, or those until validation no longer improves. Returns what the record gains."""
        settings = self._config.training
        best: dict[str, Any] = {}
        costs: list[float] = []
        for epoch in range(settings.epochs):
            begun = time.monotonic()
            loss, lr, draws = self._epoch(epoch, costs)
            trained = time.monotonic()
            valid = self._validate()
            line = {"epoch": epoch, "lr": lr, "train": {"cross_entropy": loss}, "valid": valid}
            self._run.append("metrics", line)
            self._run.append("draws", {"epoch": epoch, **draws})
            self._run.append("timing", self._timing(epoch, trained - begun, time.monotonic() - trained))
            cost = selection.cost(settings.select, valid["clip"])
            if not costs or cost < min(costs):
                sha256 = self._run.write_weights("best", self._model.state_dict())
                best = {"best_epoch": epoch, "valid": valid["clip"], "weights_sha256": sha256}
            costs.append(cost)
            seen(line, settings.epochs)
            if selection.exhausted(costs, settings.patience, settings.minimum_change):
                break
        history = run.file_sha256(self._run.path / "metrics.jsonl")
        return {**best, "epochs": len(costs), "history_sha256": history}

    def _epoch(self, epoch: int, costs: list[float]) -> tuple[float, float, dict[str, str]]:
        settings = self._config
        plan = self._crops.plan(epoch)
        rates = learning_rates(settings.optimiser, epoch, settings.training.epochs, self._crops.steps, costs)
        self._model.train()
        losses = torch.zeros(self._crops.steps, device=self._device)
        for i, lr in enumerate(rates):
            begin_step(self._model, settings.training.seed, epoch * self._crops.steps + i)
            batch = training_batch(self._fragments, plan, i)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=settings.compute.precision == "bf16"):
                logits = self._model(*batch.inputs).float()
            loss = self._loss(logits, batch)
            update(self._optimiser, settings.optimiser, loss, lr)
            losses[i] = loss.detach()
        mean = float(losses.double().mean())
        if not math.isfinite(mean):
            raise GenreclsError(
                f"The training loss became {mean} in epoch {epoch}: choose a lower learning rate (--lr), or "
                "--precision fp32."
            )
        return mean, rates[-1], plan.sha256

    def _validate(self) -> dict[str, Any]:
        genres = self._standing.corpus.genres
        made = inference.predict_subset(self._model, self._fragments, self._valid, genres)
        return {"clip": _shown(made.clip_figures), "fragment": _shown(made.fragment_figures)}

    def _timing(self, epoch: int, training: float, validation: float) -> dict[str, Any]:
        crops = self._crops.steps * self._config.batches.batch_size
        on_gpu = self._device.type == "cuda"
        return {
            "epoch": epoch,
            "training_seconds": training,
            "validation_seconds": validation,
            "fragments_per_second": crops / training,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        }


def _shown(figures: Figures) -> dict[str, float]:
    return {"accuracy": figures.accuracy, "f1_macro": figures.f1_macro, "cross_entropy": figures.cross_entropy}


def _scale(kind: Input, config: Config, cache: Cache, stretches: list[Stretch]) -> Normalisation:
    bins, method = (1 if kind == "wave" else config.features.bins), config.batches.normalisation
    if method != "corpus":
        return normalisation.identity(bins, method)
    array = cache.array
    ends = [(s.first_sample, s.samples) if kind == "wave" else (s.first, s.frames) for s in stretches]
    parts = (np.array(array[first : first + extent]).reshape(extent, bins) for first, extent in ends)
    return normalisation.corpus((restored(torch.from_numpy(p), kind, config.features).numpy() for p in parts), bins)
