"""`genrecls models`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrecls import config, recipes
from genrecls.cli import options
from genrecls.cli.columns import aligned
from genrecls.cli.shell import Shell
from genrecls.errors import ConfigError

if TYPE_CHECKING:
    from genrecls.summary import Anatomy, Listed

GENRES = 10


@click.command(cls=options.ModelCommand)
@click.argument("name", required=False)
@click.option(
    "--genres", type=click.IntRange(2, 10000), metavar="N", show_default=str(GENRES), help="Genres to tell apart."
)
@options.settings("features")
@options.settings("batches", only=["--fragment"])
@options.recipe
@click.option("--diagram", type=click.Path(path_type=Path, dir_okay=False), help="SVG file to draw the layers in.")
@options.manners
@click.pass_obj
def command(
    shell: Shell,
    /,
    name: str | None,
    genres: int | None,
    recipe: Path | None,
    assignments: tuple[str, ...],
    diagram: Path | None,
    **flags: Any,
) -> None:
    """List the models, or show the layers of one.

    NAME is a model, by default that of the recipe. All other options are for one model: what it is built with, for
    which fragment and how many genres. The list has each model at its defaults, with 10 genres.

    \b
    Example:
      genrecls models se-resnet --se-ratio 8 --diagram se-resnet.svg
    """
    from genrecls.summary import anatomy, catalogue

    if name is None and recipe is None:
        given = [genres, diagram, *assignments, *flags.values()]
        if any(each is not None for each in given):
            raise ConfigError("These options show one model: name it, as in `genrecls models se-resnet`.")
        listed = catalogue(GENRES)
        shell.result([vars(each) | {"inputs": list(each.inputs)} for each in listed], _list(listed))
        return
    for text in assignments:
        section, field, _ = recipes.parse_assignment(text)
        if section not in ("features", "model") and (section, field) != ("batches", "fragment"):
            raise ConfigError(
                f"--set {text!r} does not apply to models, which uses features, model and batches.fragment alone."
            )
    from genrecls.models.registry import settings_class

    settings = config.read(options.gather(recipe, assignments, {**flags, "model__name": name}), settings_class)
    found = anatomy(settings, genres or GENRES)
    lines = [_layers(found)]
    if diagram is not None:
        from genrecls.atomic import write_text
        from genrecls.diagram import draw

        write_text(diagram, draw(found))
        lines.append(f"Drawn: {diagram}")
    shell.result({**found.values(), "diagram": diagram and str(diagram)}, "\n".join(lines))


def _list(listed: "list[Listed]") -> str:
    rows = [("model", "input", "parameters", "origin")]
    for each in listed:
        parameters = "-" if each.parameters is None else f"{each.parameters:,}"
        rows.append((each.name, " + ".join(each.inputs), parameters, each.origin))
    return "\n".join(aligned(rows, right=["parameters"]))


def _layers(found: "Anatomy") -> str:
    taken = " and ".join(f"{kind} {_shape(shape)}" for kind, shape in found.inputs.items())
    rows = [("layer", "type", "output", "parameters")]
    for layer in found.layers:
        name = "  " * layer.depth + (layer.name.rpartition(".")[2] or found.entry.name)
        output = "-" if layer.output is None else _shape(layer.output)
        rows.append((name, layer.type, output, f"{layer.parameters:,}" if layer.parameters else ""))
    rows.append(("total", "", "", f"{found.parameters:,}"))
    return "\n".join(
        [
            f"{found.entry.name}: {taken} to {found.genres} genres",
            f"Origin: {found.entry.origin}",
            f"Reported by it: {found.entry.reported}",
            "",
            *aligned(rows, right=["parameters"]),
        ]
    )


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
