"""Typed settings: what a field may be, and how values from recipes and flags become checked sections.

A section is a frozen dataclass whose fields are made by `setting`. The same description serves the TOML
recipe, `--set section.field=value`, the flag of the field's own and the help text.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from genrecls.errors import ConfigError

Value = str | int | float
Raw = Mapping[str, Any]
MAX_SEED = 2**63 - 1
"""The largest seed, of a run or of a split."""


@dataclass(frozen=True)
class Condition:
    """Beside which other sections a setting has a meaning. words: end "applies only to …". holds: of all settings."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Setting:
    """What is known of one field beside its type and default.

    help: one line. flag: its command line option, None for those reached by `--set` alone. low, high:
    the closed range of a number. above: an open lower bound. choices: of a string. shown: what the help
    calls the default where its value says little ("the corpus's own"). changes_bits: whether another value
    can change a result (False keeps the field out of a run's id). applies: (field of the same section, its
    values for which this one has a meaning). only: the same by a condition on other sections.
    """

    help: str
    flag: str | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    shown: str | None = None
    changes_bits: bool = True
    applies: tuple[str, tuple[Value, ...]] | None = None
    only: Condition | None = None


def setting(default: Value, help: str, **known: Any) -> Any:
    """A dataclass field with a `Setting`. The default is checked like any other value."""
    return dataclasses.field(default=default, metadata={"setting": Setting(help, **known)})


@dataclass(frozen=True)
class Section:
    """Base of all sections. Raises ConfigError for a value of the wrong type or out of range."""

    section: ClassVar[str]

    def __post_init__(self) -> None:
        for field, known in described(type(self)):
            value = getattr(self, field.name)
            if type_of(field) is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, field.name, value)
            if type_of(field) is str and type(value) is int:  # `--set model.nodes=64` is a text of one width
                value = str(value)
                object.__setattr__(self, field.name, value)
            self._check(field, known, value)

    def _check(self, field: "dataclasses.Field[Any]", known: Setting, value: object) -> None:
        name = f"{self.section}.{field.name}" + (f" ({known.flag})" if known.flag else "")
        if type(value) is not type_of(field):
            wanted = {int: "a whole number", float: "a number", str: "a text"}[type_of(field)]
            raise ConfigError(f"{name} must be {wanted}, not {value!r}.")
        if known.choices and value not in known.choices:
            raise ConfigError(
                f"{name} must be one of {', '.join(known.choices)}, not {value!r}"
                f"{suggestion(str(value), known.choices)}."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, not {value!r}.")
        if isinstance(value, int | float):
            too_low = (known.low is not None and value < known.low) or (
                known.above is not None and value <= known.above
            )
            if too_low or (known.high is not None and value > known.high):
                raise ConfigError(f"{name} must be {span(known)}, not {value!r}.")

    @classmethod
    def read(cls, raw: Raw) -> Self:
        """The section with the fields of `raw`, all others at their defaults.

        Raises ConfigError for a field that does not exist, or that does not apply beside the others.
        """
        fields = {field.name: known for field, known in described(cls)}
        for name in raw:
            if name not in fields:
                raise ConfigError(
                    f"Unknown setting {cls.section}.{name}{cls._owner()}{suggestion(name, fields)}: "
                    f"{cls.section} has {', '.join(fields)}."
                )
        made = cls(**raw)
        for name in raw:
            if not made.applies(fields[name]):
                other, values = fields[name].applies  # type: ignore[misc]
                flag = f" ({fields[name].flag})" if fields[name].flag else ""
                raise ConfigError(
                    f"{cls.section}.{name}{flag} applies only where {cls.section}.{other} is "
                    f"{' or '.join(str(v) for v in values)}, not {getattr(made, other)}: leave it out."
                )
        return made

    @classmethod
    def inherited(cls, base: Raw, stated: Raw) -> dict[str, Any]:
        """The fields of `base` that exist here, are not in `stated`, and apply beside those that are.

        Raises ConfigError for a value of the wrong type or out of range.
        """
        fields = {field.name: known for field, known in described(cls)}
        own = {name: value for name, value in stated.items() if name in fields}
        kept = {name: value for name, value in base.items() if name in fields and name not in own}
        while True:
            made = cls(**{**kept, **own})
            idle = [name for name in kept if not made.applies(fields[name])]
            if not idle:
                return kept
            for name in idle:
                del kept[name]

    @classmethod
    def _owner(cls) -> str:
        return ""

    def applies(self, known: Setting) -> bool:
        """Whether a field with this description has a meaning beside the values of the others."""
        return known.applies is None or getattr(self, known.applies[0]) in known.applies[1]

    def values(self) -> dict[str, Value]:
        """The fields that apply, in their order."""
        return {field.name: getattr(self, field.name) for field, known in described(type(self)) if self.applies(known)}


def described(section: type[Section]) -> Iterator[tuple["dataclasses.Field[Any]", Setting]]:
    """The fields of a section class with their descriptions."""
    for field in dataclasses.fields(section):
        yield field, field.metadata["setting"]


def type_of(field: "dataclasses.Field[Any]") -> type:
    """The type of a field: int, float or str."""
    assert isinstance(field.type, type)
    return field.type


def span(known: Setting) -> str:
    """The range of a number in words: "from 1 to 5", "above 0", "at least 1"."""
    if known.low is not None and known.high is not None:
        return f"from {known.low} to {known.high}"
    if known.low is not None:
        return f"at least {known.low}"
    lower = f"above {known.above}" if known.above is not None else ""
    upper = f"at most {known.high}" if known.high is not None else ""
    return " and ".join(part for part in (lower, upper) if part)


def suggestion(given: str, known: Any) -> str:
    """ " (did you mean 'x'?)" where one of `known` is close to `given`, else nothing."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
