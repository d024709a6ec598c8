"""`genrecls report`."""

from pathlib import Path

import click

from genrecls.cli import options
from genrecls.cli.shell import Shell


@click.command()
@click.argument("run", nargs=-1, required=True)
@click.option("--out", type=options.PATH, default="report.html", show_default=True, help="HTML file to write.")
@click.option(
    "--figures", type=options.FOLDER, help="Folder to write every picture to as PNG, with its numbers as CSV."
)
@click.option("--no-audio", is_flag=True, help="No excerpts to hear: a smaller file, and nobody's music in it.")
@options.device
@options.data_dir
@options.res
@options.runs
@options.manners
@click.pass_obj
def command(
    shell: Shell,
    run: tuple[str, ...],
    out: Path,
    figures: Path | None,
    no_audio: bool,
    device: str,
    data_dir: str,
    res: Path,
    runs: Path,
) -> None:
    """Write what runs came to as one HTML file, which needs no network.

    RUN is a run directory, or an id or its beginning below RUNS. Of several runs the page shows curves over each other,
    a table of metrics and the settings that differ. What a run's record cannot tell (embeddings, spectrograms and
    excerpts of clips, spectra) is computed from the corpus where it is at hand, and left out with a sentence otherwise.

    \b
    Example:
      genrecls report 3f9c --out report.html
    """
    from genrecls.provenance import use

    found = [use(each, runs, shell.say) for each in run]
    shell.use_kernels(found[0].config.compute.kernels)
    from genrecls import atomic, preparation
    from genrecls.report import page
    from genrecls.report.figures import write

    place = preparation.Workplace(res, shell.progress, shell.say)
    atomic.check_writable(out)
    made = page.make(found, place, data_dir, device, not no_audio)
    content = made.html.encode("utf-8")
    atomic.write_bytes(out, content, device=True)
    written = write(made.plots, figures) if figures else []
    described = [
        {
            "run": str(part.recorded.run.path),
            "id": part.recorded.record["id"],
            "scored": part.recorded.scored is not None,
            "left_out": part.left_out,
        }
        for part in made.parts
    ]
    value = {
        "out": str(out),
        "bytes": len(content),
        "runs": described,
        "plots": [plot.name for plot in made.plots],
        "figures": [str(path) for path in written],
    }
    lines = [f"{part.recorded.label}: {sentence}" for part in made.parts for sentence in part.left_out]
    lines += [f"{len(written)} files below {figures}"] if figures else []
    shell.result(value, "\n".join([*lines, str(out)]))
