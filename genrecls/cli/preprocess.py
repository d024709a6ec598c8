"""`genrecls preprocess`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from genrecls import config, kernels, recipes
from genrecls.cli import options
from genrecls.cli.shell import Shell
from genrecls.errors import ConfigError
from genrecls.workers import start_early

_SECTIONS = ("dataset", "features", "split", "augment", "model")
_KERNELS = "compute.kernels"
_RENDERED = (
    *("--variants", "--stretch-probability", "--pitch-probability", "--speed-probability"),
    *("--gain-probability", "--noise-probability"),
)


@click.command()
@click.argument("dataset", required=False)
@click.option(
    "--model",
    "model__name",
    metavar="NAME",
    show_default=config.DEFAULT_MODEL,
    help="Prepare what this model takes: the waveform, a 2-D feature, or both.",
)
@options.settings("dataset", "features", "split", without=["--dataset"])
@options.settings("augment", only=_RENDERED)
@options.settings("compute", only=["--kernels"])
@options.recipe
@options.jobs
@click.option("--verify", is_flag=True, help="Read every file and array again and compare its hash.")
@options.res
@options.manners
@click.pass_obj
def command(
    shell: Shell,
    /,
    dataset: str | None,
    recipe: Path | None,
    assignments: tuple[str, ...],
    jobs: int,
    verify: bool,
    res: Path,
    **flags: Any,
) -> None:
    """Turn a corpus into memory-mapped features below RES/cache.

    DATASET is gtzan unless the recipe says otherwise, fma-small, fma-medium, fma-large, synth, or folder with
    --data-dir DIR. Work that is done is not done again, and a build that was stopped goes on where it was. `train`
    does the same by itself. With --variants those of the training clips are rendered, too, and the split says which
    clips these are.

    \b
    Example:
      genrecls preprocess folder --data-dir ~/music --n-mels 96
    """
    from genrecls.models.registry import settings_class

    started = time.monotonic()
    for text in assignments:
        section, name, _ = recipes.parse_assignment(text)
        if section not in _SECTIONS and f"{section}.{name}" != _KERNELS:
            raise ConfigError(
                f"--set {text!r} does not apply to preprocess, which uses {', '.join(_SECTIONS)} and {_KERNELS} alone."
            )
    settings = config.read(options.gather(recipe, assignments, {**flags, "dataset__name": dataset}), settings_class)
    shell.use_kernels(settings.compute.kernels)
    settings = replace(settings, compute=replace(settings.compute, kernels=kernels.in_force()))
    start_early(jobs, ["genrecls.features"])
    from genrecls import preparation

    place = preparation.Workplace(res, shell.progress, shell.say, jobs)
    standing = preparation.ground(preparation.index(settings.dataset, res), place, verify)
    made = standing.caches(settings, place)
    variants = standing.variants(settings, made, place)
    caches = [cache for each in (made, *variants) for cache in each.values()]
    if verify:
        for cache in caches:
            cache.verify()
    first = caches[0]
    failed = [{"clip": row.clip, "reason": f"{row.status}: {row.reason}"} for row in first.failed]
    value = {
        "cache": str(first.path),
        "caches": [str(cache.path) for cache in caches],
        "key": standing.cache_key(settings),
        "clips": len(first.rows) - len(failed),
        "failed": failed,
        "audio_seconds": first.details["audio_seconds"],
        "seconds": time.monotonic() - started,
    }
    where = " and ".join(value["caches"])
    lines = [f"{value['clips']} clips, {first.details['audio_seconds'] / 3600:.2f} hours of audio, in {where}"]
    lines += [f"left out: {each['clip']} ({each['reason']})" for each in failed]
    shell.result(value, "\n".join(lines))
