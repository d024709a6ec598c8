"""`genrecls evaluate`."""

from pathlib import Path
from typing import Any, Literal

import click

from genrecls.cli import options
from genrecls.cli.shell import Shell


@click.command()
@click.argument("run")
@click.option(
    "--subset", type=click.Choice(["test", "valid", "train"]), default="test", show_default=True, help="What to score."
)
@options.device
@options.data_dir
@options.res
@options.runs
@options.manners
@click.pass_obj
def command(
    shell: Shell, run: str, subset: Literal["train", "valid", "test"], device: str, data_dir: str, res: Path, runs: Path
) -> None:
    """Score a run on the test subset of its split.

    RUN is a run directory, or an id or its beginning below RUNS. Writes evaluation/metrics.json and
    evaluation/predictions.csv in the run directory.

    \b
    Example:
      genrecls evaluate 3f9c
    """
    from genrecls.provenance import use

    found = use(run, runs, shell.say)
    shell.use_kernels(found.config.compute.kernels)
    from genrecls import preparation
    from genrecls.evaluation import evaluate

    place = preparation.Workplace(res, shell.progress, shell.say)
    values = evaluate(found, place, subset, data_dir, device)
    shell.result({"run": str(found.path), **values}, f"{found.path}\n{_text(values)}")


def _text(values: dict[str, Any]) -> str:
    lines = [
        f"split {values['split']}, {values['subset']} subset: {values['clips']} clips, {values['fragments']} fragments",
        "",
        f"{'':10}{'accuracy':>10}{'95 % interval':>18}{'macro precision':>17}{'macro F1':>10}{'weighted F1':>13}"
        f"{'cross-entropy':>15}",
    ]
    for name in ("clip", "fragment"):
        each = values[name]
        interval = f"{each['accuracy_low']:.3f} to {each['accuracy_high']:.3f}"
        lines.append(
            f"{'per ' + name:13}{each['accuracy']:7.3f}{interval:>18}{each['precision_macro']:17.3f}"
            f"{each['f1_macro']:10.3f}{each['f1_weighted']:13.3f}{each['cross_entropy']:15.3f}"
        )
    if values["absent_genres"]:
        lines.append(
            f"Left out of the macro means, because the subset has no clip of it: {', '.join(values['absent_genres'])}"
        )
    genres = values["genres"]
    wide = max(len(genre) for genre in genres) + 2
    lines += ["", f"{'genre':{wide}}{'precision':>10}{'recall':>8}{'F1':>8}{'clips':>7}"]
    for genre, row in values["per_genre"].items():
        figures = [f"{row[name]:.3f}" if row[name] is not None else "-" for name in ("precision", "recall", "f1")]
        lines.append(f"{genre:{wide}}{figures[0]:>10}{figures[1]:>8}{figures[2]:>8}{row['clips']:>7}")
    short = [genre[:6] for genre in genres]
    lines += ["", "Confusion (row: true genre, column: predicted)", f"{'':{wide}}" + "".join(f"{s:>7}" for s in short)]
    for genre, row in zip(genres, values["confusion"], strict=True):
        lines.append(f"{genre:{wide}}" + "".join(f"{count or '.':>7}" for count in row))
    return "\n".join(lines)
