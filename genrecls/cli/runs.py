"""`genrecls runs`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genrecls import reading
from genrecls.cli import options
from genrecls.cli.columns import aligned
from genrecls.cli.shell import Shell
from genrecls.errors import ConfigError, GenreclsError
from genrecls.reading import Damaged
from genrecls.selection import RANKED_BY

if TYPE_CHECKING:
    from genrecls.listing import Listed


_WHY = {
    "changed": "changed, for the code of its model is another now",
    "unsealed": "unsealed, so that nobody can know whether its files or its code have changed",
}
"""Why a finished run's figures are not what the others' are, by its status."""


@click.command()
@click.option(
    "--markdown", is_flag=True, help="Print the results file: tables of the scored runs, with their commands."
)
@click.option(
    "--title",
    "titles",
    multiple=True,
    metavar="DATASET=TITLE",
    help="What --markdown calls a data set, such as gtzan='GTZAN, my copy'; may be repeated.",
)
@click.option("--preface", type=options.PATH, help="Markdown file that --markdown puts at the top, its title included.")
@click.option(
    "--tag", "tags", multiple=True, metavar="NAME", help="Only runs with this tag; several: with all of them."
)
@click.option("--top", type=click.IntRange(1), default=None, show_default="all", help="Only so many, the best first.")
@click.option(
    "--by",
    type=click.Choice(RANKED_BY),
    default=None,
    show_default="accuracy, with --top",
    help="Order finished runs by this figure, the best first.",
)
@click.option(
    "--subset",
    type=click.Choice(["valid", "test"]),
    default=None,
    show_default="valid",
    help="Whose figures --top and --by go by. Choose by valid: what is chosen by test is no longer tested.",
)
@options.runs
@options.manners
@click.pass_obj
def command(
    shell: Shell,
    markdown: bool,
    titles: tuple[str, ...],
    preface: Path | None,
    tags: tuple[str, ...],
    top: int | None,
    by: str | None,
    subset: str | None,
    runs: Path,
) -> None:
    """List the runs below RUNS, or the best of them.

    Accuracies are per clip: of the validation clips in the best epoch, and of the test clips once `genrecls
    evaluate` has scored the run. A run is finished, unfinished (its command goes on with it), running (another
    process trains it) or damaged, with the reason below the table. A finished run of a model whose code is another
    now is called changed, and one of a version that did not seal runs unsealed: neither is in the results file.

    \b
    Example:
      genrecls runs --top 5 --by accuracy
      genrecls runs --markdown > RESULTS.md
    """
    if not markdown and (titles or preface):
        raise ConfigError("--title and --preface apply only to --markdown: add it, or leave them out.")
    if markdown and shell.json:
        raise ConfigError("--json and --markdown are two forms of the result: give one of them.")
    ranking = bool(top or by)
    if markdown and ranking:
        raise ConfigError("--top and --by do not apply to --markdown, which has every scored run: leave them out.")
    if subset and not ranking:
        raise ConfigError("--subset applies only to --top and --by: add one, or leave it out.")
    from genrecls.listing import CHANGED, FINISHED, UNSEALED, ranked, runs_below
    from genrecls.results import markdown as results
    from genrecls.run import checked_tag

    wanted = {checked_tag(tag) for tag in tags}
    called = dict(map(_title, titles))
    opening = _text_of(preface) if preface else ""
    found = runs_below(runs)
    listed = [each for each in found if wanted <= set(each.tags)]
    datasets = {each.config.dataset.name for each in listed if each.config}
    if unknown := sorted(called.keys() - datasets):
        raise ConfigError(f"--title names {unknown[0]}, which no run below {runs} was trained on: leave it out.")
    if markdown:
        shown = [each for each in listed if each.score is not None and each.status == FINISHED]
        left_out = Counter(each.status for each in listed if each not in shown)
        for status, count in sorted(left_out.items()):
            known = f"{status} and not scored" if status == FINISHED else _WHY.get(status, status)
            shell.say(f"{count} {'run is' if count == 1 else 'runs are'} left out: {known}.")
        _say_whose_code(shell, shown)
        shell.result({}, results(shown, called, opening).rstrip("\n"))
        return
    if ranking:
        by, subset = by or RANKED_BY[0], subset or "valid"
        standing = [each for each in listed if each.status != CHANGED]
        if count := len(listed) - len(standing):
            shell.say(f"{count} {'run is' if count == 1 else 'runs are'} left out: {_WHY[CHANGED]}.")
        best = ranked(standing, by, subset)
        if left := len(standing) - len(best):
            figures = "validation" if subset == "valid" else "test"
            shell.say(
                f"{left} {'run has' if left == 1 else 'runs have'} no {figures} figures and no place in the order."
            )
        best = best[:top]
        if count := sum(each.status == UNSEALED for each in best):
            shell.say(f"{count} of these runs {'is' if count == 1 else 'are'} {_WHY[UNSEALED]}.")
        _say_whose_code(shell, best)
        if len({each.measured_on for each in best}) > 1:
            shell.say("These runs are of different data sets or splits, whose figures do not compare.")
        shell.result([each.values() for each in best], _table(best, subset) if best else "There are no runs to order.")
        return
    _say_whose_code(shell, listed)
    none = f"There are no runs {'with these tags ' if found else ''}below {runs}."
    shell.result([each.values() for each in listed], _table(listed) if listed else none)


def _say_whose_code(shell: Shell, listed: "list[Listed]") -> None:
    if count := sum(each.other_code for each in listed):
        shell.say(
            f"{count} {'run was' if count == 1 else 'runs were'} trained by other code of genrecls than this: "
            "`genrecls reproduce RUN` says whether the figures are the same."
        )


def _title(given: str) -> tuple[str, str]:
    dataset, _, title = given.partition("=")
    if not (dataset.strip() and title.strip()):
        raise ConfigError(f"--title {given!r} is not of the form DATASET=TITLE, such as gtzan='GTZAN, my copy'.")
    return dataset.strip(), title.strip()


def _text_of(path: Path) -> str:
    try:
        return reading.text(reading.read_bytes(path))
    except OSError as error:
        raise GenreclsError(f"The preface {path} cannot be read ({error.strerror}): check the path.") from error
    except Damaged as error:
        raise GenreclsError(f"The preface {path} cannot be read ({error}): name a text file in UTF-8.") from error


def _table(listed: "list[Listed]", subset: str | None = None) -> str:
    """Aligned. subset: of a ranking, whose figures are shown in place of the accuracies and the status."""
    head = [
        "id",
        "data set",
        "split",
        "model",
        "seed",
        "epochs",
        *(RANKED_BY if subset else ("valid", "test", "status")),
    ]
    rows = [head, *([*_known(each), *(_ranked(each, subset) if subset else _standing(each))] for each in listed)]
    if any(each.tags for each in listed):
        for row, tags in zip(rows, ["tags", *(", ".join(each.tags) for each in listed)], strict=True):
            row.append(tags)
    lines = aligned(rows, right=["seed", "epochs", "valid", "test", *RANKED_BY])
    return "\n".join([*lines, *(each.reason for each in listed if each.reason)])


def _known(each: "Listed") -> list[str]:
    values = each.values()
    known = [str(values[name]) if values[name] is not None else "-" for name in ("dataset", "split", "model", "seed")]
    done, asked = each.epochs
    epochs = "-" if each.config is None else str(done) if done == asked else f"{done} of {asked}"
    return [each.id, *known, epochs]


def _standing(each: "Listed") -> list[str]:
    values = each.values()
    return [*(f"{values[name]['accuracy']:.3f}" if values[name] else "-" for name in ("valid", "test")), each.status]


def _ranked(each: "Listed", subset: str) -> list[str]:
    figures = each.figures(subset)
    assert figures is not None
    return [f"{figures[name]:.3f}" for name in RANKED_BY]
