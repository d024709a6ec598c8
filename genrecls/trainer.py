"""The loop over epochs and steps, which can be left and gone on with at any step without a bit of difference."""

import math
import resource
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import Any, NoReturn

import numpy as np
import torch

from genrecls import inference, normalisation, selection, splits, weights
from genrecls.batches import Batch, TrainingCrops, training_batches
from genrecls.cache import Cache
from genrecls.checkpoint import Checkpoints, State
from genrecls.config import Config, Input
from genrecls.digests import file_sha256
from genrecls.distributed import Ranks
from genrecls.errors import Interrupted, Untrainable
from genrecls.features import restored
from genrecls.fragments import Fragments, Stretch, frames_by_clip, stretches_of, stretches_of_variants
from genrecls.interruption import Interruption
from genrecls.loss import Loss
from genrecls.metrics import Figures
from genrecls.models.building import Model
from genrecls.models.dropout import begin_step
from genrecls.normalisation import Normalisation
from genrecls.optimisation import moments, optimiser, restore_moments, update
from genrecls.preparation import Ground
from genrecls.run import Run
from genrecls.schedule import learning_rates

EpochSeen = Callable[[dict[str, Any], int], None]
"""seen(line of metrics.jsonl, epochs in all): called after each epoch. May raise Interrupted, to leave training."""

SAVE_SECONDS = 300.0
"""After so long in an epoch its state is written."""
SAVE_SHARE = 0.02
"""Of the time, at most, is spent on writing states at the ends of epochs."""
HISTORIES = ("metrics", "draws", "timing")


class Trainer:
    """One run's training. Making it writes the split and the normalisation of the run."""

    def __init__(
        self,
        found: Run,
        config: Config,
        standing: Ground,
        caches: dict[Input, Cache],
        variants: list[dict[Input, Cache]],
        model: Model,
        ranks: Ranks,
    ) -> None:
        self._run, self._config, self._standing, self._ranks = found, config, standing, ranks
        self._device = torch.device(config.compute.device)
        spans = splits.spans(standing.corpus, config.split, frames_by_clip(caches, config), config.frames)
        found.write_spans(spans)
        stretches = stretches_of(spans, caches, standing.corpus, config)
        scales = {kind: _scale(kind, config, cache, stretches["train"]) for kind, cache in caches.items()}
        weights.write_normalisation(found, scales)
        varied = stretches_of_variants(stretches["train"], variants, config)
        self._crops = TrainingCrops(stretches["train"], config, varied)
        self._valid = stretches["valid"]
        arrays, *others = ({kind: cache.array for kind, cache in each.items()} for each in (caches, *variants))
        self._fragments = Fragments(arrays, scales, config, self._device, others)
        self._model = inference.placed(model, self._device)
        self._forward = ranks.wrapped(self._model)
        self._optimiser = optimiser(self._model, config.optimiser)
        training_clips = {stretch.clip: stretch.genre for stretch in stretches["train"]}
        self._loss = Loss(config, training_clips.values(), len(standing.corpus.genres), self._device)
        self._epoch = self._step = 0
        self._losses = torch.zeros(self._crops.steps, device=self._device)
        self._costs: list[float] = []
        self._best: dict[str, Any] = {}
        self._seconds = 0.0
        """Of training in the present epoch, as far as it went before this process."""
        self.earlier, self._made_at = 0.0, time.monotonic()
        """Seconds that processes before this one spent on the run, and when this one began."""
        self._saved_at = self._saving = 0.0
        """When the last state was written, and how long that took."""

    @property
    def position(self) -> str:
        """Where training stands, in words."""
        return f"epoch {self._epoch}, step {self._step} of {self._crops.steps}"

    def restore(self, checkpoints: Checkpoints) -> bool:
        """Stand where the newest usable state stands. Returns whether there is one."""
        for state in checkpoints.states():
            if all(self._run.cut(name, *state.values["histories"][name]) for name in HISTORIES):
                self._stand(state)
                return True
        return False

    def train(self, checkpoints: Checkpoints, interruption: Interruption, seen: EpochSeen) -> dict[str, Any]:
        """All epochs that are left, or those until validation no longer improves. Returns what the record gains.

        Raises Untrainable where the loss or an answer is no finite number, Interrupted after a signal, when the state
        is written.
        """
        settings = self._config.training
        self._saved_at = time.monotonic()
        while self._epoch < settings.epochs and not self._exhausted:
            if self._ranks.any(interruption.asked):
                self._leave(checkpoints)
            loss = self._train_epoch(checkpoints, interruption)
            began = time.monotonic()
            try:
                # Of several processes none may leave the others alone with what they do together.
                with interruption.at_once() if self._ranks.size == 1 else nullcontext():
                    valid = self._validate()
            except KeyboardInterrupt:
                self._leave(checkpoints)
            line = self._finish_epoch(loss, valid, time.monotonic() - began)
            try:
                seen(line, settings.epochs)
            except Interrupted:
                self._save(checkpoints)
                raise
            if self._ranks.any(self._saving < SAVE_SHARE * (time.monotonic() - self._saved_at)):
                self._save(checkpoints)
        history = file_sha256(self._run.path / "metrics.jsonl") if self._ranks.first else ""
        return {**self._best, "epochs": len(self._costs), "history_sha256": history}

    @property
    def _exhausted(self) -> bool:
        settings = self._config.training
        return selection.exhausted(self._costs, settings.patience, settings.minimum_change)

    def _train_epoch(self, checkpoints: Checkpoints, interruption: Interruption) -> float:
        """The steps of the epoch that are left. Returns the mean loss of all its steps."""
        config, steps = self._config, self._crops.steps
        part = self._ranks.part(config.batches.batch_size)
        began = time.monotonic() - self._seconds
        self._plan = self._crops.plan(self._epoch)
        self._rates = learning_rates(config.optimiser, self._epoch, config.training.epochs, steps, self._costs)
        self._model.train()
        batches = training_batches(self._fragments, self._plan, range(self._step, steps), part)
        with closing(batches):
            for batch in batches:
                self._train_step(batch)
                self._seconds = time.monotonic() - began
                if self._ranks.any(interruption.asked or time.monotonic() - self._saved_at > SAVE_SECONDS):
                    if self._ranks.any(interruption.asked):
                        self._leave(checkpoints)
                    self._save(checkpoints)
        mean = float(self._ranks.mean(self._losses.double()).mean())
        self._seconds = time.monotonic() - began
        if not math.isfinite(mean):
            raise Untrainable(
                f"The training loss became {mean} in epoch {self._epoch}: choose a lower learning rate (--lr), or "
                "--precision fp32."
            )
        return mean

    def _train_step(self, batch: Batch) -> None:
        config = self._config
        step = self._epoch * self._crops.steps + self._step
        begin_step(self._model, config.training.seed, step, self._ranks.rank)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=config.compute.precision == "bf16"):
            logits = self._forward(*batch.inputs).float()
        loss = self._loss(logits, batch)
        update(self._optimiser, config.optimiser, loss, self._rates[self._step])
        self._losses[self._step] = loss.detach()
        self._step += 1

    def _finish_epoch(self, loss: float, valid: dict[str, Any], validation: float) -> dict[str, Any]:
        """Write what the epoch came to, and stand at the next one's first step. Returns the line of metrics.jsonl."""
        epoch = self._epoch
        line = {"epoch": epoch, "lr": self._rates[-1], "train": {"cross_entropy": loss}, "valid": valid}
        self._run.append("metrics", line)
        self._run.append("draws", {"epoch": epoch, **self._plan.sha256})
        self._run.append("timing", self._timing(validation))
        cost = selection.cost(self._config.training.select, valid["clip"])
        if not self._costs or cost < min(self._costs):
            sha256 = weights.write(self._run, "best", self._model.state_dict())
            self._best = {"best_epoch": epoch, "valid": valid["clip"], "weights_sha256": sha256}
        self._costs.append(cost)
        self._epoch, self._step, self._seconds = epoch + 1, 0, 0.0
        self._losses.zero_()
        return line

    def _validate(self) -> dict[str, Any]:
        genres = self._standing.corpus.genres
        self._ranks.same_buffers(self._model)
        try:
            made = inference.predict_subset(self._model, self._fragments, self._valid, genres, self._ranks)
        except Untrainable as error:
            raise Untrainable(
                f"The model's answers are no finite numbers after epoch {self._epoch}: choose a lower learning rate "
                "(--lr), or --precision fp32."
            ) from error
        # Processes go different ways where these differ by a bit, as they may on different processors.
        return self._ranks.told({"clip": _shown(made.clip_figures), "fragment": _shown(made.fragment_figures)})

    def _timing(self, validation: float) -> dict[str, Any]:
        crops = self._crops.steps * self._config.batches.batch_size
        on_gpu = self._device.type == "cuda"
        return {
            "epoch": self._epoch,
            "training_seconds": self._seconds,
            "validation_seconds": validation,
            "fragments_per_second": crops / self._seconds,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        }

    def _save(self, checkpoints: Checkpoints) -> None:
        began = time.monotonic()
        losses = self._ranks.gathered(self._losses)
        if self._ranks.first:
            self._write(checkpoints, losses)
        self._saved_at = time.monotonic()
        self._saving = self._saved_at - began

    def _write(self, checkpoints: Checkpoints, losses: torch.Tensor) -> None:
        """losses: (processes, steps)."""
        tensors = {f"model.{name}": value for name, value in self._model.state_dict().items()}
        tensors |= {f"optimiser.{name}": value for name, value in moments(self._optimiser).items()}
        values = {
            "costs": self._costs,
            "best": self._best,
            "seconds": self._seconds,
            "spent": self.earlier + time.monotonic() - self._made_at,
            "histories": {name: self._run.secured(name) for name in HISTORIES},
        }
        checkpoints.write(State(self._epoch, self._step, {**tensors, "losses": losses}, values))

    def _leave(self, checkpoints: Checkpoints) -> NoReturn:
        self._save(checkpoints)
        raise Interrupted(
            f"Interrupted: the training of {self._run.path} stands at {self.position}, and the same command goes on "
            "from there."
        )

    def _stand(self, state: State) -> None:
        groups: dict[str, dict[str, torch.Tensor]] = {"model": {}, "optimiser": {}}
        for name, value in state.tensors.items():
            kind, _, own = name.partition(".")
            if own:
                groups[kind][own] = value
        self._model.load_state_dict(groups["model"])
        restore_moments(self._optimiser, groups["optimiser"])
        self._losses.copy_(state.tensors["losses"][self._ranks.rank])
        self._epoch, self._step = state.epoch, state.step
        names = ("costs", "best", "seconds", "spent")
        self._costs, self._best, self._seconds, self.earlier = (state.values[name] for name in names)


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
