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

    DATASET is gtzan (by Kaggle's client; this public set needs no account), fma-small, fma-medium or fma-large (7,
    22 and 93 GiB over HTTP, and as much again unpacked; GENRECLS_FMA_URL names a mirror of
    https://os.unil.cloud.switch.ch/fma/), or synth (rendered here, no network). What is there already is not fetched
    again, and a transfer that was stopped goes on where it was.

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
