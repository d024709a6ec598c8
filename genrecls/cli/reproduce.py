"""`genrecls reproduce`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from genrecls.cli import options
from genrecls.cli.shell import Shell

if TYPE_CHECKING:
    from genrecls.reproduction import Reproduction


@click.command()
@click.argument("run")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default=None, show_default="the run's own", help="Where to train."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=None, show_default="the run's own", help="CPU threads."
)
@click.option(
    "--cached", is_flag=True, help="Take features from the cache below --res, instead of making them from the audio."
)
@options.data_dir
@options.jobs
@options.res
@options.runs
@options.manners
@click.pass_obj
def command(
    shell: Shell,
    run: str,
    device: str | None,
    threads: int | None,
    cached: bool,
    data_dir: str,
    jobs: int,
    res: Path,
    runs: Path,
) -> int:
    """Train a run again from its record, and compare every bit.

    RUN is a run directory, or an id or its beginning below RUNS; it is only read. The work is done in a temporary
    folder (TMPDIR says where), with features of its own. Compared are corpus, features, split, initial weights, draws,
    history, best weights and, where the run was scored, predictions; differences between the two machines are listed.
    The exit status is 0 where all is bit-identical, 1 where anything differs.

    \b
    Example:
      genrecls reproduce 3f9c
    """
    from genrecls.run import find

    found = find(run, runs)
    shell.use_kernels(found.config.compute.kernels)
    from genrecls import preparation
    from genrecls.reproduction import Asked, reproduce

    place = preparation.Workplace(res, shell.progress, shell.say, jobs)
    asked = Asked(data_dir, device or "", threads or 0, cached)
    made = reproduce(found, asked, place, shell.epoch)
    shell.result(made.values(), _text(made))
    return 0 if made.identical else 1


def _text(made: "Reproduction") -> str:
    first = "bit-identical" if made.identical else f"NOT identical, first in the {made.differences[0].part}"
    lines = [f"{made.run.path}: {first}", ""]
    for each in made.compared:
        said = f"identical ({each.extent})" if each.difference is None else f"DIFFERENT: {each.difference.statement}"
        lines.append(f"{each.part:20}{said}")
    lines += ["", "The two environments differ:" if made.environment else "The two environments do not differ."]
    wide = max(map(len, made.environment), default=0)
    lines += [f"  {name:{wide}}  {then} in the run, {now} here" for name, (then, now) in made.environment.items()]
    if made.not_recorded:
        lines.append(f"Not recorded by the version that made the run: {', '.join(made.not_recorded)}")
    return "\n".join(lines)
