"""`genrecls audit`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrecls import config
from genrecls.cli import options
from genrecls.cli.shell import Shell
from genrecls.errors import ConfigError
from genrecls.kernels import PORTABLE

if TYPE_CHECKING:
    from genrecls.audit.findings import Audit

_SHOWN = 20


@click.command()
@click.argument("dataset", required=False)
@options.settings("dataset", "split", without=["--dataset"])
@click.option("--out", type=options.PATH, metavar="FILE", help="Write all of it as an HTML page, too.")
@click.option("--strict", is_flag=True, help="Exit with 1 where the split leaks or cannot be made.")
@options.jobs
@options.res
@options.manners
@click.pass_obj
def command(
    shell: Shell, /, dataset: str | None, out: Path | None, strict: bool, jobs: int, res: Path, **flags: Any
) -> int:
    """Say what is wrong with a corpus before anyone trains on it.

    DATASET is gtzan, fma-small, fma-medium, fma-large, synth, or folder with --data-dir DIR. Every file is decoded:
    unreadable, truncated, non-finite, short, silent and clipped ones are named, and those whose rate, channels or
    length are unlike the others'. Every two clips are compared at every shift: exact copies decode to the same samples,
    near copies are the same recording at another loudness, start, encoding or with noise, for 2.5 s at least. The
    split leaks where a recording, an artist or another group stands in more than one part. What was decoded is kept
    below RES/audit, and not decoded again.

    \b
    Example:
      genrecls audit folder --data-dir ~/music --out audit.html
    """
    shell.use_kernels(PORTABLE)
    from genrecls import atomic, preparation
    from genrecls.audit.findings import audit
    from genrecls.audit.page import page
    from genrecls.models.registry import settings_class

    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out} is a folder: name the file to write.")
    settings = config.read(options.gather(None, (), {**flags, "dataset__name": dataset}), settings_class)
    place = preparation.Workplace(res, shell.progress, shell.say, jobs)
    ground = preparation.ground(preparation.index(settings.dataset, res), place)
    if out is not None:
        atomic.check_writable(out)
    found = audit(ground.corpus, ground.manifest, settings.split, res, shell.progress, jobs)
    if out is not None:
        atomic.write_text(out, page(found), device=True)
    shell.result(found.values(), "\n".join(_text(found)))
    return 1 if strict and (found.leaks or found.roles is None) else 0


def _text(found: "Audit") -> Iterator[str]:
    from genrecls.audit.page import verdict

    value = found.values()
    yield f"{found.dataset}: {value['clips']} clips, {value['audio_seconds'] / 3600:.2f} hours of audio"
    yield f"rates     {_counted(value['rates'])} (Hz)"
    yield f"channels  {_counted(value['channels'])}"
    yield f"genres    {_counted(value['class_counts'])}"
    sections: list[tuple[str, Sequence[str]]] = [
        ("problems of single clips", [f"{each.clip}  {each.kind}: {each.reason}" for each in found.findings]),
        ("exact copies", [" = ".join(clips) for clips in found.exact_copies]),
        (
            "near copies",
            [
                f"{each.a} ~ {each.b}  correlation {each.score:.2f} in {each.seconds:.1f} s, shift {each.shift:+.2f} s"
                for each in found.near_copies
            ],
        ),
        ("one recording under several genres", [", ".join(clips) for clips in found.copies_across_genres]),
        (
            "one recording in several parts of the split",
            [", ".join(f"{clip} ({_part(found, clip)})" for clip in clips) for clips in found.copies_across_splits],
        ),
        (
            "artists or groups in several parts of the split",
            [
                f"{each['group']}  " + ", ".join(f"{each[part]} {part}" for part in ("train", "valid", "test"))
                for each in found.groups_across_splits
            ],
        ),
    ]
    for title, lines in sections:
        yield ""
        yield f"{title}: {len(lines) or 'none'}"
        yield from (f"  {line}" for line in lines[:_SHOWN])
        if len(lines) > _SHOWN:
            yield f"  and {len(lines) - _SHOWN} more (--out and --json have all)"
    yield ""
    yield verdict(found)


def _part(found: "Audit", clip: str) -> str:
    return (found.roles or {}).get(clip, "left out")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
