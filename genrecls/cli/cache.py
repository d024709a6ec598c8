"""`genrecls cache`: list and prune."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrecls.cli import options
from genrecls.cli.columns import aligned
from genrecls.cli.shell import Shell
from genrecls.errors import GenreclsError

if TYPE_CHECKING:
    from genrecls.housekeeping import Shelf, Shelved


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def command() -> None:
    """Show the caches below RES/cache and who needs them, and remove those that nobody needs.

    A change of settings, of a corpus or of the version makes another cache, and the one before stays.

    \b
    Example:
      genrecls cache list
      genrecls cache prune --dry-run
    """


@command.command("list")
@options.res
@options.runs
@options.manners
@click.pass_obj
def list_caches(shell: Shell, res: Path, runs: Path) -> None:
    """List the caches below RES/cache: size, corpus, kind, clips, and who needs each.

    A cache is complete, of another version, half-built (a build was stopped, and goes on with the same command), being
    built (a process holds its lock), damaged or unreadable. Needed by nobody is what `genrecls cache prune` removes.

    \b
    Example:
      genrecls cache list --res res
    """
    from genrecls.housekeeping import shelf, shown

    found = shelf(res, runs)
    if not runs.is_dir():
        shell.say(f"There is no folder {runs}: no run is known that might need a cache.")
    _remarks(shell, found)
    total = sum(each.size for each in found.caches)
    text = f"There are no caches below {res / 'cache'}."
    if found.caches:
        lines = [*_table(found.caches), *(each.reason for each in found.caches if each.reason), ""]
        spare = sum(each.size for each in found.spare)
        text = "\n".join([*lines, f"{shown(total)} in all, {shown(spare)} of them needed by nobody."])
    shell.result({"caches": [each.values() for each in found.caches], "bytes": total, **_others(found)}, text)


@command.command("prune")
@click.option("--dry-run", is_flag=True, help="Remove nothing, only say what would be removed.")
@options.res
@options.runs
@options.manners
@click.pass_obj
def prune_caches(shell: Shell, dry_run: bool, res: Path, runs: Path) -> None:
    """Remove the caches below RES/cache that no run and no corpus needs any more.

    A run below RUNS needs the caches that it was trained on, or is being trained on. A corpus needs those of its files
    that this version can use, as long as all these files are where they were when they were last read, and none of them
    is known to have changed. All others are removed: those of another version, of other files, damaged ones, and what a
    stopped build left behind. Never removed are a cache that a process builds, what is no cache, and, where the record
    of a run cannot be read, the caches of its corpus. What was removed too much is made again by the command that needs
    it, from the corpus.

    \b
    Example:
      genrecls cache prune --dry-run
    """
    from genrecls.housekeeping import prune, shelf, shown

    if not runs.is_dir():
        raise GenreclsError(
            f"There is no folder {runs}, so that no run is known that might need a cache: name the folder of the runs "
            "with --runs, or make it if there are none."
        )
    found = shelf(res, runs)
    _remarks(shell, found)
    if dry_run:
        removed, failed = found.spare, []
    else:
        made = prune(found, shell.say)
        removed, failed = made.removed, made.failed
    freed = sum(each.size for each in removed)
    lines = [
        f"{'would remove' if dry_run else 'removed'} {each.place} ({_why(each)}, {shown(each.size)})"
        for each in removed
    ]
    lines.append(f"{shown(freed)} {'would be freed' if dry_run else 'freed'}.")
    value = {"removed": [each.values() for each in removed], "freed": freed, "dry_run": dry_run, **_others(found)}
    shell.result(value, "\n".join(lines))
    if failed:
        raise GenreclsError(
            f"{len(failed)} of {len(failed) + len(removed)} caches could not be removed, {failed[0][0].place} for one "
            f"({failed[0][1]}): change its permissions, or remove it by hand."
        )


def _remarks(shell: Shell, found: "Shelf") -> None:
    for each in found.unclear:
        shell.say(f"What this run needs is not known, so that the caches it may need stay: {each.reason}")
    for path in found.foreign:
        shell.say(f"{path} is no cache, or has other files in it, and is left alone.")


def _others(found: "Shelf") -> dict[str, Any]:
    return {
        "unclear_runs": [{"run": str(each.run), "reason": each.reason} for each in found.unclear],
        "left_alone": [str(path) for path in found.foreign],
    }


def _table(caches: "list[Shelved]") -> list[str]:
    from genrecls.housekeeping import shown

    head = ("cache", "corpus", "kind", "clips", "size", "status", "needed by")
    rows = [
        (
            each.place.name.rpartition("-")[2],
            each.corpus,
            each.kind or "-",
            "-" if each.clips is None else str(each.clips),
            shown(each.size),
            each.status,
            each.needed or "nobody",
        )
        for each in caches
    ]
    return aligned([head, *rows], right=["clips", "size"])


def _why(each: "Shelved") -> str:
    return "needed by nobody" if each.status == "complete" else each.status
