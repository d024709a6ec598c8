"""`genrecls runs`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genrecls.cli import options
from genrecls.cli.shell import Shell
from genrecls.errors import ConfigError, GenreclsError

if TYPE_CHECKING:
    from genrecls.listing import Listed


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
@options.runs
@options.manners
@click.pass_obj
def command(shell: Shell, markdown: bool, titles: tuple[str, ...], preface: Path | None, runs: Path) -> None:
    """List the runs below RUNS.

    Accuracies are per clip: of the validation clips in the best epoch, and of the test clips once `genrecls
    evaluate` has scored the run. A run is finished, unfinished (its command goes on with it), running (another
    process trains it) or damaged, with the reason below the table.

    \b
    Example:
      genrecls runs --markdown > RESULTS.md
    """
    if not markdown and (titles or preface):
        raise ConfigError("--title and --preface apply only to --markdown: add it, or leave them out.")
    if markdown and shell.json:
        raise ConfigError("--json and --markdown are two forms of the result: give one of them.")
    from genrecls.listing import runs_below
    from genrecls.results import markdown as results

    called = dict(map(_title, titles))
    opening = _text_of(preface) if preface else ""
    listed = runs_below(runs)
    datasets = {each.config.dataset.name for each in listed if each.config}
    if unknown := sorted(called.keys() - datasets):
        raise ConfigError(f"--title names {unknown[0]}, which no run below {runs} was trained on: leave it out.")
    if markdown:
        left_out = Counter(each.status for each in listed if each.score is None)
        for status, count in sorted(left_out.items()):
            known = f"{status} and not scored" if status == "finished" else status
            shell.say(f"{count} {'run is' if count == 1 else 'runs are'} left out: {known}.")
        shell.result({}, results(listed, called, opening).rstrip("\n"))
        return
    shell.result([each.values() for each in listed], _table(listed) if listed else f"There are no runs below {runs}.")


def _title(given: str) -> tuple[str, str]:
    dataset, _, title = given.partition("=")
    if not (dataset.strip() and title.strip()):
        raise ConfigError(f"--title {given!r} is not of the form DATASET=TITLE, such as gtzan='GTZAN, my copy'.")
    return dataset.strip(), title.strip()


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GenreclsError(f"The preface {path} cannot be read ({error.strerror}): check the path.") from error
    except UnicodeDecodeError as error:
        raise GenreclsError(f"The preface {path} is not UTF-8 text: save it as such.") from error


def _table(listed: "list[Listed]") -> str:
    head = ("id", "data set", "split", "model", "seed", "epochs", "valid", "test", "status")
    rows = [head, *map(_cells, listed)]
    wide = [max(len(row[i]) for row in rows) for i in range(len(head))]
    right = {"seed", "epochs", "valid", "test"}
    lines = []
    for row in rows:
        cells = [
            cell.rjust(w) if name in right else cell.ljust(w) for name, cell, w in zip(head, row, wide, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [each.reason for each in listed if each.reason]
    return "\n".join(lines)


def _cells(each: "Listed") -> tuple[str, ...]:
    values = each.values()
    known = [str(values[name]) if values[name] is not None else "-" for name in ("dataset", "split", "model", "seed")]
    done, asked = each.epochs
    epochs = "-" if each.config is None else str(done) if done == asked else f"{done} of {asked}"
    accuracies = [f"{values[name]['accuracy']:.3f}" if values[name] else "-" for name in ("valid", "test")]
    return (each.id, *known, epochs, *accuracies, each.status)
