"""`genrecls compare`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrecls.cli import options
from genrecls.cli.shell import Shell

if TYPE_CHECKING:
    from genrecls.compare import Comparison
    from genrecls.isolation import Isolation, Overlap


@click.command()
@click.argument("run_a")
@click.argument("run_b")
@options.runs
@options.manners
@click.pass_obj
def command(shell: Shell, run_a: str, run_b: str, runs: Path) -> None:
    """Say what two runs share, and whether one is better by more than chance.

    RUN_A and RUN_B are run directories, or ids or their beginnings below RUNS. What they share is read from their
    records: the hash of every draw of every epoch, the initial weights tensor by tensor, the split clip by clip, the
    arrays that they were trained on. What differs is named with the setting that accounts for it; the comparison is
    contaminated where none does. Where both are scored on the same test clips (genrecls evaluate), the difference of
    their accuracies has a 95 % bootstrap interval over clips and the p-value of McNemar's exact test.

    \b
    Example:
      genrecls compare 3f9c 77ab
    """
    from genrecls.compare import compare
    from genrecls.run import find

    made = compare(find(run_a, runs), find(run_b, runs))
    shell.result(made.values(), "\n".join(_text(made)))


def _text(made: "Comparison") -> Iterator[str]:
    found = made.isolation
    yield f"A  {found.a.run.path}"
    yield f"B  {found.b.run.path}"
    yield ""
    yield from _values("setting", found.settings) if found.settings else ["Their settings are the same."]
    yield ""
    if found.environment:
        yield from _values("environment", found.environment)
        yield ""
    yield from _columns(list(_shared(made)))
    if 0 < len(found.shared_streams) < len(found.streams) or found.contamination:
        yield ""
        rows = [
            (name, str(each.equal_epochs), "-" if each.first_difference is None else str(each.first_difference))
            for name, each in found.streams.items()
        ]
        yield from _columns([("draws of", f"epochs equal of {found.epochs}", "first that differs (from 0)"), *rows])
    for title, moved in (
        ("Moved by what differs, as it must be", [each for each in found.moved if each.by]),
        (
            "Contaminated by what moved without a differing setting that accounts for it",
            [e for e in found.moved if not e.by],
        ),
    ):
        if moved:
            yield ""
            yield f"{title}:"
            yield from _columns([(f"  {each.what}", f"by {', '.join(each.by)}" if each.by else "") for each in moved])
    if made.difference is not None:
        from genrecls.compare import shown

        each = made.difference
        yield ""
        yield from _columns(
            [
                ("", "A", "B", "B - A", "95 % interval", "McNemar's test"),
                (
                    f"accuracy of {each.clips} test clips",
                    *(f"{figure:.3f}" for figure in (each.accuracy_a, each.accuracy_b)),
                    f"{each.accuracy:+.3f}",
                    f"{each.low:+.3f} to {each.high:+.3f}",
                    shown(each.p_value),
                ),
            ]
        )
        yield f"Right: A alone on {each.only_a} clips, B alone on {each.only_b}."
    yield ""
    yield made.conclusion


def _shared(made: "Comparison") -> Iterator[tuple[str, str]]:
    found = made.isolation
    yield "comparison", "contaminated" if found.contamination else "uncontaminated"
    yield "corpus", "same files and labels" if found.same_corpus else "other files or labels"
    if found.epochs:
        yield "split", _split(made)
        yield "arrays", _overlap(found.inputs, "same", "other")
        yield "normalisation", _overlap(found.normalisation, "same", "other")
    first, *others = _draws(found)
    yield "draws", first
    yield from (("", line) for line in others)
    yield "initial weights", _weights(found)
    yield "dropout masks", _dropout(found)
    if not found.environment:
        yield "environment", "same software and hardware"


def _split(made: "Comparison") -> str:
    values = made.values()["split"]
    counts = [f"{values['both'][role]} {role}" for role in values["both"]]
    if values["same"]:
        return f"same: {', '.join(counts)} clips"
    each = (
        f"{role} {values['a'][role]} and {values['b'][role]}, {count} in both" for role, count in values["both"].items()
    )
    return f"other clips: {'; '.join(each)}"


def _overlap(found: "Overlap", same: str, other: str) -> str:
    parts = (
        (found.shared, same),
        (found.changed, other),
        (found.reshaped, "another shape"),
        (found.only_a, "in A alone"),
        (found.only_b, "in B alone"),
    )
    return "; ".join(f"{words}: {', '.join(names)}" for names, words in parts if names)


def _draws(found: "Isolation") -> Iterator[str]:
    if not found.epochs:
        yield "none, for one of the runs had no epoch"
        return
    total, shared = len(found.streams), len(found.shared_streams)
    epochs = f"in all {found.epochs} epochs that both had" if found.epochs > 1 else "in the one epoch that both had"
    streams = f"all {total}" if shared == total else f"{shared or 'none'} of {total}"
    yield f"{streams} streams equal {epochs}"
    clips, crops = found.common_crops or (0, 0)
    if shared < total and clips and not found.contamination:
        each = "the one crop" if crops == 1 else f"the {crops} crops"
        yield f"but equal for {each} of each of the {clips} training clips that both have, as their hashes confirm"
    for name, names in found.streams_of_one.items():
        if names:
            yield f"{len(names)} more streams in {name.upper()} alone"


def _weights(found: "Isolation") -> str:
    each, drawn = found.initial, found.drawn
    parts = [
        (each.shared, "equal"),
        (each.changed, "not equal"),
        (each.reshaped, "of another shape"),
        (each.only_a, "of A alone"),
        (each.only_b, "of B alone"),
    ]
    counted = [(len(drawn & set(names)), len(names), words) for names, words in parts if names]
    return "; ".join(
        f"{total} {'tensor' if total == 1 else 'tensors'} {words} ({count} drawn)" for count, total, words in counted
    )


def _dropout(found: "Isolation") -> str:
    if found.dropout is None:
        return "cannot be verified: this version builds other models than those that were trained"
    told = _overlap(found.dropout, "same at each same step", "not the same")
    return f"{told} (from seeds and the names of modules; masks are not recorded)" if told else "no run has any"


def _values(name: str, differences: dict[str, dict[str, Any]]) -> Iterator[str]:
    rows = [
        (each, *("-" if value is None else str(value) or '""' for value in values.values()))
        for each, values in differences.items()
    ]
    return _columns([(name, "A", "B"), *rows])


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Aligned, numbers and all to the left."""
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip()
