"""`genrecls sweep`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrecls import config
from genrecls.cli import options
from genrecls.cli.columns import aligned
from genrecls.cli.shell import Shell

if TYPE_CHECKING:
    from genrecls.sweep import Swept, Trial


@click.command(cls=options.ModelCommand)
@click.argument("space", type=options.PATH)
@click.option(
    "--trials", type=click.IntRange(1), default=None, show_default="of SPACE", help="How many trials there are to be."
)
@click.option(
    "--storage",
    metavar="URL",
    default="",
    show_default="a SQLite file below RUNS",
    help="Storage of Optuna's, such as mysql://user@host/name.",
)
@click.option("--model", "model__name", metavar="NAME", show_default="of SPACE", help="Model to train.")
@options.settings(*(name for name in config.SECTIONS if name != "model"))
@options.assignments
@options.jobs
@options.res
@options.runs
@options.manners
@click.pass_obj
def command(
    shell: Shell,
    /,
    space: Path,
    trials: int | None,
    storage: str,
    assignments: tuple[str, ...],
    jobs: int,
    res: Path,
    runs: Path,
    **flags: Any,
) -> None:
    """Search a space of settings for the best run by validation.

    SPACE is a TOML file with a base recipe, how to search, and lists or ranges of settings; flags and --set go over its
    base. A trial is a run like any other, below RUNS, tagged with the sweep's name. Stopped or killed, the same command
    goes on; typed in several shells, also on several machines that share RUNS, all work on the same trials. The test
    subset is never read: `genrecls evaluate` does that, once, for the winner.

    \b
    Example:
      genrecls sweep experiments/sweeps/se-ratio.toml --trials 10
    """
    from genrecls.models.registry import settings_class
    from genrecls.space import load, with_trials

    asked = load(space, options.gather(None, assignments, flags), settings_class)
    if trials is not None:
        asked = with_trials(asked, trials)
    shell.use_kernels(asked.kernels)
    from genrecls import preparation
    from genrecls.sweep import sweep

    place = preparation.Workplace(res, shell.progress, shell.say, jobs)
    made = sweep(asked, place, runs, storage, shell.epoch)
    shell.result(made.values(), "\n".join(_text(made)))


def _text(made: "Swept") -> list[str]:
    from genrecls.sweep import in_order

    names, metric = list(made.space.dimensions), made.space.metric
    lines = aligned(
        [("trial", "id", metric, "state", *names), *(_cells(each, names) for each in in_order(made.trials, metric))]
    )
    lines += [f"Trial {each.number} failed: {each.reason}" for each in made.trials if each.state == "failed"]
    if made.importances:
        lines += ["", f"Importance for {made.space.metric} (fANOVA, 1 in all):"]
        lines += [f"  {share:.3f}  {name}" for name, share in made.importances.items()]
    if made.best is None:
        return [*lines, "", "No trial has finished: there is no winner."]
    return [
        *lines,
        "",
        f"Best: trial {made.best.number}, {made.space.metric} {made.best.value:.4f} of the validation clips.",
        f"Its recipe: {made.recipe} (genrecls train --recipe takes it)",
        f"Score it: genrecls evaluate {made.best.run.rpartition('-')[2]}"
        if (made.folder.parent.parent / made.best.run).is_dir()
        else "Its run was removed: train the recipe to have it again.",
    ]


def _cells(each: "Trial", names: list[str]) -> tuple[str, ...]:
    value = "-" if each.value is None else f"{each.value:.4f}"
    shown = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in (each.values[name] for name in names))
    return (str(each.number), each.run.rpartition("-")[2] or "-", value, each.state, *shown)
