"""`genrecls download`."""

from pathlib import Path

import click

from genrecls.cli import options
from genrecls.cli.shell import Shell


@click.command()
@click.argument("dataset", default="gtzan", metavar="[DATASET]")
@click.option("--data-dir", type=options.PATH, help="Where to put it, instead of its own place below --res.")
@options.res
@options.manners
@click.pass_obj
def command(shell: Shell, dataset: str, data_dir: Path | None, res: Path) -> None:
    """Bring a corpus to this machine and check it.

    DATASET is gtzan (by Kaggle's client; this public set needs no account) or synth (rendered here, no network).
    What is there already is not fetched again.

    \b
    Example:
      genrecls download gtzan
    """
    from genrecls.datasets.loader import Source, loader

    made = loader(dataset).download(Source(res, data_dir), shell.progress)
    for remark in made.remarks:
        shell.say(remark)
    value = {"dataset": dataset, "path": str(made.root), "remarks": list(made.remarks)}
    shell.result(value, f"{dataset} is in {made.root}")
