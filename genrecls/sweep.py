"""A sweep: runs over a space of settings, chosen by Optuna or in order, and the best of them by validation.

A trial is a run like any other, trained by `training.train` and found by its id. The storage says which trials there
are and what came of them; below the runs folder lie, for each sweep, its lock and one for each trial:

sweeps/<id>/study.db     the storage, unless another is named
sweeps/<id>/claim.lock   held for the moment in which a process takes a trial
sweeps/<id>/trials/      a lock for each trial, held by the process that trains it: what a killed one held is free
sweeps/<id>/folder.txt   a token that the storage has, too: trials are taken by locks, which one folder must hold
sweeps/<id>/best.toml    the recipe of the best trial

A candidate is a function of the trials before it, of the sweep's seed and of its number, drawn in a copy of the study
in memory, so that the trial appears in the storage whole. One that was tried is drawn anew: no trial is made twice.
"""

import secrets
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from genrecls import atomic, config, reading, selection
from genrecls.errors import ConfigError, GenreclsError, Interrupted, Untrainable
from genrecls.lock import Taken, exclusive
from genrecls.preparation import Workplace
from genrecls.reading import Damaged
from genrecls.run import Run
from genrecls.seeding import derived_key
from genrecls.settings import Value
from genrecls.space import Space
from genrecls.trainer import EpochSeen
from genrecls.training import train

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

FOLDER = "sweeps"
"""Below the runs folder."""
_ATTEMPTS = 100
"""Draws of a candidate that was not tried yet, before the space is gone through in order."""
_ANEW = "remove it and run the same command again, which finds the runs that there are"
_BETWEEN_LOOKS = 1.0
"""Seconds after which a process that waits for others looks again."""
_PATIENCE_OF_SQLITE = 120
"""Seconds that SQLite waits for another process's writing."""


@dataclass(frozen=True)
class Trial:
    """What came of a trial.

    number: from 0. state: finished, pruned (its run is unfinished), failed (with the reason) or running (of another
    process, or stopped). value: the metric in the run's best epoch; of a pruned trial in its last epoch. values: of the
    dimensions. run: the name of its folder, "" where it was not begun.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Value]
    run: str
    reason: str

    def shown(self) -> dict[str, Any]:
        """The fields of `sweep --json`."""
        return {
            "number": self.number,
            "state": self.state,
            "value": self.value,
            "settings": self.values,
            "run": self.run or None,
            "id": self.run.rpartition("-")[2] or None,
            "reason": self.reason or None,
        }


@dataclass(frozen=True)
class Swept:
    """A sweep that has come to its end. importances: of each dimension (of widths: their number and each), 0 to 1."""

    space: Space
    folder: Path
    trials: list[Trial]
    best: Trial | None
    importances: dict[str, float]
    recipe: Path | None

    def values(self) -> dict[str, Any]:
        """The fields of `sweep --json`."""
        return {
            "sweep": self.space.id,
            "folder": str(self.folder),
            "metric": self.space.metric,
            "trials": [trial.shown() for trial in self.trials],
            "best": self.best and self.best.shown(),
            "importances": self.importances,
            "recipe": self.recipe and str(self.recipe),
        }


def in_order(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Finished trials, the best first; then those that were pruned and the rest, which have no place in the order."""

    def place(trial: Trial) -> tuple[int, float]:
        if trial.state == "finished" and trial.value is not None:
            return 0, selection.cost(metric, {metric: trial.value})
        return (1 if trial.state == "pruned" else 2), 0.0

    return sorted(trials, key=place)


class _Pruned(Interrupted):
    """The trial is not worth its remaining epochs. epochs: done."""

    def __init__(self, epochs: int) -> None:
        super().__init__(f"Pruned after {epochs} epochs.")
        self.epochs = epochs


def sweep(space: Space, place: Workplace, runs: Path, storage: str, seen: EpochSeen) -> Swept:
    """Train trials until there are as many as `space.trials`, with all processes that do the same.

    storage: URL of an Optuna storage, "" for a file below `runs`. What another process left, killed or stopped, is gone
    on with. The test subset is never read.
    Raises GenreclsError for everything the user can mend, Interrupted after a signal.
    """
    folder = runs / FOLDER / space.id
    with _storage_at_work(), exclusive(folder / "claim.lock", waiting=lambda: None):
        table = _Table.opened(space, folder, storage)
    for claim in table.claims(place.say):
        with claim.held, _storage_at_work():
            table.train(claim, place, runs, seen)
    with _storage_at_work():
        return table.swept(runs)


@contextmanager
def _storage_at_work() -> Iterator[None]:
    """Raise GenreclsError where Optuna is missing or its storage fails."""
    try:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise GenreclsError(
            "Sweeps need Optuna, which is not installed: run `pip install -e '.[sweep]'` in the checkout."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Of interfaces that are young.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        said = " ".join(str(getattr(cause, "orig", None) or cause or error).splitlines()[0].split()).rstrip(".")
        # What SQLite says of a file that is damaged, and not of one that it cannot reach.
        damaged = type(getattr(cause, "orig", None)) is sqlite3.DatabaseError
        mend = f"{_ANEW}." if damaged else "mend it or name another by --storage, and run the same command again."
        raise GenreclsError(f"The storage of the sweep cannot be used ({said}): {mend}") from error


@dataclass(frozen=True)
class _Claim:
    """A trial that this process trains. key: in the storage. held: its lock."""

    key: int
    number: int
    values: dict[str, Value]
    held: ExitStack


@dataclass(frozen=True)
class _Table:
    """The trials, in the storage that all processes of a sweep share."""

    space: Space
    folder: Path
    storage: "RDBStorage"
    study: "Study"

    @classmethod
    def opened(cls, space: Space, folder: Path, url: str) -> "_Table":
        """The sweep's table, made where it is not there yet. The claim lock must be held."""
        import optuna
        import sqlalchemy

        made = (
            sqlalchemy.engine.make_url(url)
            if url
            else sqlalchemy.URL.create("sqlite", database=str(folder / "study.db"))
        )
        if made.get_backend_name() == "sqlite" and made.database in (None, "", ":memory:"):
            raise ConfigError(f"The storage {url} keeps nothing: name a file, such as sqlite:///sweep.db.")
        waiting = {"connect_args": {"timeout": _PATIENCE_OF_SQLITE}} if made.get_backend_name() == "sqlite" else {}
        try:
            storage = optuna.storages.RDBStorage(made.render_as_string(hide_password=False), waiting)
        except ImportError as error:
            raise GenreclsError(
                f"The driver of the storage {made.render_as_string()} is not installed: install it, or name another "
                "storage by --storage."
            ) from error
        except (ValueError, TypeError) as error:  # of a driver, about what the URL says behind its question mark
            raise ConfigError(
                f"The storage {made.render_as_string()} has a wrong option ({error}): name it otherwise."
            ) from error
        study = optuna.create_study(
            storage=storage,
            study_name=space.id,
            direction="minimize" if space.metric == "cross_entropy" else "maximize",
            pruner=_pruner(space),
            load_if_exists=True,
        )
        table = cls(space, folder, storage, study)
        table._hold_to_folder()
        return table

    def _hold_to_folder(self) -> None:
        path = self.folder / "folder.txt"
        token = self.study.user_attrs.get("folder")
        if token is None:
            token = secrets.token_hex(8)
            atomic.write_text(path, f"{token}\n")
            self.study.set_user_attr("folder", token)
        elif _token(path) != token:
            raise GenreclsError(
                f"The sweep {self.space.id} of this storage was begun with another folder of runs than "
                f"{self.folder.parent.parent}: name that one by --runs, or another storage by --storage."
            )

    def claims(self, say: Callable[[str], None]) -> Iterator[_Claim]:
        """Trials for this process, each with its lock held, until all have ended."""
        told = False
        while True:
            with _storage_at_work(), exclusive(self.folder / "claim.lock", waiting=lambda: None):
                trials = self.study.get_trials(deepcopy=False)
                claim = self._left(trials) or self._new(trials)
            if claim is not None:
                yield claim
                continue
            running = sum(not trial.state.is_finished() for trial in trials)
            if not running:
                return
            if not told:
                say(f"Waiting for {running} {'trial' if running == 1 else 'trials'} that other processes train.")
                told = True
            time.sleep(_BETWEEN_LOOKS)

    def _lock(self, number: int) -> ExitStack:
        """Hold the lock of a trial. Raises Taken where another process does."""
        held = ExitStack()
        held.enter_context(exclusive(self.folder / "trials" / f"{number:05d}.lock"))
        return held

    def _left(self, trials: "list[FrozenTrial]") -> _Claim | None:
        """A trial that was begun and that no process trains any more."""
        for trial in trials:
            if trial.state.is_finished():
                continue
            try:
                held = self._lock(trial.number)
            except Taken:
                continue
            if self.storage.get_trial(trial._trial_id).state.is_finished():  # since `trials` were read
                held.close()
                continue
            return _Claim(trial._trial_id, trial.number, self._values(trial.params), held)
        return None

    def _new(self, trials: "list[FrozenTrial]") -> _Claim | None:
        """The next trial, unless there are as many as there are to be."""
        import optuna

        number = len(trials)
        if number >= self.space.trials:
            return None
        values = self._candidate(trials)
        self.space.config(values)  # What makes no run is said before there is a trial of it.
        fixed = optuna.trial.FixedTrial(_parameters(self.space, values))
        self.space.drawn(fixed)
        held = self._lock(number)
        key = self.storage.create_new_trial(
            self.storage.get_study_id_from_name(self.space.id),
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING, params=fixed.params, distributions=fixed.distributions
            ),
        )
        return _Claim(key, number, values, held)

    def _candidate(self, trials: "list[FrozenTrial]") -> dict[str, Value]:
        """The values of the next trial, which no other has."""
        import optuna

        space, number = self.space, len(trials)
        if space.method == "grid":
            return space.combination(number)
        tried = [self._values(trial.params) for trial in trials]
        for attempt in range(_ATTEMPTS):
            # Optuna's samplers take 32 bits.
            sampler = _sampler(space, derived_key(space.seed, "sweep", number, attempt) % 2**32)
            memory = optuna.create_study(direction=self.study.direction, sampler=sampler)
            memory.add_trials(trials)
            drawn = space.drawn(memory.ask())
            if drawn not in tried:
                return drawn
        if space.size is None:
            raise GenreclsError(
                f"The sweep {space.name} finds no candidate that was not tried: ask for fewer trials, or widen a range."
            )
        start = derived_key(space.seed, "sweep", number) % space.size
        around = (space.combination((start + i) % space.size) for i in range(space.size))
        return next(values for values in around if values not in tried)

    def train(self, claim: _Claim, place: Workplace, runs: Path, seen: EpochSeen) -> None:
        """Train the trial's run, or go on with it, and write what came of it."""
        import optuna

        settings = self.space.config(claim.values)
        state, value, reason, found = optuna.trial.TrialState.COMPLETE, None, "", []

        def known(run: Run) -> None:
            found.append(run)
            run.add_tags([self.space.id])
            self.storage.set_trial_user_attr(claim.key, "run", run.name)

        def watched(line: dict[str, Any], epochs: int) -> None:
            seen(line, epochs)
            self._report(claim, [line])
            done = line["epoch"] + 1
            if self.space.warmup <= done < epochs and self._to_prune(claim):
                raise _Pruned(done)

        try:
            outcome = train(settings, place, runs, watched, known)
            # Those that another process or `train` was there for.
            self._report(claim, outcome.run.history)
            value = float(outcome.run.record["valid"][self.space.metric])
        except _Pruned as pruned:
            state = optuna.trial.TrialState.PRUNED
            found[0].write_pruned(self.space.id, pruned.epochs)
            reason = f"pruned after {pruned.epochs} of {settings.training.epochs} epochs"
        except Untrainable as error:
            state, reason = optuna.trial.TrialState.FAIL, str(error)
        if reason:
            self.storage.set_trial_user_attr(claim.key, "reason", reason)
        self.study.tell(claim.number, value, state=state)
        place.say(self._line(claim.number))

    def _to_prune(self, claim: _Claim) -> bool:
        return self.study.pruner.prune(self.study, self.storage.get_trial(claim.key))

    def _report(self, claim: _Claim, lines: list[dict[str, Any]]) -> None:
        """Let the storage know of lines of metrics.jsonl, by the number of epochs that are done."""
        known = self.storage.get_trial(claim.key).intermediate_values
        for line in lines:
            if line["epoch"] + 1 not in known:
                figure = float(line["valid"]["clip"][self.space.metric])
                self.storage.set_trial_intermediate_value(claim.key, line["epoch"] + 1, figure)

    def _line(self, number: int) -> str:
        trials = self.trials()
        trial, best = trials[number], self.best(trials)
        shown = ", ".join(f"{name} {_short(value)}" for name, value in trial.values.items())
        came = f"{self.space.metric} {trial.value:.4f}" if trial.state == "finished" else trial.reason.rstrip(".")
        so_far = f"Best so far: {best.value:.4f} of trial {best.number}." if best else "None has finished so far."
        return f"Trial {number} of {self.space.trials} ({shown}), {trial.run}: {came}. {so_far}"

    def trials(self) -> list[Trial]:
        """All there are, in their order."""
        names = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        return [
            Trial(
                number=trial.number,
                state=names.get(trial.state.name, "running"),
                value=trial.value,
                values=self._values(trial.params),
                run=trial.user_attrs.get("run", ""),
                reason=trial.user_attrs.get("reason", ""),
            )
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def best(self, trials: list[Trial]) -> Trial | None:
        """The finished trial with the best figure, of equal ones the first; None where none is finished."""
        first = next(iter(in_order(trials, self.space.metric)), None)
        return first if first and first.state == "finished" else None

    def swept(self, runs: Path) -> Swept:
        """What came of it all. Writes the recipe of the best trial."""
        trials = self.trials()
        best = self.best(trials)
        recipe = None
        if best is not None:
            recipe = self.folder / "best.toml"
            atomic.write_text(recipe, self._recipe(best))
        return Swept(self.space, self.folder, trials, best, self._importances(), recipe)

    def _recipe(self, best: Trial) -> str:
        settings = self.space.settings(best.values)
        for section, field, known in config.fields():
            if not known.changes_bits:
                settings.get(section, {}).pop(field.name, None)
        comment = (
            f"# The best of {self.space.trials} trials of the sweep {self.space.id}, trial {best.number}: "
            f"{self.space.metric} {best.value} of the\n# validation clips, run {best.run}.\n\n"
        )
        return comment + tomli_w.dumps({section: fields for section, fields in settings.items() if fields})

    def _importances(self) -> dict[str, float]:
        """By fANOVA (Hutter, Hoos and Leyton-Brown 2014); nothing where trials are too few or all alike."""
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        finished = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.value for trial in finished}) < 2:
            return {}
        found = get_param_importances(self.study, evaluator=FanovaImportanceEvaluator(seed=0))
        return {name: float(share) for name, share in found.items()}

    def _values(self, parameters: Mapping[str, Any]) -> dict[str, Value]:
        import optuna

        try:
            return self.space.drawn(optuna.trial.FixedTrial(dict(parameters)))
        except ValueError as error:
            said = str(error).splitlines()[0].rstrip(".")
            raise GenreclsError(
                f"The storage of the sweep {self.space.id} has a trial of another space ({said}): {_ANEW}."
            ) from error


def _token(path: Path) -> str | None:
    """The token in a folder; None where there is none that could be read."""
    try:
        return reading.text(reading.read_bytes(path, 100)).strip()
    except (FileNotFoundError, Damaged):
        return None


def _parameters(space: Space, values: Mapping[str, Value]) -> dict[str, Any]:
    """Optuna's parameters of a candidate."""
    parameters: dict[str, Any] = {}
    for name, value in values.items():
        parameters |= space.dimensions[name].parameters(name, value)
    return parameters


def _sampler(space: Space, seed: int) -> "BaseSampler":
    import optuna

    if space.method == "random":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(seed=seed)


def _pruner(space: Space) -> "BasePruner":
    import optuna

    if space.pruning == "median":
        return optuna.pruners.MedianPruner(space.startup)
    if space.pruning == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, space.warmup))
    return optuna.pruners.NopPruner()


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
