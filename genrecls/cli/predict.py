"""`genrecls predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrecls.cli import options
from genrecls.cli.shell import Shell
from genrecls.errors import GenreclsError

if TYPE_CHECKING:
    from genrecls.predict import Prediction


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, required=True, type=options.PATH, metavar="FILE|DIR...")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Genres to show for each file.")
@click.option("--timeline", is_flag=True, help="Show the course over each file, fragment by fragment.")
@options.device
@options.runs
@options.manners
@click.pass_obj
def command(shell: Shell, run: str, paths: tuple[Path, ...], top: int, timeline: bool, device: str, runs: Path) -> None:
    """Name the genre of audio files of any length and rate.

    RUN is a run directory, or an id or its beginning below RUNS. Of a folder, all audio files below are taken. A
    file that cannot be decoded is reported, and the exit status is then 1.

    \b
    Example:
      genrecls predict 3f9c song.mp3 --timeline
    """
    from genrecls.provenance import use

    found = use(run, runs, shell.say)
    shell.use_kernels(found.config.compute.kernels)
    from genrecls.predict import Predictor, audio_files

    predictor = Predictor(found, device)
    files = list(audio_files(paths))
    made = []
    for done, path in enumerate(files, 1):
        made.append(predictor.predict_file(path))
        shell.progress("predicting", done, len(files))
    lines = [line for prediction in made for line in _text(prediction, top, timeline)]
    shell.result({"files": [_value(prediction, timeline) for prediction in made]}, "\n".join(lines))
    failed = [prediction for prediction in made if prediction.status != "ok"]
    if failed:
        raise GenreclsError(
            f"{len(failed)} of {len(made)} files could not be predicted, {failed[0].path} for one "
            f"({failed[0].reason}): replace them or leave them out."
        )


def _value(prediction: "Prediction", timeline: bool) -> dict[str, Any]:
    value: dict[str, Any] = {"path": str(prediction.path), "status": prediction.status}
    if prediction.status != "ok":
        return {**value, "reason": prediction.reason, "genre": None, "probabilities": None}
    ranking = prediction.ranking
    value |= {"genre": ranking[0][0], "probabilities": dict(ranking)}
    if timeline:
        value["timeline"] = [
            {
                "begin": float(begin),
                "end": float(end),
                "probabilities": dict(zip(prediction.genres, row.tolist(), strict=True)),
            }
            for (begin, end), row in zip(prediction.seconds, prediction.probabilities, strict=True)
        ]
    return value


def _text(prediction: "Prediction", top: int, timeline: bool) -> list[str]:
    if prediction.status != "ok":
        return [f"{prediction.path}: {prediction.status} ({prediction.reason})"]
    lines = [str(prediction.path)]
    lines += [f"  {genre:<16}{probability:7.3f}" for genre, probability in prediction.ranking[:top]]
    if timeline:
        for (begin, end), row in zip(prediction.seconds, prediction.probabilities, strict=True):
            best = sorted(zip(prediction.genres, row, strict=True), key=lambda each: -each[1])[:top]
            shown = ", ".join(f"{genre} {probability:.2f}" for genre, probability in best)
            lines.append(f"  {_clock(begin)} to {_clock(end)}  {shown}")
    return lines


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
