"""`genrecls augment`."""

from pathlib import Path
from typing import Any

import click

from genrecls import config, recipes
from genrecls.cli import options
from genrecls.cli.shell import Shell
from genrecls.errors import ConfigError
from genrecls.kernels import PORTABLE


@click.command()
@click.argument("file", type=options.PATH)
@click.option("--out", type=options.FOLDER, default="augmented", show_default=True, help="Folder to write to.")
@click.option(
    "--variant",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Which rendered variant to take, where stretching, pitch or speed is given.",
)
@options.settings("augment", "features", without=("--variants", "--mixup"))
@options.settings("batches", "training", only=("--fragment", "--seed"))
@options.recipe
@options.manners
@click.pass_obj
def command(
    shell: Shell,
    /,
    file: Path,
    out: Path,
    variant: int,
    recipe: Path | None,
    assignments: tuple[str, ...],
    **flags: Any,
) -> None:
    """Hear and see what augmentation makes of an audio file.

    Writes FILE's name with -original.wav (an excerpt as long as a fragment), -augmented.wav (its waveform augmented, as
    a model of the waveform would hear it), -feature.wav (the mel-spectrogram of that, augmented as a model of the 2-D
    feature would see it, made audible again by the method of Griffin and Lim, whose phases sound hollow) and .png (the
    mel-spectrograms of the three). Without flags that is what train does by default. Excerpt and strengths are drawn
    as train would draw them with --seed for a clip whose id is the file's name without its ending, and --seed changes
    them; stretching, pitch and speed change with --variant. What train normalises by the training clips is normalised
    by the file alone. Mixup, which needs a second clip, is left out.

    \b
    Example:
      genrecls augment song.mp3 --noise-probability 1 --pitch-probability 1
    """
    shell.use_kernels(PORTABLE)
    from genrecls import audition

    for text in assignments:
        section, field, _ = recipes.parse_assignment(text)
        if section in config.SECTIONS and not audition.applies(section, field):
            raise ConfigError(
                f"--set {text!r} does not apply to augment, which uses features, augment (without variants and mixup), "
                "batches.fragment, batches.normalisation and training.seed alone."
            )
    given = audition.settings(options.gather(recipe, assignments, flags), variant)
    made = audition.audition(file, given, out, variant)
    value = {
        "file": str(file),
        "seed": given.training.seed,
        "variant": variant,
        "excerpt": list(made.excerpt),
        **{name: str(getattr(made, name)) for name in ("original", "augmented", "feature", "picture")},
        "waveform": made.waveform,
        "feature_changes": made.feature_changes,
    }
    lines = [
        f"excerpt   {made.excerpt[0]:.2f} s to {made.excerpt[1]:.2f} s",
        f"waveform  {made.text[0]}",
        f"feature   {made.text[1]}",
        *(str(getattr(made, name)) for name in ("original", "augmented", "feature", "picture")),
    ]
    shell.result(value, "\n".join(lines))
