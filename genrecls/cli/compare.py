"""`genrecls compare`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrecls.cli import options
from genrecls.cli.columns import aligned
from genrecls.cli.shell import Shell

if TYPE_CHECKING:
    from genrecls.compare import Comparison, F1Difference
    from genrecls.groups import GroupComparison
    from genrecls.isolation import Isolation, Overlap


class _Groups(click.Command):
    """A command whose --against takes all the words up to the next option, as no option of Click does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As `--against A B` were `--against A --against B`."""
        words: list[str] = []
        after = False
        for word in args:
            option = word.startswith("-")
            if after and not option and words[-1] != "--against":
                words.append("--against")
            words.append(word)
            if option:
                after = word == "--against"
        return super().parse_args(ctx, words)


@click.command(cls=_Groups)
@click.argument("run_a", nargs=-1, required=True, metavar="RUN_A RUN_B | RUN_A...")
@click.option("--against", "run_b", multiple=True, metavar="RUN_B...", help="The other group of runs.")
@click.option("--paired", is_flag=True, help="Pair the runs of two groups by seed; both must have the same seeds.")
@options.runs
@options.manners
@click.pass_obj
def command(shell: Shell, run_a: tuple[str, ...], run_b: tuple[str, ...], paired: bool, runs: Path) -> None:
    """Say what two runs, or two groups of runs, share, and whether one is better by more than chance.

    RUN_A and RUN_B are run directories, or ids or their beginnings below RUNS. What they share is read from their
    records: the hash of every draw of every epoch, the initial weights tensor by tensor, the split clip by clip, the
    arrays that they were trained on. What differs is named with the setting that accounts for it; the comparison is
    contaminated where none does. Where both are scored on the same test clips (genrecls evaluate), the difference of
    their accuracies has a 95 % bootstrap interval over clips and the p-value of McNemar's exact test: these speak of
    the two sets of weights.

    With --against, two groups of at least three runs are compared, each of runs that differ by their seeds alone and
    are scored on the same test clips. The interval and the p-value are over seeds and clips (an analysis of variance
    of both), and speak of the settings. --paired takes the difference within each seed, which finds more where the
    figures of one seed rise and fall together and less where they do not: choose it before you look.

    \b
    Example:
      genrecls compare 3f9c 77ab
      genrecls compare 3f9c 51d0 a7e2 --against 77ab 0c1f 9be4
    """
    from genrecls.provenance import use

    if not run_b and len(run_a) != 2:
        raise click.UsageError("Give two runs, or two groups of runs with --against between them.")
    given = ([run_a[0]], [run_a[1]]) if not run_b else (run_a, run_b)
    first, second = ([use(each, runs, shell.say) for each in group] for group in given)
    from genrecls.compare import compare
    from genrecls.groups import compare_groups

    if len(first) > 1 or len(second) > 1:
        groups = compare_groups(first, second, paired)
        shell.result(groups.values(), "\n".join(_groups_text(groups)))
        return
    if paired:
        raise click.UsageError("--paired is for groups of runs: give several runs on both sides of --against.")
    made = compare(first[0], second[0])
    shell.result(made.values(), "\n".join(_text(made)))


def _groups_text(made: "GroupComparison") -> Iterator[str]:
    from genrecls.compare import shown

    for name, group in (("A", made.a), ("B", made.b)):
        yield from (f"{name if i == 0 else ' '}  {each.run.path}" for i, each in enumerate(group))
    yield ""
    yield from _values("setting", made.settings) if made.settings else ["Their settings but for seeds are the same."]
    yield ""
    if made.environment:
        yield from _values("environment", made.environment)
        yield ""
    seeds, streams = made.common_seeds, len(made.shared_streams)
    yield from aligned(
        [
            ("comparison", "contaminated" if made.contamination else "uncontaminated"),
            ("seeds of both", ", ".join(map(str, seeds)) if seeds else "none"),
            *(
                (("draws", f"{streams} of {len(made.across[0].streams)} streams equal for these seeds"),)
                if seeds
                else ()
            ),
        ]
    )
    if made.contamination:
        yield ""
        yield "Contaminated by what moved without a differing setting that accounts for it:"
        yield from (f"  {what}" for what in made.contamination)
    each, f1 = made.difference, made.f1_difference
    yield ""
    yield from aligned(
        [
            ("mean over seeds", "A", "B", "B - A", "95 % interval", "test over seeds and clips"),
            (
                f"accuracy of {each.clips} test clips",
                f"{each.accuracy_a:.3f} +- {each.deviation_a:.3f}",
                f"{each.accuracy_b:.3f} +- {each.deviation_b:.3f}",
                f"{each.accuracy:+.3f}",
                f"{each.low:+.3f} to {each.high:+.3f}",
                f"{shown(each.p_value)} ({each.degrees:.1f} degrees of freedom)",
            ),
            _f1_row(f1),
        ]
    )
    chance = each.permutation
    yield (
        f"Permuting whole runs {'within pairs' if made.paired else 'between groups'}, on these clips: "
        f"{shown(chance.p_value)}, of {chance.arrangements} arrangements; it cannot fall below {chance.smallest:.2g}."
    )
    yield ""
    yield made.conclusion


def _f1_row(f1: "F1Difference") -> tuple[str, ...]:
    figures = (f"{f1.f1_macro_a:.3f}", f"{f1.f1_macro_b:.3f}", f"{f1.f1_macro:+.3f}")
    return ("macro F1", *figures, f"{f1.low:+.3f} to {f1.high:+.3f}", "")


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
    yield from aligned(list(_shared(made)))
    if 0 < len(found.shared_streams) < len(found.streams) or found.contamination:
        yield ""
        rows = [
            (name, str(each.equal_epochs), "-" if each.first_difference is None else str(each.first_difference))
            for name, each in found.streams.items()
        ]
        yield from aligned([("draws of", f"epochs equal of {found.epochs}", "first that differs (from 0)"), *rows])
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
            yield from aligned([(f"  {each.what}", f"by {', '.join(each.by)}" if each.by else "") for each in moved])
    if made.difference is not None and made.f1_difference is not None:
        from genrecls.compare import shown

        each = made.difference
        yield ""
        yield from aligned(
            [
                ("", "A", "B", "B - A", "95 % interval", "McNemar's test"),
                (
                    f"accuracy of {each.clips} test clips",
                    *(f"{figure:.3f}" for figure in (each.accuracy_a, each.accuracy_b)),
                    f"{each.accuracy:+.3f}",
                    f"{each.low:+.3f} to {each.high:+.3f}",
                    shown(each.p_value),
                ),
                _f1_row(made.f1_difference),
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


def _values(name: str, differences: dict[str, dict[str, Any]]) -> list[str]:
    rows = [
        (each, *("-" if value is None else str(value) or '""' for value in values.values()))
        for each, values in differences.items()
    ]
    return aligned([(name, "A", "B"), *rows])
