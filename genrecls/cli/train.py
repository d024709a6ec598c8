"""`genrecls train`."""

from pathlib import Path
from typing import Any

import click

from genrecls import config
from genrecls.cli import options
from genrecls.cli.shell import Shell
from genrecls.tracking import TRACKERS


@click.command(cls=options.ModelCommand)
@click.option("--model", "model__name", metavar="NAME", show_default=config.DEFAULT_MODEL, help="Model to train.")
@options.settings(*(name for name in config.SECTIONS if name != "model"))
@options.recipe
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME",
    help="Call the run so, to list it with others by `genrecls runs --tag`; may be repeated, and never changes the id.",
)
@click.option(
    "--track",
    "trackers",
    multiple=True,
    type=click.Choice(list(TRACKERS)),
    help="Show the training in TensorBoard or W&B, too; may be repeated. No setting: it changes no run.",
)
@options.jobs
@options.res
@options.runs
@options.manners
@click.pass_obj
def command(
    shell: Shell,
    /,
    recipe: Path | None,
    assignments: tuple[str, ...],
    tags: tuple[str, ...],
    trackers: tuple[str, ...],
    jobs: int,
    res: Path,
    runs: Path,
    **flags: Any,
) -> None:
    """Train a model, or find the run that did.

    A run is known by its settings, its corpus and the kind of machine: the same command finds it again. Stopped at any
    moment, by Ctrl-C, SIGTERM or a kill, it is gone on with by the same command, and ends with the same bits.

    \b
    Example:
      genrecls train --seed 42 --se-ratio 16
    """
    from genrecls.models.registry import settings_class
    from genrecls.run import checked_tag

    called = [checked_tag(tag) for tag in tags]
    settings = config.read(options.gather(recipe, assignments, flags), settings_class)
    shell.use_kernels(settings.compute.kernels)
    from genrecls import preparation, tracking

    place = preparation.Workplace(res, shell.progress, shell.say, jobs)
    outcome = tracking.train(settings, place, runs, shell.epoch, lambda found: found.add_tags(called), trackers)
    if shell.mute:
        return
    value = outcome.values()
    shell.result(value, _text(value, settings.training.patience))


def _text(value: dict[str, Any], patience: int) -> str:
    if value["valid"] is None:
        figures = "Initial weights only (0 epochs)."
    else:
        figures = (
            "Best epoch {best_epoch} of {epochs} (counted from 0): validation accuracy {accuracy:.3f}, "
            "macro F1 {f1_macro:.3f}, cross-entropy {cross_entropy:.3f} per clip."
        ).format(**value, **value["valid"])
    if value["stopped_early"]:
        figures += f"\nStopped early, because {patience} epochs in a row brought no improvement."
    verb = {"found": "Found", "resumed": "Trained to its end"}.get(value["status"], "Trained")
    return f"{figures}\n{verb}: {value['run']}\nScore it: genrecls evaluate {value['run']}"
