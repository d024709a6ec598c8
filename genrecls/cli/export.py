"""`genrecls export`."""

from pathlib import Path
from typing import Any

import click

from genrecls import atomic
from genrecls.cli import options
from genrecls.cli.shell import Shell


@click.command()
@click.argument("run")
@click.option("--out", type=options.PATH, show_default="model.onnx in the run's folder", help="ONNX file to write.")
@options.runs
@options.manners
@click.pass_obj
def command(shell: Shell, run: str, out: Path | None, runs: Path) -> None:
    """Write a run as an ONNX file, from the waveform to the probability of each genre.

    RUN is a run directory, or an id or its beginning below RUNS. The file takes `samples`, one channel of any length
    at the run's sample rate, and gives the mean `probabilities` of the genres that its metadata names, and those of
    the `fragments`. It is written where ONNX Runtime agrees with `genrecls predict` to 1e-4 at three lengths.

    \b
    Example:
      genrecls export 3f9c --out genres.onnx
    """
    from genrecls.provenance import use

    found = use(run, runs, shell.say)
    shell.use_kernels(found.config.compute.kernels)
    from genrecls.export import export

    path = out or found.path / "model.onnx"
    atomic.check_writable(path)
    made = export(found)
    atomic.write_bytes(path, made.content, device=out is not None)
    value: dict[str, Any] = {
        "run": str(found.path),
        "out": str(path),
        "bytes": len(made.content),
        "opset": made.opset,
        "difference": made.difference,
        "checks": [vars(check) for check in made.checks],
    }
    lines = [
        f"  {check.seconds:8.2f} s {check.fragments:4d} fragments  {check.difference:.1e}" for check in made.checks
    ]
    heading = f"Written: {path}\nLargest difference from the probabilities of `genrecls predict`:"
    shell.result(value, "\n".join([heading, *lines]))
