"""`genrecls verify`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genrecls.cli import options
from genrecls.cli.shell import Shell

if TYPE_CHECKING:
    from genrecls.verification import Verified


@click.command()
@click.argument("run", nargs=-1, required=True)
@options.res
@options.runs
@options.manners
@click.pass_obj
def command(shell: Shell, run: tuple[str, ...], res: Path, runs: Path) -> int:
    """Check that runs are what training and evaluation wrote.

    RUN is a run directory, or an id or its beginning below RUNS. Nothing is trained. Checked are the seal, the id,
    every file that decides or documents a figure, the evaluation, the arrays in the cache below RES where they are at
    hand, and the code of the model and of genrecls. The exit status is 0 where all runs are verified, and 1 otherwise.

    \b
    Example:
      genrecls verify 3f9c
    """
    from genrecls.verification import verify

    found = [verify(each, runs, res) for each in run]
    shell.result({"runs": [each.values() for each in found]}, "\n".join(line for each in found for line in _text(each)))
    return 0 if all(each.verified for each in found) else 1


def _text(found: "Verified") -> Iterator[str]:
    if found.verified:
        arrays = f" and {found.arrays} {'array' if found.arrays == 1 else 'arrays'}" if found.arrays else ""
        yield f"{found.run}: verified ({found.files} files{arrays})"
    else:
        yield f"{found.run}: NOT verified"
        yield from (f"  changed: {name}" for name in found.changed)
    yield from (f"  {sentence}" for sentence in (*found.reasons, *found.not_checked))
