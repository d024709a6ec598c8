"""Which models there are: name -> settings and network. Nothing here imports PyTorch until a network is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from genrecls.config import ModelSettings
from genrecls.errors import ConfigError
from genrecls.settings import suggestion

if TYPE_CHECKING:
    from genrecls.models.building import Model

S = TypeVar("S", bound=type[ModelSettings])


@dataclass(frozen=True)
class Entry:
    """A registered model. network: "module:class". origin: the work it follows. reported: the figure given there, with
    its data set.
    """

    name: str
    settings: type[ModelSettings]
    network: str
    origin: str
    reported: str

    @property
    def model(self) -> "type[Model]":
        """The class of the network, which is imported now."""
        module, _, name = self.network.partition(":")
        found: type[Model] = getattr(import_module(module), name)
        return found


# Adding a model: write its settings and its network, each in a module of its own, and name that of the settings here.
_MODULES = (
    "genrecls.models.settings.se_resnet",
    "genrecls.models.settings.se_cnn",
    "genrecls.models.settings.cnn1d",
    "genrecls.models.settings.cnn2d",
    "genrecls.models.settings.mixnet",
    "genrecls.models.settings.mlp",
    "genrecls.models.settings.cel",
    "genrecls.models.settings.crnn",
)
_entries: dict[str, Entry] = {}


def register(name: str, network: str, origin: str, reported: str) -> Callable[[S], S]:
    """Decorator of a model's settings: it is chosen by `--model name` and built as `network(settings, shape)`.

    network: "module:class" of the network, a `building.Model`.
    """

    def add(settings: S) -> S:
        settings.name = name
        _entries[name] = Entry(name, settings, network, origin, reported)
        return settings

    return add


def entries() -> dict[str, Entry]:
    """All models by name."""
    for module in _MODULES:
        import_module(module)
    return _entries


def entry(name: str) -> Entry:
    """The model of that name. Raises ConfigError for an unknown one, naming those there are."""
    known = entries()
    if name not in known:
        raise ConfigError(f"Unknown model {name!r}{suggestion(name, known)}: choose one of {', '.join(known)}.")
    return known[name]


def settings_class(name: str) -> type[ModelSettings]:
    """The config class of a model."""
    return entry(name).settings
