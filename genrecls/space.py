"""The space that a sweep searches: a TOML file with a base recipe, how to search, and lists or ranges of settings.

base = "../senets/se-cnn-average.toml"      # a recipe, from the folder of this file; optional
method = "bayesian"                         # bayesian, random or grid
trials = 20                                 # for a grid: all of its combinations where it is left out
metric = "cross_entropy"                    # of the validation clips; or accuracy or f1_macro
seed = 0                                    # of the search; the runs have training.seed
pruning = "median"                          # none (default), median or halving
pruning_warmup = 3                          # epochs in which nothing is pruned
pruning_startup = 5                         # median: trials that must have ended before any is pruned

[space]
training.epochs = 30                                    # one value for all trials
batches.batch_size = [16, 32, 64]                       # one of these
optimiser.lr = { low = 1e-5, high = 1e-3, log = true }  # between these
model.dropout = { low = 0.2, high = 0.5, step = 0.1 }
model.dense = { layers = [4, 10], low = 4, high = 256 } # a text of 4 to 10 widths, each between these
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from genrecls import config, kernels, reading, recipes
from genrecls.config import Config, ModelSettings, Nested
from genrecls.errors import ConfigError, GenreclsError
from genrecls.reading import Damaged
from genrecls.selection import RANKED_BY
from genrecls.settings import MAX_SEED, Value, described, suggestion, type_of

METHODS = ("bayesian", "random", "grid")
PRUNING = ("none", "median", "halving")
_KNOWN = ("base", "method", "trials", "metric", "seed", "pruning", "pruning_warmup", "pruning_startup", "space")
_RANGE = ("low", "high", "step", "log")
_MOST, _MOST_LAYERS = 10**6, 100
"""Trials and epochs, and layers of a text of widths: beyond that a number is a slip of the pen."""

ModelClass = Callable[[str], type[ModelSettings]]


class Source(Protocol):
    """Who gives a dimension its value: a trial of Optuna's, whose interface this is."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of these."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number between these, both included."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number between these."""


@dataclass(frozen=True)
class Choices:
    """One of these values."""

    values: tuple[Value, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def ends(self) -> tuple[Value, ...]:
        """What must do for all to do."""
        return self.values

    def value(self, number: int) -> Value:
        """One by its number, from 0."""
        return self.values[number]

    def drawn(self, name: str, source: Source) -> Value:
        """One, from `source`."""
        chosen: Value = source.suggest_categorical(name, self.values)
        return chosen

    def parameters(self, name: str, value: Value) -> dict[str, Value]:
        """What `drawn` asks for to give `value`."""
        return {name: value}


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included. step: 0 for any between. log: evenly over its logarithm."""

    low: float
    high: float
    step: float
    log: bool
    whole: bool

    @property
    def size(self) -> int | None:
        """How many values there are; None where they are beyond counting."""
        if self.low == self.high:
            return 1
        return round((self.high - self.low) / self.step) + 1 if self.step else None

    @property
    def ends(self) -> tuple[Value, ...]:
        """The lowest and the highest."""
        return (self.low, self.high)

    def value(self, number: int) -> Value:
        """One by its number, from 0, where they can be counted."""
        made = self.low + number * self.step
        return int(made) if self.whole else min(float(f"{made:.15g}"), self.high)

    def drawn(self, name: str, source: Source) -> Value:
        """One, from `source`."""
        if self.whole:
            return source.suggest_int(name, int(self.low), int(self.high), step=int(self.step), log=self.log)
        drawn = source.suggest_float(name, self.low, self.high, step=self.step or None, log=self.log)
        # Not to the last bit: samplers take NumPy's logarithms, which are the processor's there.
        return min(max(float(f"{drawn:.12g}"), self.low), self.high)

    def parameters(self, name: str, value: Value) -> dict[str, Value]:
        """What `drawn` asks for to give `value`."""
        return {name: value}


@dataclass(frozen=True)
class Widths:
    """A text of widths, such as 512-128: how many there are, and what each may be."""

    layers: Range
    each: Range

    @property
    def size(self) -> None:
        """Beyond counting."""
        return None

    @property
    def ends(self) -> tuple[Value, ...]:
        """The fewest and narrowest, and the most and widest."""
        return tuple(
            "-".join([str(width)] * int(layers)) for layers, width in zip(self.layers.ends, self.each.ends, strict=True)
        )

    def drawn(self, name: str, source: Source) -> Value:
        """One, from `source`, of which each width is a draw of its own."""
        layers = int(self.layers.drawn(f"{name}.layers", source))
        return "-".join(str(self.each.drawn(f"{name}.{i}", source)) for i in range(1, layers + 1))

    def parameters(self, name: str, value: Value) -> dict[str, Value]:
        """What `drawn` asks for to give `value`."""
        widths = [int(width) for width in str(value).split("-")]
        return {f"{name}.layers": len(widths), **{f"{name}.{i}": width for i, width in enumerate(widths, 1)}}


Dimension = Choices | Range | Widths


@dataclass(frozen=True)
class Space:
    """What a sweep searches, and how.

    base: the settings that all trials share. dimensions: by "section.field", in the order of the file. trials: how many
    there are to be. metric: of `selection.RANKED_BY`, on validation clips in a run's best epoch. startup: trials that
    must have ended before the median prunes. warmup: epochs that a trial has in any case.
    """

    name: str
    base: Nested
    dimensions: dict[str, Dimension]
    method: str
    trials: int
    metric: str
    seed: int
    pruning: str
    warmup: int
    startup: int
    model: ModelClass

    @property
    def id(self) -> str:
        """Name and digest of what the trials are drawn by, without their number: a sweep can be made longer."""
        base = {section: dict(fields) for section, fields in self.base.items()}
        for section, field, known in config.fields():
            if not known.changes_bits:
                base.get(section, {}).pop(field.name, None)
        dimensions = [[name, type(each).__name__, repr(each)] for name, each in self.dimensions.items()]
        manner = [self.method, self.metric, self.seed, self.pruning, self.warmup, self.startup]
        stated = json.dumps([{name: each for name, each in base.items() if each}, dimensions, manner], sort_keys=True)
        return f"{self.name}-{hashlib.sha256(stated.encode()).hexdigest()[:8]}"

    @property
    def kernels(self) -> str:
        """The kernels of all trials."""
        return str(self.base.get("compute", {}).get("kernels", kernels.PORTABLE))

    @property
    def size(self) -> int | None:
        """The number of combinations; None where they are beyond counting."""
        sizes = [each.size for each in self.dimensions.values()]
        return math.prod(size for size in sizes if size is not None) if None not in sizes else None

    def combination(self, number: int) -> dict[str, Value]:
        """One of the `size` combinations by its number, from 0; the last dimension changes fastest."""
        values: dict[str, Value] = {}
        for name, each in reversed(self.dimensions.items()):
            assert each.size is not None
            assert not isinstance(each, Widths)  # which are beyond counting
            number, own = divmod(number, each.size)
            values[name] = each.value(own)
        return {name: values[name] for name in self.dimensions}

    def drawn(self, source: Source) -> dict[str, Value]:
        """A candidate: a value for each dimension."""
        return {name: each.drawn(name, source) for name, each in self.dimensions.items()}

    def settings(self, values: Mapping[str, Value]) -> Nested:
        """A candidate's nested settings. Those of the base that have no meaning beside its values are left out.

        Raises ConfigError that names the values where they make no run.
        """
        stated: Nested = {}
        for name, value in values.items():
            section, _, field = name.partition(".")
            stated.setdefault(section, {})[field] = value
        try:
            return config.inherit(self.base, stated, self.model)
        except ConfigError as error:
            raise self._unfit(values, error) from error

    def config(self, values: Mapping[str, Value]) -> Config:
        """A candidate's settings, checked. Raises ConfigError that names the values where they make no run."""
        settings = self.settings(values)
        try:
            return config.read(settings, self.model)
        except ConfigError as error:
            raise self._unfit(values, error) from error

    def _unfit(self, values: Mapping[str, Value], error: ConfigError) -> ConfigError:
        shown = ", ".join(f"{name} = {value}" for name, value in values.items())
        return ConfigError(f"The sweep {self.name} has a candidate that makes no run ({shown}): {error}")

    def check(self) -> None:
        """Raise ConfigError where a value, or two of two dimensions, make no run. Of ranges the ends are tried."""
        first = {name: each.ends[0] for name, each in self.dimensions.items()}
        for one, other in itertools.combinations_with_replacement(self.dimensions, 2):
            for a, b in itertools.product(self.dimensions[one].ends, self.dimensions[other].ends):
                self.config({**first, one: a, other: b})


def load(path: Path, given: Nested, model: ModelClass) -> Space:
    """The space of a TOML file. given: settings over those of its base, as flags and --set state them.

    Raises GenreclsError where the file cannot be read, ConfigError where it is no space or has a candidate that makes
    no run.
    """
    try:
        stated = reading.toml(reading.read_bytes(path, reading.LONGEST_TOML))
    except OSError as error:
        raise GenreclsError(f"The sweep {path} cannot be read ({error.strerror}): check the path.") from error
    except Damaged as error:
        raise ConfigError(f"The sweep {path} cannot be used ({error}): correct it.") from error
    if not path.stem.isprintable():  # It is the name of the sweep, in a storage, as a tag and in a comment.
        raise GenreclsError(f"The name of the sweep {str(path)!r} cannot be printed: rename the file.")
    try:
        return _space(path, stated, given, model)
    except _WrongError as error:
        raise ConfigError(f"In the sweep {path}: {error}") from error


class _WrongError(Exception):
    """Something in the file, whose name is put before."""


def _space(path: Path, stated: dict[str, Any], given: Nested, model: ModelClass) -> Space:
    for name in stated:
        if name not in _KNOWN:
            raise _WrongError(f"unknown name {name!r}{suggestion(name, _KNOWN)}: there are {', '.join(_KNOWN)}.")
    searched = stated.get("space")
    if not isinstance(searched, dict) or not searched:
        raise _WrongError("there is no table [space]: give it lists or ranges of settings, such as optimiser.lr.")
    base: Nested = {}
    if "base" in stated:
        if not isinstance(stated["base"], str) or not stated["base"] or "\0" in stated["base"]:
            raise _WrongError(f"base must be the path of a recipe, not {stated['base']!r}.")
        base = recipes.load(path.parent / stated["base"], model)
    fixed, dimensions = _dimensions(searched, base, given, model)
    for section, fields in given.items():
        for field in fields:
            if f"{section}.{field}" in {*dimensions, *_names(fixed)}:
                raise ConfigError(f"{section}.{field} is of the sweep {path} already: change it there.")
    method = _chosen(stated, "method", METHODS, "bayesian")
    space = Space(
        name=path.stem,
        base=config.inherit(config.inherit(base, fixed, model), given, model),
        dimensions=dimensions,
        method=method,
        trials=_number(stated, "trials", 0, 1, _MOST),
        metric=_chosen(stated, "metric", RANKED_BY, "cross_entropy"),
        seed=_number(stated, "seed", 0, 0, MAX_SEED),
        pruning=_chosen(stated, "pruning", PRUNING, "none"),
        warmup=_number(stated, "pruning_warmup", 0, 0, _MOST),
        startup=_number(stated, "pruning_startup", 5, 0, _MOST),
        model=model,
    )
    for name, needed in (("pruning_warmup", ("median", "halving")), ("pruning_startup", ("median",))):
        if name in stated and space.pruning not in needed:
            raise _WrongError(f"{name} applies only where pruning is {' or '.join(needed)}: leave it out.")
    space = with_trials(space, space.trials) if "trials" in stated else _with_all(space)
    space.check()
    first = space.config({name: each.ends[0] for name, each in dimensions.items()})
    if 0 in (dimensions["training.epochs"].ends if "training.epochs" in dimensions else [first.training.epochs]):
        raise _WrongError("training.epochs is 0, which leaves nothing to search by: give more.")
    return space


def _with_all(space: Space) -> Space:
    if space.method != "grid":
        raise _WrongError("trials is missing, which only a grid has by itself: say how many, such as trials = 20.")
    return with_trials(space, space.size or 1)


def with_trials(space: Space, trials: int) -> Space:
    """The space with another number of trials. Raises ConfigError where it has not so many combinations."""
    if space.method == "grid" and space.size is None:
        endless = [name for name, each in space.dimensions.items() if each.size is None]
        raise ConfigError(
            f"The sweep {space.name} is a grid, but {endless[0]} has values beyond counting: give it a step or a list, "
            "or choose the method bayesian or random."
        )
    if space.size is not None and trials > space.size:
        raise ConfigError(
            f"The sweep {space.name} has {space.size} combinations, fewer than {trials} trials, and no trial is made "
            f"twice: ask for at most {space.size}."
        )
    return Space(**{**vars(space), "trials": trials})


def _names(nested: Nested) -> Iterator[str]:
    for section, fields in nested.items():
        yield from (f"{section}.{field}" for field in fields)


def _dimensions(
    stated: dict[str, Any], base: Nested, given: Nested, model: ModelClass
) -> tuple[Nested, dict[str, Dimension]]:
    """What is the same in all trials, and what is not."""
    fixed: Nested = {}
    dimensions: dict[str, Dimension] = {}
    kinds = _types(stated, base, given, model)
    for section, fields in stated.items():
        if section not in config.SECTIONS:
            raise _WrongError(
                f"unknown section {section!r}{suggestion(section, config.SECTIONS)}: settings are of "
                f"{', '.join(config.SECTIONS)}."
            )
        if not isinstance(fields, dict):
            raise _WrongError(f"{section} must be a section with settings below it, such as optimiser.lr.")
        for field, values in fields.items():
            name = f"{section}.{field}"
            if name not in kinds:
                own = [each for each in kinds if each.startswith(f"{section}.")]
                raise _WrongError(f"unknown setting {name}{suggestion(name, own)}: there are {', '.join(own)}.")
            if name == "compute.kernels" and isinstance(values, dict | list):
                raise _WrongError(f"{name} must be one for all trials, which share a process: give one value.")
            if isinstance(values, dict):
                dimensions[name] = _ranged(name, values, kinds[name])
            elif isinstance(values, list):
                dimensions[name] = _listed(name, values)
            else:
                fixed.setdefault(section, {})[field] = values
    if not dimensions:
        raise _WrongError("[space] has one value for each setting and nothing to search: give a list or a range.")
    return fixed, dimensions


def _types(stated: dict[str, Any], base: Nested, given: Nested, model: ModelClass) -> dict[str, type]:
    """The type of every setting that a trial may have, and whose value may change a result."""
    found = {
        f"{section}.{field.name}": type_of(field)
        for section, field, known in config.fields()
        if section != "model" and known.changes_bits
    }
    names = stated.get("model", {}).get("name") if isinstance(stated.get("model"), dict) else None
    if names is None:
        names = given.get("model", base.get("model", {})).get("name") or base.get("model", {}).get("name")
    for name in names if isinstance(names, list) else [names or config.DEFAULT_MODEL]:
        found |= {f"model.{field.name}": type_of(field) for field, _ in described(model(str(name)))}
    return {**found, "model.name": str}


def _listed(name: str, values: list[Any]) -> Choices:
    wrong = [value for value in values if type(value) not in (int, float, str)]
    if wrong:
        raise _WrongError(f"{name} must be a list of numbers or texts, and {wrong[0]!r} is neither.")
    if not values or len(set(values)) < len(values):
        raise _WrongError(f"{name} must be a list of one or more values, each once, not {values!r}.")
    return Choices(tuple(values))


def _ranged(name: str, stated: dict[str, Any], kind: type) -> Range | Widths:
    if kind is str:
        if "layers" not in stated:
            raise _WrongError(f"{name} is a text: give a list of texts, or layers, low and high for a text of widths.")
        counts = stated["layers"]
        if type(counts) is int:
            counts = [counts, counts]
        if not (isinstance(counts, list) and len(counts) == 2):
            raise _WrongError(f"{name}: layers must be a number of widths, or the fewest and the most, not {counts!r}.")
        each = {key: value for key, value in stated.items() if key != "layers"}
        counted = _range(f"{name}.layers", {"low": counts[0], "high": counts[1]}, int)
        if counted.low < 1 or counted.high > _MOST_LAYERS:
            raise _WrongError(f"{name}: layers must be from 1 to {_MOST_LAYERS}, not {counts!r}.")
        return Widths(counted, _range(name, each, int))
    return _range(name, stated, kind)


def _range(name: str, stated: dict[str, Any], kind: type) -> Range:
    for key in stated:
        if key not in _RANGE:
            raise _WrongError(f"{name}: unknown name {key!r}{suggestion(key, _RANGE)}: there are {', '.join(_RANGE)}.")
    missing = [key for key in ("low", "high") if key not in stated]
    if missing:
        raise _WrongError(f"{name} has no {missing[0]}: a range is {{ low = …, high = … }}.")
    log = stated.get("log", False)
    if type(log) is not bool:
        raise _WrongError(f"{name}: log must be true or false, not {log!r}.")
    allowed = (int,) if kind is int else (int, float)
    for key in ("low", "high", "step"):
        if key in stated and (type(stated[key]) not in allowed or not math.isfinite(stated[key])):
            raise _WrongError(f"{name}: {key} must be a {'whole ' if kind is int else ''}number, not {stated[key]!r}.")
    low, high, step = stated["low"], stated["high"], stated.get("step", 1 if kind is int else 0)
    if low > high:
        raise _WrongError(f"{name}: low must be at most high ({high}), not {low}.")
    if log and (low <= 0 or "step" in stated):
        raise _WrongError(f"{name}: with log, low must be above 0 and there is no step.")
    if "step" in stated:
        steps = (high - low) / step if step > 0 else math.nan
        if not math.isfinite(steps) or abs(steps - round(steps)) > 1e-8:
            raise _WrongError(f"{name}: step must be above 0 and lead from low to high in whole steps, not {step}.")
        if kind is float and steps > _MOST:
            raise _WrongError(f"{name}: a step of {step} makes more than {_MOST} values: leave step out.")
    return Range(low, high, step, log, kind is int) if kind is int else Range(float(low), float(high), step, log, False)


def _chosen(stated: dict[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    found = stated.get(name, default)
    if found not in choices:
        raise _WrongError(
            f"{name} must be one of {', '.join(choices)}, not {found!r}{suggestion(str(found), choices)}."
        )
    return str(found)


def _number(stated: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    found = stated.get(name, default)
    if type(found) is not int or (name in stated and not low <= found <= high):
        raise _WrongError(f"{name} must be a whole number from {low} to {high}, not {found!r}.")
    return found
